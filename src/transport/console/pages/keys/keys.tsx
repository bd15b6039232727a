/** @jsxImportSource #console */
/** Keys: the tree that a delimiter makes of them, a flat list, a search; at any retained revision. */
import { fromBinaryString, toBinaryString } from "../../../../bytes";
import type { KeyPage, ListedKey, ListedPrefix } from "../../../../service/key-browser";
import { Empty } from "../../components/boxes";
import { Button, LinkButton } from "../../components/button";
import { Field, QueryForm, Select, TextInput } from "../../components/form";
import { Icon } from "../../components/icon";
import { type Column, Table } from "../../components/table";
import { Amount, Bytes, Commands, Time } from "../../components/values";
import type { Child, Html } from "../../html";
import type { Page, PageContent, PageRequest } from "../../page";
import { address } from "../../query";
import { bytesOf, countOf, plural } from "../../text";
import { fieldText, plainLine } from "../../values/visible";
import { PastBanner, refusalOf, StaleNotice } from "./banners";
import { bytesParameter, commands, curl, etcdctl } from "./commands";
import {
  base64Url,
  keyHref,
  keysHref,
  type KeysPlace,
  levelsOf,
  openMax,
  parameter,
  placeOf,
  revisionOf,
} from "./place";
import { countKeys, prefixRange } from "./store";

const rowsMax = 100;
/** Children of a level that is open inside a page; the rest has a page of its own. */
const openRowsMax = 50;

/** A line of the tree. */
type Line =
  | { readonly kind: "prefix"; readonly depth: number; readonly row: ListedPrefix; readonly open: boolean }
  | { readonly kind: "key"; readonly depth: number; readonly row: ListedKey; readonly parentBytes: number }
  /** What an open level has beyond its first lines. */
  | { readonly kind: "rest"; readonly depth: number; readonly prefix: Uint8Array };

export const keys: Page = {
  path: "/keys",
  section: "keys",
  async render(request): Promise<PageContent> {
    const { services, query } = request;
    const fresh = await services.browser.confirm();
    const revision = await revisionOf(request);
    const place = placeOf(query, revision);
    const page = await services.browser.page(
      {
        prefix: toBinaryString(place.prefix),
        rowsMax,
        delimiter: place.delimiter.length === 0 ? undefined : toBinaryString(place.delimiter),
        contains: place.find.length === 0 ? undefined : toBinaryString(place.find),
        from: place.from === undefined ? undefined : toBinaryString(place.from),
      },
      revision ?? 0,
    );
    const count = revision === undefined ? await countKeys(services, prefixRange(place.prefix)) : undefined;
    const passed =
      place.find.length > 0 && revision === undefined && page.next !== undefined
        ? await passedKeys(request, place, page.next)
        : undefined;
    const lines = await linesOf(request, place, page);
    const off = refusalOf(revision, fresh);
    return {
      title: "Keys",
      wide: true,
      actions: <Actions place={place} off={off} />,
      body: (
        <div>
          {revision !== undefined && (
            <PastBanner
              request={request}
              revision={revision}
              now={page.revision}
              href={({ rev, time }) => {
                const href = keysHref(place, { revision: rev, from: place.from, open: place.open });
                return time === undefined
                  ? href
                  : `${href}${href.includes("?") ? "&" : "?"}time=${encodeURIComponent(time)}`;
              }}
            />
          )}
          {!fresh && <StaleNotice request={request} />}
          <Filter place={place} />
          <Head place={place} count={count} off={off} />
          {place.find.length > 0 && lines.length > 0 && (
            <Progress place={place} page={page} count={count} passed={passed} />
          )}
          {lines.length === 0 ? (
            <Nothing request={request} place={place} page={page} count={count} passed={passed} />
          ) : (
            <QueryForm action="/keys/delete" class="bare">
              <Table
                caption={place.prefix.length === 0 ? "Keys" : `Keys below ${plainLine(place.prefix, 60)}`}
                class="keys"
                columns={columnsOf(request, place, off, lines)}
                rows={lines}
                rowId={(line) =>
                  line.kind === "prefix" ? idOf(fromBinaryString(line.row.prefix)) : undefined
                }
                rowHref={(line) => hrefOf(line, place)}
              />
              <div class="list-foot">
                {off === undefined && (
                  <span class="choose">
                    <Button kind="secondary" icon="trash-2">
                      Delete chosen
                    </Button>
                  </span>
                )}
                <Pages place={place} page={page} />
              </div>
            </QueryForm>
          )}
          <details class="disclosure same">
            <summary>
              <Icon name="chevron-right" />
              The same by command
            </summary>
            <div>
              <Commands title="These keys" of={listCommands(request, place)} />
            </div>
          </details>
        </div>
      ),
    };
  },
};

