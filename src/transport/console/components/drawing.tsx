/** @jsxImportSource #console */
/**
 * The cluster as a drawing: the leader, links with their round trips, and each member at its distance from the line up
 * to which everything is committed.
 */
import type { ClusterView, MemberView } from "../../../service/cluster-status";
import { lagWarningMs } from "../../../service/verdict";
import type { Html } from "../html";
import { countOf, millisecondsOf, plural, shortened, spanOf, written } from "../text";
import { isFresh, nameOf } from "../words";

const laneHeight = 52;
const top = 40;
/** Entries at which the whole length is used up; a logarithm below. */
const lagEntriesMax = 1_000_000;

interface Frame {
  readonly width: number;
  readonly hubX: number;
  /** Where lanes begin to be level. */
  readonly bendX: number;
  /** The line of what is committed. */
  readonly lineX: number;
  /** Lengths that lag may take. */
  readonly lagMax: number;
  readonly nameMax: number;
  /** The leader's name has less room: links pass beside it. */
  readonly hubNameMax: number;
}

const frames: Readonly<Record<"wide" | "narrow", Frame>> = {
  wide: { width: 640, hubX: 40, bendX: 136, lineX: 520, lagMax: 250, nameMax: 22, hubNameMax: 15 },
  narrow: { width: 358, hubX: 24, bendX: 76, lineX: 268, lagMax: 120, nameMax: 14, hubNameMax: 9 },
};

/** Both forms; the style sheet shows the one that fits. */
export function Drawing({ view }: { readonly view: ClusterView }): Html {
  return (
    <>
      <Form view={view} frame={frames.wide} class="drawing wide-only" />
      <Form view={view} frame={frames.narrow} class="drawing narrow-only" />
    </>
  );
}

function Form({
  view,
  frame,
  class: classes,
}: {
  readonly view: ClusterView;
  readonly frame: Frame;
  readonly class: string;
}): Html {
  const leader = view.members.find((member) => member.id === view.leader);
  const hub = leader ?? view.members.find((member) => member.id === view.self);
  const others = view.members.filter((member) => member.id !== hub?.id);
  const ghosts = view.members.length === 1 ? ["a second member", "a third member"] : [];
  const lanes = Math.max(1, others.length + ghosts.length);
  const height = top + lanes * laneHeight + 20;
  const hubY = top + (lanes * laneHeight) / 2 - 6;
  const { width, hubX, lineX } = frame;
  const commit = Math.max(0, ...view.members.map(({ status }) => status?.commit ?? 0));
  return (
    <svg class={classes} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={described(view, hub)}>
      <line class="commit-line" x1={lineX} x2={lineX} y1={24} y2={height - 24} />
      <text class="label" x={lineX} y={14} text-anchor="middle">
        {`entry ${countOf(commit)} committed`}
      </text>
      {others.map((member, lane) => (
        <Lane
          frame={frame}
          hub={hub}
          hubY={hubY}
          member={member}
          y={laneY(lane)}
          led={leader !== undefined}
        />
      ))}
      {ghosts.map((text, lane) => (
        <g class="ghost">
          <path d={linkPath(frame, hubY, laneY(lane), lineX)} />
          <circle cx={lineX} cy={laneY(lane)} r="6" />
          <text class="label" x={frame.bendX + 20} y={laneY(lane) - 8}>
            {text}
          </text>
        </g>
      ))}
      {hub !== undefined && <Hub hub={hub} led={leader !== undefined} frame={frame} x={hubX} y={hubY} />}
    </svg>
  );
}

function laneY(lane: number): number {
  return top + lane * laneHeight + laneHeight / 2 - 6;
}

function linkPath({ hubX, bendX }: Frame, hubY: number, y: number, toX: number): string {
  const middle = (hubX + bendX) / 2 + 8;
  return `M${hubX} ${hubY}C${middle} ${hubY} ${middle} ${y} ${bendX} ${y}H${toX}`;
}

function Hub({
  hub,
  led,
  frame,
  x,
  y,
}: {
  readonly hub: MemberView;
  readonly led: boolean;
  readonly frame: Frame;
  readonly x: number;
  readonly y: number;
}): Html {
  return (
    <g class={led ? "hub" : "hub leaderless"}>
      <circle cx={x} cy={y} r="11" />
      {led && <path class="crown" d={`M${x - 5} ${y + 3.5}v-6l2.6 2.4 2.4-4 2.4 4 2.6-2.4v6z`} />}
      <text class="name" x={x - 12} y={y + 30}>
        {shortened(nameOf(hub), frame.hubNameMax)}
      </text>
      <text class="label" x={x - 12} y={y + 46}>
        {led ? "leads" : "no leader"}
      </text>
    </g>
  );
}

