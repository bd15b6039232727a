/** @jsxImportSource #console */
/** One key: its value in the view that fits it, what is known of it, and what can be done with it. */
import type { KeyValue } from "../../../../proto/gen/etcd/kv_pb";
import { isUtf8 } from "node:buffer";
import { hex16 } from "../../../rest/key-json";
import { Problem } from "../../../rest/problem";
import { Empty, NoticeBox } from "../../components/boxes";
import { LinkButton } from "../../components/button";
import { Content } from "../../components/content";
import { Icon } from "../../components/icon";
import { Amount, Bytes, Commands, CopyButton, Fact, Facts, Time } from "../../components/values";
import type { Html } from "../../html";
import type { Page, PageContent, PageRequest } from "../../page";
import { bytesOf, countOf, spanOf, written } from "../../text";
import { decode, naturalView, viewNames, viewTitles, type ViewName } from "../../values/decoders";
import { plainLine } from "../../values/visible";
import { PastBanner, refusalOf, StaleNotice } from "./banners";
import { commands, curlKey, etcdctl } from "./commands";
import { keyHref, keyOf, type KeysPlace, keysHref, revisionOf } from "./place";
import { getKey, kubernetesPart } from "./store";

/** The levels above a key, as a trail. */
export function trailOf(
  key: Uint8Array,
  revision?: number,
): { readonly text: string; readonly href: string }[] {
  const cut = Buffer.from(key).lastIndexOf("/", -2);
  const parent = key.subarray(0, cut + 1);
  const place = placeOfParent(revision);
  return [
    { text: "Keys", href: keysHref(place) },
    ...(parent.length === 0
      ? []
      : [{ text: plainLine(parent, 80), href: keysHref(place, { prefix: parent }) }]),
  ];
}

function placeOfParent(revision: number | undefined): KeysPlace {
  const none = new Uint8Array(0);
  return { prefix: none, delimiter: Buffer.from("/"), find: none, from: undefined, open: [], revision };
}

/** The last part of a key, as a title. */
export function titleOf(key: Uint8Array): string {
  const cut = Buffer.from(key).lastIndexOf("/", -2);
  return plainLine(key.subarray(cut + 1), 120);
}

export const keyPage: Page = {
  path: "/key",
  section: "keys",
  async render(request): Promise<PageContent> {
    const { services, query } = request;
    const key = keyOf(query);
    const fresh = await services.browser.confirm();
    const revision = await revisionOf(request);
    const { revision: now, kv } = await getKey(services, key, revision ?? 0);
    const off = refusalOf(revision, fresh);
    const past = revision === undefined ? {} : { rev: revision };
    const hidden = kubernetesPart(key) === "secret" && !query.has("show");
    return {
      title: titleOf(key),
      trail: trailOf(key, revision),
      actions: <Actions keyBytes={key} kv={kv} past={past} off={off} />,
      status: kv === undefined ? 404 : 200,
      body: (
        <>
          {revision !== undefined && (
            <PastBanner
              request={request}
              revision={revision}
              now={now}
              href={(at) => keyHref(key, "", { ...at })}
            />
          )}
          {!fresh && <StaleNotice request={request} />}
          <p class="whole-key">
            <Bytes of={key} bytesMax={4_096} />
            {isUtf8(key) && <CopyButton text={Buffer.from(key).toString()} what="the key" />}
          </p>
          {kv === undefined ? (
            <Missing keyBytes={key} past={revision !== undefined} off={off} />
          ) : (
            <>
              <About
                request={request}
                kv={kv}
                left={revision === undefined && fresh ? await secondsLeft(request, kv) : undefined}
              />
              {hidden ? <Hidden keyBytes={key} past={past} /> : await valueOf(request, kv, past)}
            </>
          )}
          <div class="section">
            <Commands of={readCommands(request, key, revision)} />
          </div>
        </>
      ),
    };
  },
};

function Actions({
  keyBytes,
  kv,
  past,
  off,
}: {
  readonly keyBytes: Uint8Array;
  readonly kv: KeyValue | undefined;
  readonly past: { readonly rev?: number };
  readonly off: string | undefined;
}): Html {
  const exists = kv !== undefined;
  return (
    <>
      <LinkButton href={keyHref(keyBytes, "/history")} icon="history">
        History
      </LinkButton>
      {exists && (
        <LinkButton href={keyHref(keyBytes, "/value", past)} icon="download" download>
          Download
        </LinkButton>
      )}
      {exists && (
        <LinkButton href={keyHref(keyBytes, "/delete")} icon="trash-2" reason={off}>
          Delete
        </LinkButton>
      )}
      {exists && <EditLink href={keyHref(keyBytes, "/edit")} off={off} />}
    </>
  );
}

/** Where the letter e leads. */
function EditLink({ href, off }: { readonly href: string; readonly off: string | undefined }): Html {
  return off === undefined ? (
    <a class="button primary" href={href} data-key="e">
      <Icon name="pencil" />
      Edit value
    </a>
  ) : (
    <LinkButton href={href} kind="primary" icon="pencil" reason={off}>
      Edit value
    </LinkButton>
  );
}

