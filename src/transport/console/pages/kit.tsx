/** @jsxImportSource #console */
/** Every component in each of its states, to be looked at in both themes before a page uses it. */
import { Disclosure, Empty, NoticeBox, Panel, Section, Skeleton } from "../components/boxes";
import { Button, type ButtonKind, LinkButton } from "../components/button";
import { Checkbox, Field, Form, QueryForm, Select, TextArea, TextInput } from "../components/form";
import { State, Tag, type Tone } from "../components/state";
import { type Column, Table } from "../components/table";
import { Amount, Bytes, Commands, Fact, Facts, Meter, Mono, Time } from "../components/values";
import type { Html } from "../html";
import type { Page, PageRequest } from "../page";
import { address } from "../query";
import { KeySamples } from "./keys/samples";
import { bytesOf, countOf, millisecondsOf, spanOf } from "../text";

const kinds: readonly ButtonKind[] = ["primary", "secondary", "quiet", "danger"];
const tones: readonly Tone[] = ["ok", "warn", "bad", "muted"];
const words = { ok: "Healthy", warn: "At risk", bad: "No quorum", muted: "Not known" } as const;

/** What nobody may write into a page by writing it into a key. */
const hostile = Buffer.from(
  "<script>alert(1)</script>\u{202e}evil\u{0}\u{1b}[31m\u{200d}\u{feff}&\"'\xff/caf\u{e9}",
);

interface Row {
  readonly name: string;
  readonly role: string;
  readonly lag: number;
  readonly size: number;
}

const rows: readonly Row[] = [
  { name: "n1", role: "leader", lag: 0, size: 52_428_800 },
  { name: "n2", role: "follower", lag: 3, size: 52_420_608 },
  { name: "a-member-with-a-name-that-is-rather-long", role: "learner", lag: 1_204_113, size: 1_310_720 },
];

const columns: readonly Column<Row>[] = [
  { head: "Member", names: true, cell: ({ name }) => name, sort: "name" },
  { head: "Role", priority: 1, cell: ({ role }) => <Tag>{role}</Tag> },
  { head: "Behind", numeric: true, cell: ({ lag }) => countOf(lag), sort: "lag" },
  { head: "Database", numeric: true, cell: ({ size }) => <Amount of={bytesOf(size)} />, sort: "size" },
];

export const kit: Page = {
  path: "/kit",
  section: "kit",
  render: (request) => ({
    title: "Kit",
    actions: (
      <LinkButton href="/ui/" kind="primary" icon="plus">
        Add member
      </LinkButton>
    ),
    body: (
      <>
        <Buttons />
        <States />
        <Values request={request} />
        <Forms request={request} />
        <Tables request={request} />
        <Boxes />
        <KeySamples request={request} />
        <Type />
      </>
    ),
  }),
};

function Buttons(): Html {
  return (
    <Section title="Buttons">
      <div class="stack">
        <div class="row">
          {kinds.map((kind) => (
            <Button kind={kind} type="button">
              {kind === "danger" ? "Remove n2" : "Take snapshot"}
            </Button>
          ))}
          <Button kind="secondary" icon="download" type="button">
            Download
          </Button>
          <Button kind="quiet" icon="pencil" label="Edit the key" type="button" />
        </div>
        <div class="row">
          {kinds.map((kind) => (
            <Button kind={kind} type="button" reason="Needs a quorum">
              Promote n3
            </Button>
          ))}
          <LinkButton href="/ui/kit" reason="There is only one member">
            Move leader
          </LinkButton>
        </div>
      </div>
    </Section>
  );
}

function States(): Html {
  return (
    <Section title="States">
      <div class="row">
        {tones.map((tone) => (
          <State tone={tone}>{words[tone]}</State>
        ))}
        <Tag>learner</Tag>
        <Tag>leased</Tag>
      </div>
    </Section>
  );
}

function Values({ request }: { readonly request: PageRequest }): Html {
  const { nowMs } = request;
  return (
    <Section title="Figures and values">
      <Facts>
        <Fact label="Revision">{countOf(1_204_113)}</Fact>
        <Fact label="Database" help="12 % of 2 GiB">
          <Amount of={bytesOf(257_698_037)} />
        </Fact>
        <Fact label="fsync p99">
          <Amount of={millisecondsOf(3.42)} />
        </Fact>
        <Fact label="Leader since">
          <Time atMs={nowMs - 8_040_000} nowMs={nowMs} />
        </Fact>
        <Fact label="Uptime">
          <Amount of={spanOf(367_200_000)} />
        </Fact>
        <Fact label="Not answered">
          <Amount of={undefined} />
        </Fact>
        <Fact label="Cluster">
          <Mono text="cdf818194e3a8c32" copy />
        </Fact>
        <Fact label="A long key">
          <Mono
            text="/registry/deployments.apps/production/a-very-long-name-of-a-deployment-that-goes-on"
            charactersMax={28}
            copy
          />
        </Fact>
        <Fact label="A hostile key">
          <Bytes of={hostile} />
        </Fact>
        <Fact label="An empty value">
          <Bytes of={new Uint8Array(0)} />
        </Fact>
      </Facts>
      <div class="columns kit-meters">
        <Meter share={0.12} label="12 % of the quota used" />
        <Meter share={0.83} label="83 % of the quota used" tone="warn" />
        <Meter share={1} label="The quota is used up" tone="bad" />
      </div>
      <Commands
        of={[
          { tool: "curl", text: `curl -X DELETE ${request.origin}/api/v1/members/8211f1d0f64f3269` },
          { tool: "etcdctl", text: "etcdctl member remove 8211f1d0f64f3269" },
        ]}
      />
    </Section>
  );
}