function Actions({ place, off }: { readonly place: KeysPlace; readonly off: string | undefined }): Html {
  return (
    <>
      <LinkButton href="/ui/keys/import" icon="upload" reason={off}>
        Import
      </LinkButton>
      <LinkButton
        href={address("/ui/key/new", parameter("prefix", place.prefix))}
        kind="primary"
        icon="plus"
        reason={off}
      >
        New key
      </LinkButton>
    </>
  );
}

const levelOptions = [
  { value: "/", text: "/ slash" },
  { value: ".", text: ". dot" },
  { value: ":", text: ": colon" },
  { value: "-", text: "- dash" },
  { value: "_", text: "_ underscore" },
  { value: "|", text: "| bar" },
  { value: "", text: "none: flat list" },
] as const;

function Filter({ place }: { readonly place: KeysPlace }): Html {
  const prefix = fieldText(place.prefix);
  const find = fieldText(place.find);
  const delimiter = Buffer.from(place.delimiter).toString();
  const known = levelOptions.some(({ value }) => value === delimiter);
  return (
    <QueryForm action="/keys" class="inline filter" role="search">
      {prefix === undefined ? (
        <>
          <input type="hidden" name="prefix64" value={base64Url(place.prefix)} />
          <div class="field">
            <span class="label">Prefix</span>
            <span class="input mono still">
              <Bytes of={place.prefix} bytesMax={60} />
            </span>
          </div>
        </>
      ) : (
        <Field label="Prefix" for="prefix">
          <TextInput id="prefix" name="prefix" mono value={prefix} width={28} placeholder="all keys" />
        </Field>
      )}
      <Field label="Contains" for="find">
        <TextInput
          id="find"
          name="find"
          type="search"
          mono
          value={find}
          width={20}
          placeholder="in the key"
        />
      </Field>
      <Field label="Levels end at" for="delimiter">
        <Select
          id="delimiter"
          name="delimiter"
          value={place.find.length > 0 ? "/" : delimiter}
          options={known ? levelOptions : [{ value: delimiter, text: delimiter }, ...levelOptions]}
        />
      </Field>
      <Field label="As of" for="at">
        <TextInput
          id="at"
          name="at"
          width={20}
          value={place.revision ?? ""}
          placeholder="now, or revision, or time"
        />
      </Field>
      <Button icon="search">Show</Button>
    </QueryForm>
  );
}

function Head({
  place,
  count,
  off,
}: {
  readonly place: KeysPlace;
  readonly count: number | undefined;
  readonly off: string | undefined;
}): Html {
  const levels = levelsOf(place);
  const more = { ...parameter("prefix", place.prefix) };
  const whole = place.prefix.length === 0;
  let before = 0;
  return (
    <div class="list-head">
      <nav class="path" aria-label="Prefix">
        <a href={keysHref(place, { prefix: new Uint8Array(0) })} aria-current={whole ? "page" : undefined}>
          All keys
        </a>
        {levels.map((level, at) => {
          const part = level.subarray(before);
          before = level.length;
          return (
            <a
              href={keysHref(place, { prefix: level })}
              aria-current={at === levels.length - 1 ? "page" : undefined}
            >
              <Bytes of={part} bytesMax={48} />
            </a>
          );
        })}
      </nav>
      <p class="muted">
        {count === undefined ? "" : `${plural(count, "key")} · `}
        {place.find.length > 0 ? "search" : place.delimiter.length === 0 ? "flat list" : "by level"}
      </p>
      {count !== 0 && (
        <div class="actions">
          <LinkButton
            href={address("/ui/keys/export", { ...more, ...at(place) })}
            kind="quiet"
            icon="download"
          >
            Export
          </LinkButton>
          <LinkButton href={address("/ui/keys/copy", more)} kind="quiet" icon="copy" reason={off}>
            Copy
          </LinkButton>
          <LinkButton
            href={address("/ui/keys/delete", whole ? { prefix: "" } : more)}
            kind="quiet"
            icon="trash-2"
            reason={off}
          >
            {whole ? "Delete all" : "Delete prefix"}
          </LinkButton>
        </div>
      )}
    </div>
  );
}

/** The lines of a page, with the levels that are open inside it. */
async function linesOf(request: PageRequest, place: KeysPlace, page: KeyPage): Promise<readonly Line[]> {
  const open = new Set(place.open.map(toBinaryString));
  const lines: Line[] = [];
  const add = async ({ rows }: KeyPage, depth: number, parentBytes: number): Promise<void> => {
    for (const row of rows) {
      if (row.kind === "key") {
        lines.push({ kind: "key", depth, row, parentBytes });
        continue;
      }
      const shown = open.has(row.prefix) && depth < openMax;
      lines.push({ kind: "prefix", depth, row, open: shown });
      if (!shown) continue;
      const inner = await request.services.browser.page(
        { prefix: row.prefix, delimiter: toBinaryString(place.delimiter), rowsMax: openRowsMax },
        page.at,
      );
      await add(inner, depth + 1, row.prefix.length);
      if (inner.next !== undefined) {
        lines.push({ kind: "rest", depth: depth + 1, prefix: fromBinaryString(row.prefix) });
      }
    }
  };
  await add(page, 0, place.prefix.length);
  return lines;
}