function Lane({
  frame,
  hub,
  hubY,
  member,
  y,
  led,
}: {
  readonly frame: Frame;
  readonly hub: MemberView | undefined;
  readonly hubY: number;
  readonly member: MemberView;
  readonly y: number;
  readonly led: boolean;
}): Html {
  const { lineX, bendX } = frame;
  const answers = isFresh(member);
  const gap = gapOf(member, frame);
  const nodeX = lineX - gap;
  const late = (member.lagMs ?? 0) >= lagWarningMs;
  // One that was never started fails nobody.
  const expected = !answers && member.name === "";
  const silent = !answers && !expected && member.silentMs !== undefined;
  const classes = [
    "lane",
    expected ? "ghost" : silent ? "silent" : "",
    late ? "late" : "",
    member.learner ? "learner" : "",
    led ? "" : "unled",
  ]
    .filter((one) => one !== "")
    .join(" ");
  const name = shortened(nameOf(member), frame.nameMax);
  const trip = tripOf(hub, member);
  const more = [
    member.learner ? "learner" : undefined,
    trip === undefined ? undefined : written(millisecondsOf(trip)),
  ];
  return (
    <g class={classes}>
      <path class="link" d={linkPath(frame, hubY, y, nodeX - 6)} />
      {gap > 0 && <line class="gap" x1={nodeX + 6} x2={lineX} y1={y} y2={y} />}
      {silent ? (
        <path class="cross" d={`M${nodeX - 5} ${y - 5}l10 10m0-10l-10 10`} />
      ) : (
        <circle class="node" cx={nodeX} cy={y} r="6" />
      )}
      <text class="name" x={bendX + 20} y={y - 8}>
        {name}
        <tspan class="label" dx="8">
          {more.filter((one) => one !== undefined).join(" · ")}
        </tspan>
      </text>
      <text class={late || silent ? "lag strong" : "lag"} x={lineX + 14} y={y + 4}>
        {lagText(member, answers)}
      </text>
    </g>
  );
}

function gapOf({ lagEntries = 0, lagMs = 0 }: MemberView, { lagMax }: Frame): number {
  // A member that applies as fast as entries come is in step, whatever is on its way.
  if (lagEntries === 0 || (lagMs < 1_000 && lagEntries < 1_000)) return 0;
  return 16 + (lagMax - 16) * Math.min(1, Math.log10(1 + lagEntries) / Math.log10(lagEntriesMax));
}

function lagText(
  { status, silentMs, lagEntries = 0, lagMs = 0, name }: MemberView,
  answers: boolean,
): string {
  if (!answers) {
    if (silentMs === undefined) return "asking";
    return name === "" ? "not started" : `silent ${written(spanOf(silentMs))}`;
  }
  const snapshot = status?.receiving;
  if (snapshot !== undefined) {
    return `snapshot ${Math.round((100 * snapshot.doneBytes) / Math.max(1, snapshot.totalBytes))} %`;
  }
  if (lagEntries === 0 || (lagMs < 1_000 && lagEntries < 1_000)) return "in step";
  return lagMs < 1_000 ? `${countOf(lagEntries)} behind` : `${written(spanOf(lagMs))} behind`;
}

function tripOf(hub: MemberView | undefined, member: MemberView): number | undefined {
  if (hub === undefined || !isFresh(member)) return undefined;
  const trip = isFresh(hub) ? hub.status?.roundTripsMs[member.id] : undefined;
  return trip ?? member.status?.roundTripsMs[hub.id];
}

/** The drawing in words. */
function described(view: ClusterView, hub: MemberView | undefined): string {
  const head =
    view.leader === undefined
      ? "There is no leader."
      : `${hub === undefined ? "A member" : nameOf(hub)} leads.`;
  const rest = view.members
    .filter((member) => member !== hub)
    .map((member) => `${nameOf(member)}: ${lagText(member, isFresh(member))}.`);
  return [`${plural(view.members.length, "member")}. ${head}`, ...rest].join(" ");
}
