/** @jsxImportSource #console */
/** Snapshots of all members: taken, downloaded, checked, deleted, and what restores them. */
import type { KeyPage, ListedRow } from "../../../service/key-browser";
import type { SnapshotInfo } from "../../../service/snapshots";
import type { Answer } from "../../rest/answer";
import { Problem } from "../../rest/problem";
import { snapshotFile } from "../../rest/snapshot-file";
import { Empty, NoticeBox, Section } from "../components/boxes";
import { Button, LinkButton } from "../components/button";
import { Field, Form, Select } from "../components/form";
import { Live } from "../components/live";
import { Table } from "../components/table";
import { Amount, Bytes, Commands, Fact, Facts, Mono, Time } from "../components/values";
import type { Html } from "../html";
import type { Action, Outcome, Page, PageContent, PageRequest } from "../page";
import { address } from "../query";
import { bytesOf, countOf, plural } from "../text";
import { plainText } from "../words";
import { JobFacts, titleOfJob } from "./job";
import { curl } from "./keys/commands";
import { countKeys, prefixRange } from "./keys/store";

const trail = [{ text: "Snapshots", href: "/ui/snapshots" }] as const;
/** First levels that are compared. */
const levelsMax = 30;

/** A page does not wait longer for a member. */
const patienceMs = 1_500;
/** A member whose figures are older is not asked at all. */
const freshMs = 3_000;

/** Snapshots of the members that answer now. */
function listOf({ services }: PageRequest): ReturnType<typeof services.snapshots.list> {
  const { members, self } = services.status.view();
  const silent = new Set(
    members.filter(({ id, ageMs }) => id !== self && (ageMs ?? Infinity) > freshMs).map(({ id }) => id),
  );
  return services.snapshots.list(patienceMs, (id) => silent.has(id));
}

/** Members by id, with the names that people gave them. */
function namesOf({ services }: PageRequest): ReadonlyMap<string, string> {
  return new Map(services.status.view().members.map(({ id, name }) => [id, plainText(name) || id]));
}

const snapshots: Page = {
  path: "/snapshots",
  section: "snapshots",
  live: true,
  async render(request): Promise<PageContent> {
    const { services, nowMs, query } = request;
    const { snapshots: all, silent } = await listOf(request);
    const names = namesOf(request);
    const view = services.status.view();
    const job = services.jobs.get(query.text("job") ?? "");
    return {
      title: "Snapshots",
      body: (
        <>
          {silent.length > 0 && (
            <NoticeBox
              tone="warn"
              title={`${silent.map((id) => names.get(id) ?? id).join(", ")} ${silent.length === 1 ? "does" : "do"} not answer`}
            >
              <p>Snapshots that only lie there are not in this list.</p>
            </NoticeBox>
          )}
          {job !== undefined && (
            <Live id="job" as="div">
              <section class="section first">
                <header>
                  <h2>{titleOfJob(job)}</h2>
                </header>
                <JobFacts job={job} />
              </section>
            </Live>
          )}
          <Form request={request} action="/snapshots/take" class="inline take">
            <Field label="Take one on" for="member">
              <Select
                id="member"
                name="member"
                value={view.self}
                options={view.members.map(({ id, name }) => ({
                  value: id,
                  text: `${plainText(name) || id}${id === view.leader ? ", the leader" : ""}`,
                }))}
              />
            </Field>
            <Button kind="primary" icon="archive">
              Take a snapshot
            </Button>
          </Form>
          <p class="muted note">
            It lies in that member's data directory until it is deleted. Copy it elsewhere: a disk that dies
            takes both with it.
          </p>
          <Live id="snapshots" as="div" class="section">
            <Table
              caption="Snapshots of all members, newest first"
              columns={[
                {
                  head: "Taken",
                  names: true,
                  cell: (one) => (
                    <a href={hrefOf(one)}>
                      <Moment atMs={one.takenAtMs} />
                    </a>
                  ),
                },
                { head: "Age", priority: 1, cell: (one) => <Age atMs={one.takenAtMs} nowMs={nowMs} /> },
                { head: "On", cell: (one) => names.get(one.member) ?? <code>{one.member}</code> },
                { head: "Revision", numeric: true, cell: (one) => countOf(one.revision) },
                { head: "Size", numeric: true, cell: (one) => <Amount of={bytesOf(one.bytes)} /> },
                {
                  head: "Actions",
                  bare: true,
                  headContent: <span class="unseen">Actions</span>,
                  cell: (one) => (
                    <span class="row-actions">
                      <a href={`${hrefOf(one)}/content`} download>
                        Download
                      </a>
                      <a href={`${hrefOf(one)}/delete`}>Delete</a>
                    </span>
                  ),
                },
              ]}
              rows={all}
              rowHref={hrefOf}
              empty={
                <Empty title="There are no snapshots yet">
                  <p>One a day, kept on another machine, is a good beginning.</p>
                </Empty>
              }
            />
          </Live>
          <div class="section">
            <Commands
              title="Take and download one by command"
              of={[
                {
                  tool: "keelson",
                  text: `keelson snapshot save --endpoint ${request.origin} backup.snapshot`,
                },
                {
                  tool: "etcdctl",
                  text: `etcdctl --endpoints ${request.origin} snapshot save backup.snapshot`,
                },
                curl(request.origin, "/snapshots", "-X POST"),
              ]}
            />
          </div>
        </>
      ),
    };
  },
};

