/** @jsxImportSource #console */
/** The first page: how the cluster is, and why. */
import type { ClusterView, MemberView } from "../../../service/cluster-status";
import type { Posture } from "../../../service/member-status";
import { Empty, NoticeBox, Section } from "../components/boxes";
import { LinkButton } from "../components/button";
import { Drawing } from "../components/drawing";
import { Icon } from "../components/icon";
import { Live } from "../components/live";
import { State, Tag, verdictTone } from "../components/state";
import { type Column, Table } from "../components/table";
import { Amount, Commands, Fact, Facts, Meter, Mono, Time } from "../components/values";
import type { Child, Html } from "../html";
import type { Page, PageRequest } from "../page";
import { bytesOf, countOf, millisecondsOf, plural, spanOf, written } from "../text";
import { isFresh, joinCommand, lagOf, nameOf, nameOfId, plainText, roleOf } from "../words";
import { MemberStateWords } from "./members";

/** A clock that is further off than this makes times in logs and leases hard to compare. */
const skewWarningMs = 500;
const quotaWarningShare = 0.8;

export const overview: Page = {
  path: "/",
  section: "overview",
  live: true,
  render(request) {
    const view = request.services.status.view();
    const self = view.members.find(({ id }) => id === view.self);
    return {
      title: "Overview",
      actions: (
        <LinkButton
          href="/ui/members/add"
          icon="plus"
          kind={view.members.length === 1 ? "primary" : "secondary"}
        >
          Add member
        </LinkButton>
      ),
      body: (
        <>
          <div class="hero">
            <Live id="verdict" as="div" still class="hero-verdict">
              <VerdictWords view={view} nowMs={request.nowMs} />
            </Live>
            <Live id="drawing" as="div" class="hero-drawing" still>
              <Drawing view={view} />
            </Live>
          </div>
          <Live id="alarms" as="div">
            <Alarms view={view} origin={self?.clientUrls[0] ?? request.origin} />
          </Live>
          {view.members.length === 1 && <AddTwo view={view} request={request} />}
          <MembersTable view={view} />
          <div class="halves">
            <Data view={view} nowMs={request.nowMs} />
            <ClusterFacts view={view} nowMs={request.nowMs} />
          </div>
          <Events view={view} nowMs={request.nowMs} />
        </>
      ),
    };
  },
};

function VerdictWords({ view, nowMs }: { readonly view: ClusterView; readonly nowMs: number }): Html {
  const { verdict, leader, term } = view;
  const tone = verdictTone(verdict.kind);
  const sinceMs = view.members.find(({ id }) => id === leader)?.status?.leaderSinceMs;
  return (
    <>
      <p class={`verdict verdict-word ${tone}`}>{verdict.word}</p>
      <p class="verdict-sentence">{plainText(verdict.sentence)}</p>
      {verdict.reasons.length > 0 && (
        <ul class="reasons">
          {verdict.reasons.map((reason) => (
            <li>{plainText(reason)}</li>
          ))}
        </ul>
      )}
      <p class="muted">
        {leader === undefined ? (
          `No leader is known in term ${term}.`
        ) : (
          <>
            {nameOfId(view, leader)} leads in term {term}
            {sinceMs !== undefined && (
              <>
                {", for "}
                <Time atMs={sinceMs} nowMs={nowMs} since />
              </>
            )}
            .
          </>
        )}
      </p>
    </>
  );
}