function Forms({ request }: { readonly request: PageRequest }): Html {
  return (
    <Section title="Forms">
      <div class="columns">
        <Form request={request} action="/theme">
          <Field label="Peer URL" for="kit-url" help="Where the other members reach it.">
            <TextInput id="kit-url" name="url" placeholder="http://10.0.0.4:2380" mono width={28} />
          </Field>
          <Field label="Peer URL" for="kit-bad" problem="This URL is n2's already." help="One URL a line.">
            <TextInput id="kit-bad" name="bad" value="http://10.0.0.2:2380" mono width={28} invalid />
          </Field>
          <Button kind="primary" type="button">
            Show effect
          </Button>
        </Form>
        <Form request={request} action="/theme">
          <Field label="Decoder" for="kit-select">
            <Select
              id="kit-select"
              name="decoder"
              value="json"
              options={[
                { value: "text", text: "Text" },
                { value: "json", text: "JSON" },
              ]}
            />
          </Field>
          <Checkbox name="learner" checked>
            Join without a vote
          </Checkbox>
          <Field label="Value" for="kit-area" help="Saving unchanged writes nothing.">
            <TextArea id="kit-area" name="area" value={'{\n  "replicas": 3\n}'} rows={4} />
          </Field>
        </Form>
        <QueryForm action="/kit" role="search">
          <Field label="Search" for="kit-search" help="Press / to come here.">
            <TextInput id="kit-search" name="q" type="search" value={request.query.text("q")} />
          </Field>
          <Button icon="search">Search</Button>
        </QueryForm>
      </div>
    </Section>
  );
}

function Tables({ request }: { readonly request: PageRequest }): Html {
  const by = request.query.text("sort") ?? "name";
  const descending = request.query.has("descending");
  const sorted = [...rows].sort((one, other) => {
    const order =
      by === "lag"
        ? one.lag - other.lag
        : by === "size"
          ? one.size - other.size
          : one.name < other.name
            ? -1
            : 1;
    return descending ? -order : order;
  });
  return (
    <Section title="Tables">
      <Table
        caption="Members"
        columns={columns}
        rows={sorted}
        rowHref={() => "/ui/members"}
        sorting={{
          by,
          descending,
          href: (column, down) => address("/ui/kit", { sort: column, descending: down }),
        }}
      />
      <Table
        caption="Snapshots, of which there are none"
        columns={columns}
        rows={[]}
        empty={
          <Empty title="There are no snapshots yet.">
            <p>One keeps what the cluster holds now, on the member that takes it.</p>
            <Button icon="archive" type="button">
              Take snapshot
            </Button>
          </Empty>
        }
      />
    </Section>
  );
}

function Boxes(): Html {
  return (
    <Section title="Notices and places">
      <div>
        <NoticeBox tone="ok" title="3 keys deleted at revision 1 204 113">
          <p>Their last values stay readable until compaction.</p>
        </NoticeBox>
        <NoticeBox tone="warn" title="You look at revision 900. Writes are off.">
          <p>
            <a href="/ui/kit">Go back to now</a>
          </p>
        </NoticeBox>
        <NoticeBox tone="bad" title="There is no leader since 12:04:31">
          <p>
            Reads of this member&#39;s own state go on. Writes wait for an election; nothing that was answered
            is lost.
          </p>
        </NoticeBox>
        <NoticeBox tone="muted" title="Only callers on this machine may see this page." />
      </div>
      <div class="columns">
        <Panel>
          <h3>A panel</h3>
          <p class="muted">On a surface of its own, never inside another.</p>
        </Panel>
        <Skeleton />
        <Disclosure summary="Settings in force" open>
          <p>Shown when asked for.</p>
        </Disclosure>
      </div>
    </Section>
  );
}

function Type(): Html {
  return (
    <Section title="Type">
      <div class="stack">
        <p class="verdict-word">Healthy</p>
        <p class="title">A title, 20/28</p>
        <h2>A section, 16/24</h2>
        <p>Body, 14/20. Can lose 1 of 3. 0123456789</p>
        <p class="label">A label, 13/20</p>
        <p>
          <kbd>Ctrl K</kbd> <kbd>g</kbd> <kbd>m</kbd> <code>/registry/pods/default/web-0</code>
        </p>
      </div>
    </Section>
  );
}
