/** @jsxImportSource #console */
/** One member: what it does, how it follows, what it was started with. */
import type { ClusterView, MemberView } from "../../../service/cluster-status";
import type { Setting } from "../../../service/member-status";
import { Problem } from "../../rest/problem";
import { Empty, NoticeBox, Section } from "../components/boxes";
import { LinkButton } from "../components/button";
import { Live } from "../components/live";
import { State, Tag } from "../components/state";
import { type Column, Table } from "../components/table";
import { Amount, Commands, Fact, Facts, Mono, shellQuoted, Time } from "../components/values";
import type { Child, Html } from "../html";
import type { ConsoleServices, Page } from "../page";
import { bytesOf, countOf, millisecondsOf, plural, spanOf, written } from "../text";
import { isFresh, lagOf, nameOf, plainText, roleOf } from "../words";
import { Feed, followerOf, MemberStateWords, tripTo } from "./members";

/** The member that an address names. Throws a Problem. */
export function memberOf(view: ClusterView, id: string | undefined): MemberView {
  const member = view.members.find((one) => one.id === id);
  if (member === undefined) {
    throw new Problem("member-not-found", `There is no member ${id ?? ""} in this cluster (any more).`, {
      fix: "Choose one from the members.",
    });
  }
  return member;
}

export const member: Page = {
  path: "/members/:id",
  section: "members",
  live: true,
  async render(request) {
    const { services, nowMs } = request;
    const view = services.status.view();
    const shown = memberOf(view, request.path["id"]);
    return {
      title: nameOf(shown),
      trail: [{ text: "Members", href: "/ui/members" }],
      actions: <Actions member={shown} view={view} />,
      body: (
        <>
          <Live id="head" as="div" still>
            <p class="row">
              <MemberStateWords member={shown} />
              <Tag>{roleOf(shown, view)}</Tag>
              {shown.id === view.self && <span class="muted">this page comes from it</span>}
            </p>
            {!isFresh(shown) && shown.silentMs !== undefined && <Silence member={shown} nowMs={nowMs} />}
          </Live>
          <Live id="start" as="div" still>
            {shown.name === "" && (
              <StartIt
                member={shown}
                view={view}
                name={request.query.text("name")}
                clientUrl={request.query.text("client")}
              />
            )}
          </Live>
          <div class="halves">
            <Replication member={shown} view={view} nowMs={nowMs} />
            <Machine member={shown} />
          </div>
          <Addresses member={shown} />
          <Settings member={shown} settings={await settingsOf(services, view, shown)} />
        </>
      ),
    };
  },
};

function Actions({ member: shown, view }: { readonly member: MemberView; readonly view: ClusterView }): Html {
  const path = `/ui/members/${shown.id}`;
  return (
    <>
      {shown.learner ? (
        <LinkButton href={`${path}/promote`} kind="primary">
          {`Promote ${nameOf(shown)}`}
        </LinkButton>
      ) : (
        <LinkButton
          href={`${path}/lead`}
          reason={
            shown.id === view.leader
              ? "It leads already"
              : view.leader === undefined
                ? "There is no leader that could hand over"
                : undefined
          }
        >
          {`Let ${nameOf(shown)} lead`}
        </LinkButton>
      )}
      <LinkButton
        href={`${path}/remove`}
        reason={view.members.length === 1 ? "The only member cannot be removed" : undefined}
      >
        {`Remove ${nameOf(shown)}`}
      </LinkButton>
    </>
  );
}

function Silence({ member: shown, nowMs }: { readonly member: MemberView; readonly nowMs: number }): Html {
  if (shown.name === "") return <p class="muted">It was added, and has not been started yet.</p>;
  return (
    <NoticeBox
      tone="bad"
      title={`${nameOf(shown)} has not answered since ${new Date(nowMs - (shown.silentMs ?? 0)).toISOString().slice(11, 19)} UTC`}
    >
      <p>
        What it has acknowledged is kept by the others, as long as a majority of them answers. Look whether
        its process runs and its peer URL can be reached; when it is gone for good, remove it and add another.
      </p>
    </NoticeBox>
  );
}

/** How to start a member that was added by hand. */
function StartIt({
  member: added,
  view,
  name = "NAME",
  clientUrl = "http://ADDRESS:2379",
}: {
  readonly member: MemberView;
  readonly view: ClusterView;
  readonly name?: string | undefined;
  readonly clientUrl?: string | undefined;
}): Html {
  return (
    <Section
      title="Start it now"
      lead="On the machine of its peer URL, in a folder where its data may lie. Until then it cannot catch up."
    >
      <Commands title="" of={[{ tool: "shell", text: startCommand(view, added, name, clientUrl) }]} />
    </Section>
  );
}