function Alarms({ view, origin }: { readonly view: ClusterView; readonly origin: string }): Html {
  return (
    <>
      {view.alarms.map(({ type, member }) =>
        type === "nospace" ? (
          <NoticeBox
            tone="bad"
            title={`Alarm NOSPACE: the database of ${nameOfId(view, member)} has no room`}
          >
            <p>
              Puts are refused, reads and deletes go on. Delete keys or compact, give the space back, then
              disarm.
            </p>
            <Commands
              title="The cure, step by step"
              of={[
                {
                  tool: "etcdctl",
                  text: `etcdctl --endpoints ${origin} compact ${view.revision} && etcdctl --endpoints ${origin} defrag --cluster && etcdctl --endpoints ${origin} alarm disarm`,
                },
                { tool: "curl", text: `curl -X DELETE ${origin}/api/v1/alarms/nospace` },
              ]}
            />
          </NoticeBox>
        ) : (
          <NoticeBox tone="bad" title={`Alarm CORRUPT: ${nameOfId(view, member)} differs from the others`}>
            <p>
              Every write is refused. Compare the members&#39; hashes, remove the one that differs, add it
              anew with empty data, then disarm.
            </p>
            <Commands
              title="The cure, step by step"
              of={[
                { tool: "etcdctl", text: `etcdctl --endpoints ${origin} endpoint hashkv --cluster` },
                { tool: "etcdctl", text: `etcdctl --endpoints ${origin} member remove ${member}` },
                { tool: "etcdctl", text: `etcdctl --endpoints ${origin} alarm disarm` },
              ]}
            />
          </NoticeBox>
        ),
      )}
    </>
  );
}

function AddTwo({ view, request }: { readonly view: ClusterView; readonly request: PageRequest }): Html {
  return (
    <Section
      title="Add two members"
      lead="With three members the cluster can lose any one of them. Run this on two further machines, with their own addresses; each joins without a vote, catches up, and gets its vote by itself."
    >
      <Commands
        title=""
        of={["n2", "n3"].map((name) => ({ tool: name, text: joinCommand(view, name, request.origin) }))}
      />
    </Section>
  );
}

/** A figure of a member that moves. */
function cell(member: MemberView, name: string, content: Child, still = false): Html {
  return (
    <Live id={`m-${member.id}-${name}`} still={still}>
      {isFresh(member) || name === "state" ? content : <span class="old">{content}</span>}
    </Live>
  );
}

function MembersTable({ view }: { readonly view: ClusterView }): Html {
  const columns: readonly Column<MemberView>[] = [
    {
      head: "Member",
      names: true,
      cell: (member) => (
        <a href={`/ui/members/${member.id}`} data-place={nameOf(member)} data-note="Member">
          {nameOf(member)}
        </a>
      ),
    },
    {
      head: "State",
      priority: 1,
      cell: (member) => cell(member, "state", <MemberStateWords member={member} />),
    },
    {
      head: "Role",
      bare: true,
      cell: (member) => cell(member, "role", <Tag>{roleOf(member, view)}</Tag>),
    },
    { head: "Behind", numeric: true, cell: (member) => cell(member, "lag", lagOf(member)) },
    {
      head: "fsync p99",
      numeric: true,
      cell: (member) => cell(member, "fsync", <Milliseconds of={member.status?.fsyncP99Ms} />),
    },
    {
      head: "Longest stall",
      numeric: true,
      priority: 3,
      cell: (member) => cell(member, "stall", <Milliseconds of={member.status?.longestStallMs} />),
    },
    {
      head: "Memory",
      numeric: true,
      cell: (member) => cell(member, "memory", <Bytes of={member.status?.memoryBytes} />, true),
    },
    {
      head: "Disk free",
      numeric: true,
      priority: 3,
      cell: (member) => cell(member, "disk", <Bytes of={member.status?.diskFreeBytes} />, true),
    },
    {
      head: "Watchers",
      numeric: true,
      priority: 3,
      cell: (member) =>
        cell(member, "watchers", member.status === undefined ? unknown : countOf(member.status.watchers)),
    },
    {
      head: "Clock",
      numeric: true,
      priority: 3,
      cell: (member) => cell(member, "clock", <Skew of={member.skewMs} />, true),
    },
    {
      head: "Up",
      numeric: true,
      priority: 3,
      cell: (member) =>
        cell(
          member,
          "up",
          member.status === undefined ? unknown : <Amount of={spanOf(member.status.uptimeMs)} />,
        ),
    },
  ];
  return (
    <Section title="Members">
      <Table
        caption="Members"
        class="members"
        columns={columns}
        rows={view.members}
        rowHref={({ id }) => `/ui/members/${id}`}
      />
    </Section>
  );
}