function hrefOf({ name }: SnapshotInfo): string {
  return `/ui/snapshots/${name}`;
}

/** Not to the second: the list is brought up to date when something in it changed, not when time passed. */
function Age({ atMs, nowMs }: { readonly atMs: number; readonly nowMs: number }): Html {
  return nowMs - atMs < 3_600_000 ? (
    <span class="muted">within the hour</span>
  ) : (
    <Time atMs={atMs} nowMs={nowMs} />
  );
}

function Moment({ atMs }: { readonly atMs: number }): Html {
  const iso = new Date(atMs).toISOString();
  return <time datetime={iso}>{`${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`}</time>;
}

async function infoOf({ path, services }: PageRequest): Promise<SnapshotInfo> {
  const info = await services.snapshots.info(path["name"] ?? "", patienceMs);
  if (info === undefined)
    throw new Problem("not-found", "There is no such snapshot.", {
      fix: "It may have been deleted; the list shows those that are left.",
    });
  return info;
}

const snapshot: Page = {
  path: "/snapshots/:name",
  section: "snapshots",
  live: true,
  async render(request): Promise<PageContent> {
    const { services, nowMs, query } = request;
    const info = await infoOf(request);
    const job = services.jobs.get(query.text("job") ?? "");
    const names = namesOf(request);
    return {
      title: `Snapshot of revision ${countOf(info.revision)}`,
      trail,
      actions: (
        <>
          <LinkButton href={`${hrefOf(info)}/delete`} icon="trash-2">
            Delete
          </LinkButton>
          <LinkButton href={`${hrefOf(info)}/content`} kind="primary" icon="download" download>
            Download
          </LinkButton>
        </>
      ),
      body: (
        <>
          <Facts class="key-facts">
            <Fact label="Taken">
              <Time atMs={info.takenAtMs} nowMs={nowMs} />
            </Fact>
            <Fact label="On">{names.get(info.member) ?? <code>{info.member}</code>}</Fact>
            <Fact label="Size">
              <Amount of={bytesOf(info.bytes)} />
            </Fact>
            <Fact label="Log entry">{countOf(info.appliedIndex)}</Fact>
            <Fact label="SHA-256 of its database">
              <Mono text={info.sha256} charactersMax={20} copy />
            </Fact>
          </Facts>
          <Section
            title="Is it sound?"
            lead="The member that holds it reads the whole file again, and compares it with what was written."
          >
            {job !== undefined && (
              <Live id="job" as="div">
                <JobFacts job={job} />
              </Live>
            )}
            <Form request={request} action={`/snapshots/${info.name}/verify`} class="bare">
              <Button icon="shield-check">Verify</Button>
            </Form>
            <Commands of={[curl(request.origin, `/snapshots/${info.name}/verify`, "-X POST")]} />
          </Section>
          <Section title="What is in it, compared with now">{await comparison(request, info)}</Section>
          <Section
            title="Restore it"
            lead="Restoring makes a new cluster with the keys of the snapshot. Stop the old members first, and give clients no chance to write to both."
          >
            <Commands
              title="Download, check, make a data directory, start"
              of={restoreCommands(request, info)}
            />
            <p class="muted note">
              For several members, run restore once for each of them from the same file, with the same
              --initial-cluster. Watches that go on from an old revision are told so only with
              --mark-compacted.
            </p>
          </Section>
        </>
      ),
    };
  },
};