function idOf(prefix: Uint8Array): string {
  return `level-${base64Url(prefix)}`;
}

function hrefOf(line: Line, place: KeysPlace): string {
  if (line.kind === "rest") return keysHref(place, { prefix: line.prefix });
  if (line.kind === "prefix") return keysHref(place, { prefix: fromBinaryString(line.row.prefix) });
  return keyHref(fromBinaryString(line.row.key), "", at(place));
}

const at = ({ revision }: KeysPlace): { readonly rev?: number } =>
  revision === undefined ? {} : { rev: revision };

function columnsOf(
  request: PageRequest,
  place: KeysPlace,
  off: string | undefined,
  lines: readonly Line[],
): Column<Line>[] {
  const { services, nowMs } = request;
  const choose: Column<Line> = {
    head: "Choose",
    headContent: <span class="unseen">Choose</span>,
    priority: 3,
    cell: (line) => {
      if (line.kind === "rest" || line.depth > 0) return undefined;
      const bytes = fromBinaryString(line.kind === "prefix" ? line.row.prefix : line.row.key);
      return (
        <input
          type="checkbox"
          name={line.kind === "prefix" ? "prefix64" : "k64"}
          value={base64Url(bytes)}
          aria-label={`Choose ${plainLine(bytes, 80)}`}
        />
      );
    },
  };
  const keyCell =
    (cell: (row: ListedKey) => Child) =>
    (line: Line): Child =>
      line.kind === "key" ? cell(line.row) : undefined;
  return [
    ...(off === undefined ? [choose] : []),
    { head: "Key", names: true, cell: (line) => nameCell(line, place) },
    ...(!lines.some(({ kind }) => kind === "prefix")
      ? []
      : [
          {
            head: "Keys",
            numeric: true,
            priority: 2 as const,
            cell: (line: Line) =>
              line.kind === "prefix" &&
              (line.row.more ? `${countOf(line.row.keys)}+` : countOf(line.row.keys)),
          },
        ]),
    { head: "Size", numeric: true, cell: keyCell((row) => <Amount of={bytesOf(row.valueBytes)} />) },
    { head: "Version", numeric: true, priority: 3, cell: keyCell((row) => countOf(row.version)) },
    { head: "Revision", numeric: true, cell: keyCell((row) => countOf(row.mod)) },
    {
      head: "Changed",
      cell: keyCell((row) => {
        const timeMs = services.history.timeOf(BigInt(row.mod));
        return timeMs === undefined ? (
          <span class="unknown">not known</span>
        ) : (
          <Time atMs={timeMs} nowMs={nowMs} />
        );
      }),
    },
    {
      head: "Lease",
      priority: 3,
      cell: keyCell((row) => row.lease !== 0n && <code class="muted">{row.lease.toString(16)}</code>),
    },
  ];
}

function nameCell(line: Line, place: KeysPlace): Html {
  const depth = `name depth-${line.depth}`;
  if (line.kind === "rest") {
    return (
      <span class={depth}>
        <span class="twist" />
        <a href={keysHref(place, { prefix: line.prefix })}>More in this level</a>
      </span>
    );
  }
  const whole = fromBinaryString(line.kind === "prefix" ? line.row.prefix : line.row.key);
  if (line.kind === "key") {
    const flat = place.delimiter.length === 0;
    const part = flat ? whole : whole.subarray(line.parentBytes);
    return (
      <span class={flat ? "name flat" : depth}>
        {!flat && <span class="twist" />}
        <Icon name="file" />
        <a href={keyHref(whole, "", at(place))}>
          <Bytes of={part.length === 0 ? whole : part} />
        </a>
      </span>
    );
  }
  const others = place.open.filter((one) => !Buffer.from(one).equals(whole));
  const open = line.open ? others : [...others, whole].slice(-openMax);
  const shown = Buffer.from(whole).subarray(parentBytesOf(line, place));
  // Back at the same line, not at the top of the page.
  const href = `${keysHref(place, { open, from: place.from })}#${idOf(whole)}`;
  return (
    <span class={depth}>
      <a
        class={line.open ? "twist open" : "twist"}
        href={href}
        aria-expanded={line.open ? "true" : "false"}
        aria-label={`${line.open ? "Close" : "Open"} ${plainLine(shown, 60)}`}
      >
        <Icon name="chevron-right" />
      </a>
      <Icon name={line.open ? "folder-open" : "folder"} />
      <a href={keysHref(place, { prefix: whole })}>
        <Bytes of={shown} />
      </a>
    </span>
  );
}