function Missing({
  keyBytes,
  past,
  off,
}: {
  readonly keyBytes: Uint8Array;
  readonly past: boolean;
  readonly off: string | undefined;
}): Html {
  return (
    <Empty title={past ? "This key did not exist at that revision" : "This key does not exist"}>
      <p>{"It may have been deleted: its history shows what is still retained."}</p>
      <div class="actions">
        <LinkButton href={keyHref(keyBytes, "/history")} icon="history">
          Show its history
        </LinkButton>
        <LinkButton href={keyHref(keyBytes, "/edit")} icon="plus" reason={off}>
          Put a value
        </LinkButton>
      </div>
    </Empty>
  );
}

/** How long a lease must be silent about itself before the page goes on without it. */
const leaseWaitMs = 800;

/** Seconds that are left of a key's lease, as the leader says; undefined when nobody says so in time. */
async function secondsLeft({ services }: PageRequest, { lease }: KeyValue): Promise<bigint | undefined> {
  if (lease === 0n) return undefined;
  const asked = services.lease.describe(lease, 0).then(
    (found) => BigInt(found?.remainingSeconds ?? -1),
    () => undefined,
  );
  const patience = new Promise<undefined>((resolve) => setTimeout(resolve, leaseWaitMs));
  return Promise.race([asked, patience]);
}

function leaseWords({ lease }: KeyValue, left: bigint | undefined): string {
  if (lease === 0n) return "stays until it is deleted";
  if (left === undefined) return "vanishes with its lease";
  return left < 0n
    ? "its lease is over"
    : `vanishes in ${written(spanOf(Number(left) * 1_000))} unless kept alive`;
}

function About({
  request,
  kv,
  left,
}: {
  readonly request: PageRequest;
  readonly kv: KeyValue;
  readonly left: bigint | undefined;
}): Html {
  const { history } = request.services;
  const when = (revision: bigint): Html => {
    const timeMs = history.timeOf(revision);
    return (
      <>
        <span class="figure">{countOf(revision)}</span>
        {timeMs !== undefined && (
          <span class="fact-help">
            <Time atMs={timeMs} nowMs={request.nowMs} />
          </span>
        )}
      </>
    );
  };
  return (
    <Facts class="key-facts">
      <Fact label="Size">
        <Amount of={bytesOf(kv.value.length)} />
      </Fact>
      <Fact label="Version" help={kv.version === 1n ? "written once" : "writes since it was created"}>
        {countOf(kv.version)}
      </Fact>
      <Fact label="Changed at revision">{when(kv.modRevision)}</Fact>
      <Fact label="Created at revision">{when(kv.createRevision)}</Fact>
      <Fact label="Lease" help={leaseWords(kv, left)}>
        {kv.lease === 0n ? "none" : <code>{hex16(kv.lease)}</code>}
      </Fact>
    </Facts>
  );
}

function Hidden({
  keyBytes,
  past,
}: {
  readonly keyBytes: Uint8Array;
  readonly past: { readonly rev?: number };
}): Html {
  return (
    <NoticeBox tone="warn" title="This is a Kubernetes secret: its value is hidden">
      <p>Who sees your screen would see it too.</p>
      <div class="actions">
        <LinkButton href={keyHref(keyBytes, "", { ...past, show: true })}>Show the secret</LinkButton>
      </div>
    </NoticeBox>
  );
}

/** The value in one of its views. */
async function valueOf(request: PageRequest, kv: KeyValue, past: { readonly rev?: number }): Promise<Html> {
  const { query } = request;
  const natural = naturalView(kv.value);
  const asked = query.text("view");
  const view: ViewName = viewNames.find((name) => name === asked) ?? natural;
  const shown = query.has("show") ? { show: true } : {};
  const decoded = await decode(kv.value, view);
  return (
    <section class="section value">
      <header>
        <h2>Value</h2>
        <nav class="tabs" aria-label="Views of the value">
          {viewNames.map((name) => (
            <a
              href={keyHref(kv.key, "", { ...past, ...shown, ...(name === natural ? {} : { view: name }) })}
              aria-current={name === view ? "true" : undefined}
            >
              {viewTitles[name]}
            </a>
          ))}
        </nav>
      </header>
      {decoded.ok ? (
        <>
          <Content of={decoded.bytes} label={`The value as ${viewTitles[view]}`} wrap={view !== "hex"} />
          {decoded.note !== undefined && <p class="muted note">{decoded.note} Only shown: never saved.</p>}
        </>
      ) : (
        <p class="content-empty">{`This view does not fit the value. ${decoded.reason}`}</p>
      )}
    </section>
  );
}

function readCommands(
  request: PageRequest,
  key: Uint8Array,
  revision: number | undefined,
): ReturnType<typeof commands> {
  const at = revision === undefined ? "" : ` --rev=${revision}`;
  const query = revision === undefined ? "" : `?revision=${revision}`;
  return commands(
    curlKey(request.origin, key, "", query),
    etcdctl(request.origin, `get --print-value-only${at}`, key),
  );
}

/** The value as it is, as a file. */
export const keyValue: Page = {
  path: "/key/value",
  section: "keys",
  async render(request) {
    const { services, query } = request;
    const key = keyOf(query);
    await services.browser.confirm();
    const revision = await revisionOf(request);
    const { kv } = await getKey(services, key, revision ?? 0);
    if (kv === undefined) throw new Problem("key-not-found", "The key does not exist at that revision.");
    const name =
      titleOf(key)
        .replace(/[^\w.-]+/g, "_")
        .slice(-80) || "value";
    return {
      status: 200,
      headers: {
        "content-type": "application/octet-stream",
        "content-disposition": `attachment; filename="${name}"`,
        "content-length": String(kv.value.length),
      },
      body: kv.value,
    };
  },
};