function restoreCommands({ origin }: PageRequest, { name }: SnapshotInfo): { tool: string; text: string }[] {
  const file = `${name}.db`;
  return [
    curl(origin, `/snapshots/${name}/content`, `-o ${file}`),
    { tool: "keelson", text: `keelson snapshot status ${file}` },
    {
      tool: "keelson",
      text: `keelson snapshot restore ${file} --data-dir restored --bump-revision 1000000000 --mark-compacted`,
    },
    { tool: "keelson", text: "keelson --data-dir restored" },
  ];
}

/** Keys then and now by first level, as long as history reaches back to the snapshot. */
async function comparison(request: PageRequest, info: SnapshotInfo): Promise<Html> {
  const { services } = request;
  const now = services.store.revision;
  const behind = now - info.revision;
  if (behind === 0) return <p>The same: nothing was written since.</p>;
  if (behind < 0) {
    return <p>This member has not come as far as the snapshot, so it cannot compare.</p>;
  }
  if (info.revision < services.store.compactedRevision) {
    return (
      <>
        <p>{`${plural(behind, "revision")} were written since.`}</p>
        <p class="muted">
          {`History was compacted at revision ${countOf(services.store.compactedRevision)}, so keys of then cannot be listed here any more. The snapshot itself has them.`}
        </p>
      </>
    );
  }
  const query = { prefix: "", delimiter: "/", rowsMax: levelsMax };
  const [then, today] = await Promise.all([
    services.browser.page(query, info.revision),
    services.browser.page(query, now),
  ]);
  const rows = levels(then, today);
  const total = await countKeys(services, prefixRange(new Uint8Array(0)));
  return (
    <>
      <p>
        {`${plural(behind, "revision")} ${behind === 1 ? "was" : "were"} written since; now there ${total === 1 ? "is" : "are"} ${plural(total, "key")}. `}
        <a href={address("/ui/keys", { rev: info.revision })}>Browse the keys of then</a>
      </p>
      <Table
        caption="Keys by first level, in the snapshot and now"
        columns={[
          { head: "Level", names: true, cell: ({ name }) => <Bytes of={Buffer.from(name, "latin1")} /> },
          { head: "In the snapshot", numeric: true, cell: ({ before }) => before },
          { head: "Now", numeric: true, cell: ({ after }) => after },
          { head: "", headContent: <span class="unseen">Difference</span>, cell: ({ word }) => word },
        ]}
        rows={rows}
      />
      {(then.next !== undefined || today.next !== undefined) && (
        <p class="muted note">{`The first ${levelsMax} levels of each side.`}</p>
      )}
    </>
  );
}

interface Level {
  readonly name: string;
  readonly before: string;
  readonly after: string;
  readonly word: string;
}

const nameOf = (row: ListedRow): string => (row.kind === "key" ? row.key : row.prefix);

function amountOf(row: ListedRow | undefined): string {
  if (row === undefined) return "none";
  return row.kind === "key" ? "1" : `${countOf(row.keys)}${row.more ? "+" : ""}`;
}

function levels(then: KeyPage, today: KeyPage): Level[] {
  const before = new Map(then.rows.map((row) => [nameOf(row), row]));
  const after = new Map(today.rows.map((row) => [nameOf(row), row]));
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.map((name) => {
    const [old, new_] = [before.get(name), after.get(name)];
    const word = old === undefined ? "only now" : new_ === undefined ? "only then" : "";
    const changed =
      old?.kind === "key" && new_?.kind === "key" && old.mod !== new_.mod
        ? "changed"
        : old !== undefined && new_ !== undefined && amountOf(old) !== amountOf(new_)
          ? "another number"
          : "";
    return { name, before: amountOf(old), after: amountOf(new_), word: word === "" ? changed : word };
  });
}

