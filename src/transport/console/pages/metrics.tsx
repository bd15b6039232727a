/** @jsxImportSource #console */
/** The last hour of all members, drawn from what each of them keeps of itself. */
import type { ClusterView } from "../../../service/cluster-status";
import { Series, type SeriesName, seriesPoints, seriesStepMs } from "../../../service/series";
import { Section } from "../components/boxes";
import { Live } from "../components/live";
import { type Line, Plot, type PlotInput, PlotTable, secondsPerPoint } from "../components/plot";
import { Commands } from "../components/values";
import type { Html } from "../html";
import type { Page } from "../page";
import { bytesOf, type Measured, millisecondsOf } from "../text";
import { nameOf } from "../words";

/** Points of a plot: three of the series each, so that a line has about as many as a window has room for. */
const stepsPerPoint = (secondsPerPoint * 1_000) / seriesStepMs;
const colours = 7;
/** Minutes that plots cover; a cluster that is younger is not drawn at the edge of an empty hour. */
const spans = [10, 30, 60];

interface Drawn {
  readonly name: SeriesName;
  readonly title: string;
  readonly about: string;
  readonly format: (value: number) => Measured;
  readonly base?: 1024;
}

function perSecond(value: number): Measured {
  if (value >= 999_500) return { value: (value / 1e6).toPrecision(3), unit: "M/s" };
  if (value >= 9_995) return { value: String(Math.round(value / 1_000)), unit: "k/s" };
  if (value >= 1_000) return { value: (value / 1_000).toFixed(1), unit: "k/s" };
  return {
    value: value >= 10 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1),
    unit: "/s",
  };
}

const plots: readonly Drawn[] = [
  {
    name: "requestsPerSecond",
    title: "Requests",
    about: "Unary calls answered per second.",
    format: perSecond,
  },
  {
    name: "requestP99Ms",
    title: "Latency, p99",
    about: "99 of 100 unary calls were faster.",
    format: millisecondsOf,
  },
  {
    name: "fsyncP99Ms",
    title: "fsync, p99",
    about: "99 of 100 syncs of the log were faster.",
    format: millisecondsOf,
  },
  {
    name: "applyP99Ms",
    title: "Apply, p99",
    about: "99 of 100 entries were applied faster.",
    format: millisecondsOf,
  },
  { name: "commitsPerSecond", title: "Raft", about: "Entries committed per second.", format: perSecond },
  { name: "roundTripMs", title: "Round trip", about: "To the furthest member.", format: millisecondsOf },
  {
    name: "watchEventsPerSecond",
    title: "Watch",
    about: "Events sent to watchers per second.",
    format: perSecond,
  },
  { name: "databaseBytes", title: "Database", about: "Size of the file.", format: bytesOf, base: 1024 },
  { name: "memoryBytes", title: "Memory", about: "Resident memory.", format: bytesOf, base: 1024 },
];

/** How much of the last hour there is something to show of. */
function minutesOf(all: Iterable<Series>, complete: number): number {
  let first = complete;
  for (const series of all) {
    const terms = series.column("term", complete - seriesPoints, complete - 1);
    const at = terms.findIndex((term) => term !== null);
    if (at !== -1) first = Math.min(first, complete - seriesPoints + at);
  }
  const minutes = ((complete - first) * seriesStepMs) / 60_000;
  return spans.find((span) => span >= minutes) ?? 60;
}

/** Several steps as one point: the largest, since what hurts must not be smoothed away. */
function condensed(values: readonly (number | null)[]): (number | null)[] {
  const points: (number | null)[] = [];
  for (let at = 0; at < values.length; at += stepsPerPoint) {
    const known = values.slice(at, at + stepsPerPoint).filter((value) => value !== null);
    points.push(known.length === 0 ? null : Math.max(...known));
  }
  return points;
}

/** Where terms begin, by the highest that any member knew at each point. */
function electionsOf(all: Iterable<Series>, from: number, to: number): number[] {
  let terms: number[] = [];
  for (const series of all) {
    const own = condensed(series.column("term", from, to)).map((term) => term ?? 0);
    terms = own.map((term, at) => Math.max(term, terms[at] ?? 0));
  }
  return terms.flatMap((term, at) => {
    const before = terms[at - 1] ?? 0;
    return before > 0 && term > before ? [at] : [];
  });
}

function inputOf(
  { name, title, about, format, base }: Drawn,
  view: ClusterView,
  all: ReadonlyMap<string, Series>,
  from: number,
  to: number,
  elections: readonly number[],
): PlotInput {
  const lines = view.members.flatMap((member, at): Line[] => {
    const series = all.get(member.id);
    return series === undefined
      ? []
      : [
          {
            name: nameOf(member),
            colour: (at % colours) + 1,
            values: condensed(series.column(name, from, to)),
          },
        ];
  });
  return {
    id: name,
    title,
    about,
    lines,
    format,
    elections,
    ...(base === undefined ? {} : { base }),
    timeOf: (point) =>
      `${new Date((from + (point + 1) * stepsPerPoint) * seriesStepMs).toISOString().slice(11, 16)} UTC`,
  };
}

export const metrics: Page = {
  path: "/metrics",
  section: "metrics",
  live: true,
  async render({ services, origin, nowMs }) {
    const view = services.status.view();
    const all = await services.status.series();
    // Points are whole, so the drawing changes only when one is complete.
    const complete = Math.floor(nowMs / seriesStepMs / stepsPerPoint) * stepsPerPoint;
    const minutes = minutesOf(all.values(), complete);
    const from = complete - (minutes * 60_000) / seriesStepMs;
    const to = complete - 1;
    const elections = electionsOf(all.values(), from, to);
    const inputs = plots.map((plot) => inputOf(plot, view, all, from, to, elections));
    return {
      title: "Metrics",
      body: (
        <>
          <p class="muted plots-lead">
            {minutes === 60 ? "The last hour" : `The last ${minutes} minutes`}
            {" of every member that answers, every 15 s, the highest of three measurements."}
            {elections.length > 0 && " Ticks on the base line are elections."}
          </p>
          <div class="plots">
            {inputs.map((input) => (
              <Live id={`plot-${input.id}`} as="div" still>
                <Plot {...input} />
                <p class="times" aria-hidden="true">
                  <span>{input.timeOf(0)}</span>
                  <span>{`${minutes / 2} min ago`}</span>
                  <span>now</span>
                </p>
              </Live>
            ))}
          </div>
          <Tables inputs={inputs} />
          <Section
            title="For Prometheus"
            lead="All series, of which these are a few, stand at /metrics of each member under etcd's names and Keelson's own."
          >
            <Commands title="" of={[{ tool: "curl", text: `curl ${origin}/metrics` }]} />
          </Section>
        </>
      ),
    };
  },
};

function Tables({ inputs }: { readonly inputs: readonly PlotInput[] }): Html {
  return (
    <Section title="As tables">
      <div class="stack-tight">
        {inputs.map((input) => (
          <PlotTable {...input} />
        ))}
      </div>
    </Section>
  );
}