const unknown = <span class="unknown">–</span>;

function Milliseconds({ of }: { readonly of: number | undefined }): Html {
  return of === undefined ? unknown : <Amount of={millisecondsOf(of)} />;
}

function Bytes({ of }: { readonly of: number | undefined }): Html {
  return of === undefined ? unknown : <Amount of={bytesOf(of)} />;
}

function Skew({ of }: { readonly of: number | undefined }): Html {
  if (of === undefined) return unknown;
  if (Math.abs(of) < 10) return <span class="muted">in step</span>;
  const text = `${of > 0 ? "+" : "−"}${written(millisecondsOf(Math.abs(of)))}`;
  return Math.abs(of) >= skewWarningMs ? <State tone="warn">{text}</State> : <span>{text}</span>;
}

function Data({ view, nowMs }: { readonly view: ClusterView; readonly nowMs: number }): Html {
  const status = view.members.find(({ id }) => id === view.self)?.status;
  if (status === undefined) return <Empty title="This member has not measured itself yet." />;
  const { quotaBytes, databaseBytes, growthBytesPerDay } = status;
  const share = quotaBytes === undefined ? undefined : databaseBytes / quotaBytes;
  const daysLeft =
    quotaBytes === undefined || growthBytesPerDay === undefined
      ? undefined
      : (quotaBytes - databaseBytes) / growthBytesPerDay;
  const snapshots = view.members.flatMap((member) =>
    member.status?.lastSnapshot === undefined ? [] : [{ ...member.status.lastSnapshot, member }],
  );
  const last = snapshots.sort((a, b) => b.takenAtMs - a.takenAtMs)[0];
  return (
    <Section title="Data">
      <Facts class="list">
        <Fact label="Revision">
          <Live id="revision">{countOf(view.revision)}</Live>
        </Fact>
        <Fact label="Compacted revision">
          <Live id="compacted">
            {status.compactedRevision < 0 ? (
              <span class="muted">never compacted</span>
            ) : (
              countOf(status.compactedRevision)
            )}
          </Live>
        </Fact>
        <Fact label="Keys">
          <Live id="keys">{countOf(status.keys)}</Live>
        </Fact>
        <Fact label="In use, of the file">
          <Live id="size">
            <Amount of={bytesOf(status.databaseBytesInUse)} /> <span class="muted">of</span>{" "}
            <Amount of={bytesOf(databaseBytes)} />
          </Live>
        </Fact>
        <Fact label="Quota">
          <Live id="quota" as="div">
            {share === undefined || quotaBytes === undefined ? (
              <span class="muted">none</span>
            ) : (
              <>
                {`${share < 0.01 ? "< 1" : Math.floor(share * 100)} %`} <span class="muted">of</span>{" "}
                <Amount of={bytesOf(quotaBytes)} />
                <Meter
                  share={share}
                  label={`${Math.floor(share * 100)} % of the quota used`}
                  {...(share >= 1
                    ? { tone: "bad" as const }
                    : share >= quotaWarningShare
                      ? { tone: "warn" as const }
                      : {})}
                />
              </>
            )}
          </Live>
        </Fact>
        <Fact label="Full in">
          <Live id="days">
            {daysLeft === undefined ? (
              <span class="muted">not growing</span>
            ) : daysLeft > 999 ? (
              <span class="muted">more than 999 d</span>
            ) : (
              <>
                {daysLeft < 1 ? `${Math.max(1, Math.floor(daysLeft * 24))}` : Math.floor(daysLeft)}
                <span class="unit">{daysLeft < 1 ? " h" : " d"}</span>{" "}
                <span class="muted">at the last hour&#39;s pace</span>
              </>
            )}
          </Live>
        </Fact>
        <Fact label="Last snapshot">
          <Live id="snapshot" still>
            {last === undefined ? (
              <>
                <span class="muted">none kept, </span>
                <a href="/ui/snapshots">take one</a>
              </>
            ) : (
              <>
                <a href="/ui/snapshots">{`revision ${countOf(last.revision)}`}</a>
                {`, on ${nameOf(last.member)}, `}
                <Time atMs={last.takenAtMs} nowMs={nowMs} />
              </>
            )}
          </Live>
        </Fact>
      </Facts>
    </Section>
  );
}

