/** @jsxImportSource #console */
/** The past of one key: every retained revision, the difference of any two, and a way back. */
import type { KeyValue } from "../../../../proto/gen/etcd/kv_pb";
import { hex16 } from "../../../rest/key-json";
import { Problem } from "../../../rest/problem";
import { Empty, NoticeBox } from "../../components/boxes";
import { Button, LinkButton } from "../../components/button";
import { DiffView } from "../../components/content";
import { Form, QueryForm } from "../../components/form";
import { type Column, Table } from "../../components/table";
import { Tag } from "../../components/state";
import { Amount, Bytes, Commands, Time } from "../../components/values";
import type { Html } from "../../html";
import type { Page, PageContent, PageRequest } from "../../page";
import { bytesOf, countOf } from "../../text";
import { diffOf } from "../../values/line-diff";
import { StaleNotice } from "./banners";
import { commands, curl, etcdctl } from "./commands";
import { titleOf, trailOf } from "./key";
import { base64Url, keyHref, keyOf } from "./place";
import { getKey, kubernetesPart } from "./store";

const versionsMax = 50;

export const keyHistory: Page = {
  path: "/key/history",
  section: "keys",
  async render(request): Promise<PageContent> {
    const { services, query } = request;
    const key = keyOf(query);
    const fresh = await services.browser.confirm();
    const before = query.number("before");
    const { revision, versions, more } = await services.history.history(
      key,
      before ?? services.store.revision + 1,
      versionsMax,
      true,
    );
    const hidden = kubernetesPart(key) === "secret" && !query.has("show");
    const [newest, second] = versions;
    const one = query.number("from") ?? Number(second?.modRevision ?? 0n);
    const other = query.number("to") ?? Number(newest?.modRevision ?? 0n);
    return {
      title: `History of ${titleOf(key)}`,
      trail: [...trailOf(key), { text: titleOf(key), href: keyHref(key) }],
      body: (
        <>
          {!fresh && <StaleNotice request={request} />}
          <p class="whole-key">
            <Bytes of={key} bytesMax={4_096} />
          </p>
          {versions.length === 0 ? (
            <Nothing keyBytes={key} paged={before !== undefined} />
          ) : (
            <>
              <QueryForm action="/key/history" class="bare">
                <KeyField keyBytes={key} />
                {before !== undefined && <input type="hidden" name="before" value={before} />}
                {query.has("show") && <input type="hidden" name="show" value="" />}
                <Table
                  caption="Retained revisions, newest first"
                  class="history"
                  columns={columnsOf(request, key, newest!, fresh, one, other, versions.length === 1)}
                  rows={versions}
                  rowHref={(kv) =>
                    kv.version === 0n ? undefined : keyHref(key, "", { rev: kv.modRevision })
                  }
                />
                <div class={versions.length > 1 || more ? "list-foot" : undefined}>
                  {versions.length > 1 && <Button icon="git-compare">Compare the chosen two</Button>}
                  {more && (
                    <LinkButton
                      href={keyHref(key, "/history", { before: versions.at(-1)!.modRevision })}
                      icon="arrow-right"
                    >
                      Older revisions
                    </LinkButton>
                  )}
                </div>
              </QueryForm>
              {!more && <Beginning request={request} oldest={versions.at(-1)!} />}
              {versions.length > 1 &&
                one !== other &&
                (hidden ? (
                  <Hidden keyBytes={key} />
                ) : (
                  await differenceOf(request, key, Math.min(one, other), Math.max(one, other))
                ))}
            </>
          )}
          <div class="section">
            <Commands
              of={commands(
                curl(request.origin, `/history64/${base64Url(key)}`),
                etcdctl(request.origin, `watch --rev=${Math.max(1, revision - 100)}`, key),
              )}
            />
          </div>
        </>
      ),
    };
  },
};

/** The key as a field of a form that only leads elsewhere. */
export function KeyField({ keyBytes }: { readonly keyBytes: Uint8Array }): Html {
  return <input type="hidden" name="k64" value={base64Url(keyBytes)} />;
}

function columnsOf(
  request: PageRequest,
  key: Uint8Array,
  newest: KeyValue,
  fresh: boolean,
  one: number,
  other: number,
  only: boolean,
): Column<KeyValue>[] {
  const { history } = request.services;
  const radio = (name: "from" | "to", chosen: number, text: string): Column<KeyValue> => ({
    head: text,
    priority: 2,
    cell: ({ modRevision }) => (
      <input
        type="radio"
        name={name}
        value={modRevision}
        checked={Number(modRevision) === chosen}
        aria-label={`${text} revision ${modRevision}`}
      />
    ),
  });
  const put =
    (cell: (kv: KeyValue) => Html | string) =>
    (kv: KeyValue): Html | string | undefined =>
      kv.version === 0n ? undefined : cell(kv);
  return [
    {
      head: "Revision",
      names: true,
      cell: (kv) =>
        kv.version === 0n ? (
          countOf(kv.modRevision)
        ) : (
          <a href={keyHref(key, "", { rev: kv.modRevision })}>{countOf(kv.modRevision)}</a>
        ),
    },
    {
      head: "When",
      priority: 1,
      cell: ({ modRevision }) => {
        const timeMs = history.timeOf(modRevision);
        return timeMs === undefined ? (
          <span class="unknown">not known</span>
        ) : (
          <Time atMs={timeMs} nowMs={request.nowMs} />
        );
      },
    },
    {
      head: "What",
      bare: true,
      cell: (kv) =>
        kv.version === 0n ? <Tag>deleted</Tag> : kv.version === 1n ? <Tag>created</Tag> : <Tag>put</Tag>,
    },
    { head: "Version", numeric: true, priority: 3, cell: put((kv) => countOf(kv.version)) },
    { head: "Size", numeric: true, cell: put((kv) => <Amount of={bytesOf(kv.value.length)} />) },
    {
      head: "Lease",
      priority: 3,
      cell: put((kv) => (kv.lease === 0n ? "" : <code class="muted">{hex16(kv.lease)}</code>)),
    },
    ...(only ? [] : [radio("from", one, "From"), radio("to", other, "To")]),
    {
      head: "Restore",
      bare: true,
      headContent: <span class="unseen">Restore</span>,
      cell: (kv) =>
        kv.version === 0n || !fresh || kv.modRevision === newest.modRevision ? undefined : (
          <span class="row-actions">
            <a href={keyHref(key, "/restore", { rev: kv.modRevision })}>Restore</a>
          </span>
        ),
    },
  ];
}