const takeSnapshot: Action = {
  path: "/snapshots/take",
  section: "snapshots",
  run({ form, services }): Outcome {
    const id = form.text("member") ?? "";
    if (!services.status.view().members.some((member) => member.id === id)) {
      throw new Problem("member-not-found", "There is no member with this id.");
    }
    const job = services.jobs.start("snapshot", async (context) => {
      const taken = await services.snapshots.take(BigInt(`0x${id}`), context);
      return { name: taken.name, revision: String(taken.revision) };
    });
    return { kind: "done", to: address("/ui/snapshots", { job: job.id }) };
  },
};

const verifySnapshot: Action = {
  path: "/snapshots/:name/verify",
  section: "snapshots",
  async run(request): Promise<Outcome> {
    const { services } = request;
    const { name } = await infoOf(request);
    const job = services.jobs.start("verify", (context) => services.snapshots.verify(name, context));
    return { kind: "done", to: address(`/ui/snapshots/${name}`, { job: job.id }) };
  },
};

const deleteSnapshotPage: Page = {
  path: "/snapshots/:name/delete",
  section: "snapshots",
  async render(request): Promise<PageContent> {
    const info = await infoOf(request);
    const { snapshots: all } = await listOf(request);
    const newer = all.filter(
      ({ takenAtMs, name }) => takenAtMs >= info.takenAtMs && name !== info.name,
    ).length;
    return {
      title: "Delete this snapshot?",
      trail: [...trail, { text: info.name, href: hrefOf(info) }],
      body: (
        <>
          <p class="lead">
            {all.length === 1
              ? "It is the only one that members hold: there would be none."
              : newer === 0
                ? `It is the newest of ${all.length}: going back would lose what came after an older one.`
                : `${plural(newer, "newer one")} ${newer === 1 ? "stays" : "stay"}.`}
            {" Copies that were downloaded are not touched. This cannot be undone."}
          </p>
          <Facts>
            <Fact label="Taken">
              <Time atMs={info.takenAtMs} nowMs={request.nowMs} />
            </Fact>
            <Fact label="Revision">{countOf(info.revision)}</Fact>
            <Fact label="Size">
              <Amount of={bytesOf(info.bytes)} />
            </Fact>
          </Facts>
          <Form request={request} action={`/snapshots/${info.name}/delete`} class="decide">
            <div class="actions">
              <Button kind="danger" icon="trash-2">
                Delete the snapshot
              </Button>
              <LinkButton href={hrefOf(info)} kind="quiet">
                Keep it
              </LinkButton>
            </div>
          </Form>
          <div class="section">
            <Commands of={[curl(request.origin, `/snapshots/${info.name}`, "-X DELETE")]} />
          </div>
        </>
      ),
    };
  },
};

const deleteSnapshot: Action = {
  path: "/snapshots/:name/delete",
  section: "snapshots",
  async run(request): Promise<Outcome> {
    const info = await infoOf(request);
    const deleted = await request.services.snapshots.remove(info.name);
    return {
      kind: "done",
      to: "/ui/snapshots",
      notice: {
        tone: "ok",
        text: deleted
          ? `The snapshot of revision ${countOf(info.revision)} is deleted`
          : "It had been deleted before",
      },
    };
  },
};

/** The file, from whichever member holds it. */
const snapshotContent: Page = {
  path: "/snapshots/:name/content",
  section: "snapshots",
  async render(request): Promise<Answer> {
    const info = await infoOf(request);
    return snapshotFile(request.services, info, (name) => request.header(name));
  },
};

export const snapshotPages: readonly Page[] = [snapshots, snapshot, deleteSnapshotPage, snapshotContent];
export const snapshotActions: readonly Action[] = [takeSnapshot, verifySnapshot, deleteSnapshot];