/** Where the name of a child begins: behind the level that it is in. */
function parentBytesOf(line: Extract<Line, { kind: "prefix" }>, place: KeysPlace): number {
  const mark = toBinaryString(place.delimiter);
  const before = line.row.prefix.slice(0, -mark.length).lastIndexOf(mark);
  return Math.max(place.prefix.length, before === -1 ? 0 : before + mark.length);
}

function Pages({ place, page }: { readonly place: KeysPlace; readonly page: KeyPage }): Html {
  const { next } = page;
  return (
    <nav class="pages" aria-label="Pages of this list">
      {place.from !== undefined && (
        <LinkButton href={keysHref(place, { from: undefined, open: [] })} kind="quiet">
          First page
        </LinkButton>
      )}
      {next !== undefined && (
        <LinkButton href={keysHref(place, { from: fromBinaryString(next), open: [] })} icon="arrow-right">
          {page.full ? "Next page" : "Continue"}
        </LinkButton>
      )}
    </nav>
  );
}

/** Keys that a search has behind it, over all of its pages. */
function passedKeys(request: PageRequest, place: KeysPlace, next: string): Promise<number> {
  const { key } = prefixRange(place.prefix);
  return countKeys(request.services, { key, rangeEnd: fromBinaryString(next) });
}

/** How far a search came: a page looks at so many keys and then says so. */
function Progress({
  place,
  page,
  count,
  passed,
}: {
  readonly place: KeysPlace;
  readonly page: KeyPage;
  readonly count: number | undefined;
  readonly passed: number | undefined;
}): Html {
  const found = page.rows.length;
  const whole =
    count === undefined || passed === undefined ? "" : `, ${countOf(passed)} of ${countOf(count)} in all`;
  return (
    <p class="progress" role="status">
      {page.next === undefined
        ? `${plural(found, "key")} on this page; the search is at its end.`
        : page.full
          ? `${plural(found, "key")} on this page; there may be more.`
          : `${plural(found, "key")} in the ${countOf(page.visited)} keys that this page looked at${whole}. `}
      {page.next !== undefined && !page.full && (
        <a href={keysHref(place, { from: fromBinaryString(page.next), open: [] })}>Continue the search</a>
      )}
    </p>
  );
}

function Nothing({
  request,
  place,
  page,
  count,
  passed,
}: {
  readonly request: PageRequest;
  readonly place: KeysPlace;
  readonly page: KeyPage;
  readonly count: number | undefined;
  readonly passed: number | undefined;
}): Html {
  if (page.next !== undefined) {
    return (
      <Empty
        title={
          passed === undefined || count === undefined
            ? `Nothing found in the ${countOf(page.visited)} keys that this page looked at`
            : `Nothing found yet: ${countOf(passed)} of ${countOf(count)} keys looked at`
        }
      >
        <Pages place={place} page={page} />
      </Empty>
    );
  }
  if (place.find.length > 0) {
    return (
      <Empty
        title={`No key ${place.prefix.length > 0 ? "below this prefix " : ""}has “${plainLine(place.find, 60)}” in it`}
      >
        <p>Searches look for exactly these bytes, upper and lower case told apart.</p>
      </Empty>
    );
  }
  if (place.prefix.length > 0) {
    return (
      <Empty title={count === undefined ? "No key had this prefix then" : "No key has this prefix"}>
        <LinkButton href={keysHref(place, { prefix: new Uint8Array(0) })}>Show all keys</LinkButton>
      </Empty>
    );
  }
  return (
    <Empty title={count === undefined ? "There were no keys then" : "There are no keys yet"}>
      {count !== undefined && (
        <>
          <LinkButton href="/ui/key/new" icon="plus">
            Put the first key
          </LinkButton>
          <Commands
            title="Or by command"
            of={commands(
              curl(request.origin, "/kv/greeting", "-X PUT -d hello"),
              etcdctl(request.origin, "put", Buffer.from("greeting"), Buffer.from("hello")),
            )}
          />
        </>
      )}
    </Empty>
  );
}

function listCommands(request: PageRequest, place: KeysPlace): ReturnType<typeof commands> {
  const { prefix, find, revision } = place;
  const query = [
    bytesParameter("prefix", prefix),
    ...(find.length > 0 ? [bytesParameter("contains", find)] : []),
    ...(revision === undefined ? [] : [`revision=${revision}`]),
    "keysOnly=true",
  ].join("&");
  const at = revision === undefined ? "" : ` --rev=${revision}`;
  return commands(
    curl(request.origin, `/keys?${query}`),
    find.length > 0 ? undefined : etcdctl(request.origin, `get --prefix --keys-only${at}`, prefix),
  );
}