function Nothing({ keyBytes, paged }: { readonly keyBytes: Uint8Array; readonly paged: boolean }): Html {
  return (
    <Empty title={paged ? "There are no older revisions" : "Nothing is retained of this key"}>
      <p>It was never written, or what was written was deleted and compacted.</p>
      <LinkButton href={keyHref(keyBytes)}>Back to the key</LinkButton>
    </Empty>
  );
}

/** Why the list ends where it does. */
function Beginning({ request, oldest }: { readonly request: PageRequest; readonly oldest: KeyValue }): Html {
  const { compactedRevision } = request.services.store;
  const cut =
    compactedRevision > 0 && (oldest.version !== 1n || Number(oldest.modRevision) <= compactedRevision);
  return (
    <p class="muted note">
      {cut
        ? `Compacted at revision ${countOf(compactedRevision)}: what this key was before is forgotten.`
        : "This is all: nothing of this key was compacted."}
    </p>
  );
}

function Hidden({ keyBytes }: { readonly keyBytes: Uint8Array }): Html {
  return (
    <div class="section">
      <NoticeBox tone="warn" title="This is a Kubernetes secret: what changed in it is hidden">
        <div class="actions">
          <LinkButton href={keyHref(keyBytes, "/history", { show: true })}>Show the secret</LinkButton>
        </div>
      </NoticeBox>
    </div>
  );
}

async function differenceOf(
  request: PageRequest,
  key: Uint8Array,
  one: number,
  other: number,
): Promise<Html> {
  const none = new Uint8Array(0);
  const [before, after] = await Promise.all([
    getKey(request.services, key, one),
    getKey(request.services, key, other),
  ]);
  return (
    <section class="section" id="difference">
      <header>
        <h2>{`Revision ${countOf(one)} to ${countOf(other)}`}</h2>
      </header>
      <DiffView
        of={diffOf(before.kv?.value ?? none, after.kv?.value ?? none)}
        label={`Difference of revision ${one} and ${other}`}
      />
    </section>
  );
}

export const restoreKey: Page = {
  path: "/key/restore",
  section: "keys",
  async render(request): Promise<PageContent> {
    const { services, query } = request;
    const key = keyOf(query);
    const rev = query.number("rev") ?? 0;
    const fresh = await services.browser.confirm();
    const [then, now] = await Promise.all([getKey(services, key, rev), getKey(services, key)]);
    if (then.kv === undefined) throw new Problem("key-not-found", "The key did not exist at that revision.");
    const same = now.kv !== undefined && Buffer.from(now.kv.value).equals(then.kv.value);
    const hidden = kubernetesPart(key) === "secret" && !query.has("show");
    return {
      title: `Restore ${titleOf(key)}?`,
      trail: [...trailOf(key), { text: "History", href: keyHref(key, "/history") }],
      body: (
        <>
          {!fresh && <StaleNotice request={request} />}
          <p class="whole-key">
            <Bytes of={key} bytesMax={4_096} />
          </p>
          <p class="lead">
            {`The value of revision ${countOf(then.kv.modRevision)} is written again, as a new revision. History keeps what is there now.`}
          </p>
          {hidden ? (
            <NoticeBox tone="warn" title="This is a Kubernetes secret: what would change in it is hidden">
              <div class="actions">
                <LinkButton href={`${request.target}&show`}>Show the secret</LinkButton>
              </div>
            </NoticeBox>
          ) : (
            <DiffView
              of={diffOf(now.kv?.value ?? new Uint8Array(0), then.kv.value)}
              label="What restoring would change"
            />
          )}
          {same ? (
            <NoticeBox tone="ok" title="The key has this very value now: there is nothing to restore" />
          ) : (
            <Form request={request} action="/key/save" class="decide">
              <KeyField keyBytes={key} />
              <input type="hidden" name="base" value={now.kv?.modRevision ?? 0n} />
              <input type="hidden" name="value64" value={base64Url(then.kv.value)} />
              <input type="hidden" name="keep-lease" value="on" />
              <div class="actions">
                <Button kind="primary">Restore this value</Button>
                <LinkButton href={keyHref(key, "/history")} kind="quiet">
                  Leave it as it is
                </LinkButton>
              </div>
            </Form>
          )}
        </>
      ),
    };
  },
};