/** The command that starts an added member with empty data. */
function startCommand(
  view: ClusterView,
  added: Pick<MemberView, "id" | "peerUrls">,
  name: string,
  clientUrl: string,
): string {
  const cluster = [
    ...view.members
      .filter((one) => one.id !== added.id && one.name !== "")
      .flatMap((one) => one.peerUrls.map((url) => `${one.name}=${url}`)),
    ...added.peerUrls.map((url) => `${name}=${url}`),
  ].join(",");
  const peerUrls = added.peerUrls.join(",");
  return [
    `keelson --name ${shellQuoted(name)} --data-dir ${shellQuoted(`${name}.keelson`)} \\`,
    `  --initial-cluster-state existing --initial-cluster ${shellQuoted(cluster)} \\`,
    `  --listen-peer-urls ${shellQuoted(peerUrls)} --initial-advertise-peer-urls ${shellQuoted(peerUrls)} \\`,
    `  --listen-client-urls ${shellQuoted(clientUrl)} --advertise-client-urls ${shellQuoted(clientUrl)}`,
  ].join("\n");
}

const unknown = <span class="unknown">not known</span>;

/** A figure, muted when it is of a member that has fallen silent since. */
function aged(shown: MemberView, content: Child): Child {
  return isFresh(shown) ? content : <span class="old">{content}</span>;
}

function Replication({
  member: shown,
  view,
  nowMs,
}: {
  readonly member: MemberView;
  readonly view: ClusterView;
  readonly nowMs: number;
}): Html {
  const { status } = shown;
  const follower = followerOf(view, shown.id);
  const trip = tripTo(view, shown);
  const receiving = status?.receiving;
  const figure = (id: string, label: string, content: Child, still = false): Html => (
    <Fact label={label}>
      <Live id={id} still={still}>
        {aged(shown, content)}
      </Live>
    </Fact>
  );
  return (
    <Section title="Replication">
      <Facts class="list">
        {figure("term", "Term", status === undefined ? unknown : countOf(status.term))}
        {figure(
          "behind",
          "Behind",
          shown.lagEntries === undefined || !isFresh(shown) ? unknown : lagWords(shown),
        )}
        {figure(
          "feed",
          "Fed by the leader",
          shown.id === view.leader ? <span class="muted">leads itself</span> : <Feed follower={follower} />,
        )}
        {receiving !== undefined &&
          figure(
            "receiving",
            "Snapshot",
            `${receiving.stage}, ${written(bytesOf(receiving.doneBytes))} of ${written(bytesOf(receiving.totalBytes))}`,
          )}
        {figure(
          "match",
          "Known to hold up to",
          follower === undefined ? unknown : `entry ${countOf(follower.match)}`,
        )}
        {figure(
          "applied",
          "Applied up to",
          status === undefined ? unknown : `entry ${countOf(status.applied)}`,
        )}
        {figure(
          "commit",
          "Committed up to",
          status === undefined ? unknown : `entry ${countOf(status.commit)}`,
        )}
        {figure(
          "log",
          "Log",
          status === undefined ? (
            unknown
          ) : (
            <>
              {`entries ${countOf(status.firstIndex)} to ${countOf(status.lastIndex)}, `}
              <Amount of={bytesOf(status.logBytes)} />
            </>
          ),
        )}
        {figure(
          "trip",
          "Round trip",
          trip === undefined ? unknown : <Amount of={millisecondsOf(trip)} />,
          true,
        )}
        {figure(
          "leader-since",
          "Follows this leader",
          status?.leaderSinceMs === undefined ? (
            unknown
          ) : (
            <Time atMs={status.leaderSinceMs} nowMs={nowMs} since />
          ),
          true,
        )}
      </Facts>
    </Section>
  );
}

function lagWords(shown: MemberView): Child {
  if (shown.lagEntries === 0) return "0 entries";
  const text = `${lagOf(shown).replace(",", " entries,")}`;
  return (shown.lagMs ?? 0) >= 5_000 ? <State tone="warn">{text}</State> : text;
}