/** Values that members should share: the one, or who differs. */
function shared(
  view: ClusterView,
  of: (member: MemberView) => string | undefined,
  same: (value: string) => string,
): Child {
  const groups = new Map<string, string[]>();
  for (const member of view.members) {
    const value = of(member);
    if (value !== undefined) groups.set(value, [...(groups.get(value) ?? []), nameOf(member)]);
  }
  if (groups.size === 0) return <span class="unknown">not known</span>;
  const [[first]] = groups as unknown as [[string, string[]]];
  if (groups.size === 1) return same(first);
  return (
    <State tone="warn">
      {Array.from(groups, ([value, names]) => `${names.join(", ")}: ${value}`).join("; ")}
    </State>
  );
}

function ClusterFacts({ view }: { readonly view: ClusterView; readonly nowMs: number }): Html {
  const self = view.members.find(({ id }) => id === view.self);
  const voters = view.members.filter(({ learner }) => !learner).length;
  const learners = view.members.length - voters;
  return (
    <Section title="Cluster">
      <Facts class="list">
        <Fact label="Cluster id">
          <Mono text={view.clusterId} copy />
        </Fact>
        <Fact label="Members">
          <Live id="counts">
            {plural(voters, "voter")}
            {learners > 0 && `, ${plural(learners, "learner")}`}
            <span class="muted">{`, ${Math.floor(voters / 2) + 1} needed to write`}</span>
          </Live>
        </Fact>
        <Fact label="Version">
          <Live id="versions">
            {shared(
              view,
              ({ status }) => status?.version,
              (version) => (view.members.length === 1 ? version : `${version} on all`),
            )}
          </Live>
        </Fact>
        <Fact label="Settings">
          <Live id="settings">
            {shared(
              view,
              ({ status }) => status?.settingsHash,
              () => (view.members.length === 1 ? "in force" : "the same on all"),
            )}{" "}
            <a href={`/ui/members/${view.self}#settings`}>show</a>
          </Live>
        </Fact>
        <Fact label="Leader changes">
          <Live id="changes">
            {countOf(self?.status?.leaderChanges ?? 0)}
            <span class="muted">{" seen since this member's start"}</span>
          </Live>
        </Fact>
        <Fact label="Access">
          {self?.status === undefined ? unknown : <PostureWords of={self.status.posture} />}
        </Fact>
      </Facts>
    </Section>
  );
}

function PostureWords({ of }: { readonly of: Posture }): Html {
  const open = !of.loopbackOnly && !of.clientTls;
  return (
    <ul class="posture">
      <li>
        {open ? (
          <State tone="warn">Clients reach it unencrypted</State>
        ) : of.clientTls ? (
          "Clients use TLS"
        ) : (
          "Clients on this machine only"
        )}
      </li>
      <li>{of.adminToken ? "Console asks for the admin token" : "Console answers this machine only"}</li>
      <li class="muted">Users and roles are off: clients may do everything</li>
    </ul>
  );
}

function Events({ view, nowMs }: { readonly view: ClusterView; readonly nowMs: number }): Html {
  return (
    <Section title="Events">
      <Live id="events" as="div" still>
        {view.events.length === 0 ? (
          <p class="muted">Nothing has happened since the members started.</p>
        ) : (
          <ol class="events" data-wait>
            {view.events.map(({ atMs, tone, text }) => (
              <li>
                <Time atMs={atMs} nowMs={nowMs} coarse />
                {tone === "muted" ? (
                  <span class="state plain">
                    <Icon name="circle" />
                    {plainText(text)}
                  </span>
                ) : (
                  <State tone={tone}>{plainText(text)}</State>
                )}
              </li>
            ))}
          </ol>
        )}
      </Live>
    </Section>
  );
}