function Machine({ member: shown }: { readonly member: MemberView }): Html {
  const { status, skewMs } = shown;
  const figure = (id: string, label: string, content: Child, still = false): Html => (
    <Fact label={label}>
      <Live id={id} still={still}>
        {status === undefined ? unknown : aged(shown, content)}
      </Live>
    </Fact>
  );
  const milliseconds = (ms: number | undefined): Child =>
    ms === undefined ? (
      <span class="muted">nothing measured lately</span>
    ) : (
      <Amount of={millisecondsOf(ms)} />
    );
  return (
    <Section title="Machine">
      <Facts class="list">
        {figure("version", "Version", `${status?.version ?? ""}, etcd ${status?.etcdVersion ?? ""}`)}
        {figure("uptime", "Up for", <Amount of={spanOf(status?.uptimeMs ?? 0)} />, true)}
        {figure("fsync", "fsync p99", milliseconds(status?.fsyncP99Ms))}
        {figure("request", "Request p99", milliseconds(status?.requestP99Ms))}
        {figure("stall", "Longest stall", milliseconds(status?.longestStallMs))}
        {figure("memory", "Memory", <Amount of={bytesOf(status?.memoryBytes ?? 0)} />, true)}
        {figure(
          "database",
          "Database",
          <>
            <Amount of={bytesOf(status?.databaseBytesInUse ?? 0)} /> <span class="muted">of</span>{" "}
            <Amount of={bytesOf(status?.databaseBytes ?? 0)} />
          </>,
        )}
        {figure(
          "disk",
          "Disk free",
          status?.diskFreeBytes === undefined ? unknown : <Amount of={bytesOf(status.diskFreeBytes)} />,
        )}
        {figure("watchers", "Watchers", countOf(status?.watchers ?? 0))}
        {figure(
          "clock",
          "Clock",
          skewMs === undefined || Math.abs(skewMs) < 10
            ? "in step with this member's"
            : `${written(millisecondsOf(Math.abs(skewMs)))} ${skewMs > 0 ? "ahead" : "behind"}`,
        )}
      </Facts>
    </Section>
  );
}

function Addresses({ member: { id, peerUrls, clientUrls } }: { readonly member: MemberView }): Html {
  return (
    <Section title="Addresses">
      <Facts>
        <Fact label="Member id">
          <Mono text={id} copy />
        </Fact>
        <Fact label="Peer URLs">
          {peerUrls.map((url) => (
            <Mono text={url} copy />
          ))}
        </Fact>
        <Fact label="Client URLs">
          {clientUrls.length === 0 ? (
            <span class="muted">none until it starts</span>
          ) : (
            clientUrls.map((url) => <Mono text={url} copy />)
          )}
        </Fact>
      </Facts>
    </Section>
  );
}

interface SettingRow extends Setting {
  /** Who has another value, and which. */
  readonly differs: string | undefined;
}

/** The settings of a member beside those of the others; undefined when it does not say. */
async function settingsOf(
  { status }: ConsoleServices,
  view: ClusterView,
  shown: MemberView,
): Promise<readonly SettingRow[] | undefined> {
  const askable = view.members.filter((one) => one.status !== undefined && isFresh(one));
  const answers = await Promise.all(
    askable.map((one) =>
      status.settings(BigInt(`0x${one.id}`)).then(
        (settings) => ({ one, settings }),
        () => undefined,
      ),
    ),
  );
  const own = answers.find((answer) => answer?.one.id === shown.id)?.settings;
  return own?.map((setting) => {
    const others = answers.flatMap((answer) => {
      const value = answer?.settings.find(({ name }) => name === setting.name)?.value ?? "";
      return answer === undefined || answer.one.id === shown.id || value === setting.value
        ? []
        : [`${nameOf(answer.one)}: ${value}`];
    });
    const personal = /^(?:name|data-dir|wal-dir|listen-|advertise-|initial-|join|log-|force-new|admin-token)/;
    return {
      ...setting,
      differs: others.length === 0 || personal.test(setting.name) ? undefined : others.join(", "),
    };
  });
}

/** Whether members differ has a column of its own only where some do. */
const settingColumns = (differ: boolean): readonly Column<SettingRow>[] => [
  { head: "Setting", names: true, cell: ({ name }) => <code>{name}</code> },
  { head: "Value", priority: 1, cell: ({ value }) => <code>{plainText(value)}</code> },
  {
    head: "From",
    cell: ({ from }) => (from === undefined ? <span class="muted">default</span> : <code>{from}</code>),
  },
  ...(differ
    ? [
        {
          head: "Elsewhere",
          cell: ({ differs }: SettingRow) =>
            differs === undefined ? "" : <State tone="warn">{plainText(differs)}</State>,
        },
      ]
    : []),
];

function Settings({
  member: shown,
  settings,
}: {
  readonly member: MemberView;
  readonly settings: readonly SettingRow[] | undefined;
}): Html {
  const said = settings?.filter(({ from }) => from !== undefined) ?? [];
  return (
    <Section
      title="Settings in force"
      id="settings"
      lead={
        settings === undefined
          ? undefined
          : `${plural(said.length, "setting")} said, ${settings.length - said.length} by default.`
      }
    >
      {settings === undefined ? (
        <Empty title={`${nameOf(shown)} does not answer, so its settings are not known.`} />
      ) : (
        <Table
          caption="Settings in force"
          class="settings"
          columns={settingColumns(settings.some(({ differs }) => differs !== undefined))}
          rows={[...said, ...settings.filter(({ from }) => from === undefined)]}
        />
      )}
    </Section>
  );
}
