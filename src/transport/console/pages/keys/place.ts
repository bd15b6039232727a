/** What a page of keys shows, as its address says it. */
import { isUtf8 } from "node:buffer";
import { toBinaryString } from "../../../../bytes";
import { Problem } from "../../../rest/problem";
import { base64UrlDecode } from "../../../rest/target";
import type { Form } from "../../form";
import type { PageRequest } from "../../page";
import { address, type Query } from "../../query";
import { countOf } from "../../text";

/** Levels that may be open inside a page at the same time. */
export const openMax = 16;

type Parameters = Readonly<Record<string, string | number | bigint | Uint8Array | boolean | undefined>>;

export interface KeysPlace {
  readonly prefix: Uint8Array;
  /** Ends a level; empty: a flat list. */
  readonly delimiter: Uint8Array;
  /** Only keys with this in them, as a flat list. */
  readonly find: Uint8Array;
  /** Where the page begins. */
  readonly from: Uint8Array | undefined;
  /** Prefixes whose children are shown below them. */
  readonly open: readonly Uint8Array[];
  /** The revision that is shown; undefined: the newest. */
  readonly revision: number | undefined;
}

const slash = Buffer.from("/");
const none = new Uint8Array(0);

/** Bytes of a query: `name` as they are, or `name64` in base64url. Throws a Problem. */
export function queryBytes(query: Query, name: string): Uint8Array | undefined {
  const coded = query.text(`${name}64`);
  if (coded === undefined) return query.bytes(name);
  const bytes = base64UrlDecode(coded);
  if (bytes === undefined) throw new Problem("bad-base64", `The parameter ${name}64 is not base64url.`);
  return bytes;
}

/** A hidden field in base64url. Throws a Problem. */
export function formBytes(form: Form, name: string): Uint8Array | undefined {
  const coded = form.text(`${name}64`);
  if (coded === undefined) return undefined;
  const bytes = base64UrlDecode(coded);
  if (bytes === undefined) throw new Problem("bad-base64", `The field ${name}64 is not base64url.`);
  return bytes;
}

/** Bytes as a parameter of an address: readable where they are text. */
export function parameter(name: string, bytes: Uint8Array | undefined): Parameters {
  if (bytes === undefined || bytes.length === 0) return {};
  return isUtf8(bytes) && !bytes.includes(0)
    ? { [name]: bytes }
    : { [`${name}64`]: Buffer.from(bytes).toString("base64url") };
}

export function base64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

/** Reads the place that an address names; the time it may name was turned into a revision before. */
export function placeOf(query: Query, revision: number | undefined): KeysPlace {
  const find = queryBytes(query, "find") ?? none;
  const delimiter = query.has("delimiter") ? query.bytes("delimiter")! : slash;
  return {
    prefix: queryBytes(query, "prefix") ?? none,
    delimiter: find.length > 0 || query.text("view") === "flat" ? none : delimiter,
    find,
    from: queryBytes(query, "from"),
    open: query
      .allBytes("open")
      .map((coded) => base64UrlDecode(Buffer.from(coded).toString("latin1")))
      .filter((bytes) => bytes !== undefined)
      .slice(0, openMax),
    revision,
  };
}

/** The address of a place. What changes the list begins it anew: pages and open levels belong to one list. */
export function keysHref(place: KeysPlace, change: Partial<KeysPlace> = {}): string {
  const base = "from" in change || "open" in change ? place : { ...place, from: undefined, open: [] };
  const { prefix, delimiter, find, from, open, revision } = { ...base, ...change };
  const href = address("/ui/keys", {
    ...parameter("prefix", prefix),
    ...(delimiter.length === 0
      ? find.length > 0
        ? {}
        : { view: "flat" }
      : Buffer.from(delimiter).equals(slash)
        ? {}
        : { delimiter }),
    ...parameter("find", find),
    ...parameter("from", from),
    ...(revision === undefined ? {} : { rev: revision }),
  });
  return open.reduce((text, one) => `${text}${text.includes("?") ? "&" : "?"}open=${base64Url(one)}`, href);
}

/** The address of a key, or of a page about it. */
export function keyHref(
  key: Uint8Array,
  page: "" | "/history" | "/edit" | "/restore" | "/delete" | "/value" = "",
  more: Parameters = {},
): string {
  return address(`/ui/key${page}`, { ...parameter("k", key), ...more });
}

/** The key that a request names. Throws a Problem. */
export function keyOf(query: Query): Uint8Array {
  const key = queryBytes(query, "k");
  if (key === undefined || key.length === 0) throw new Problem("empty-key", "The address names no key.");
  return key;
}

/** Where the levels of a prefix end, longest last: for the trail. */
export function levelsOf({ prefix, delimiter }: KeysPlace): Uint8Array[] {
  if (delimiter.length === 0) return prefix.length === 0 ? [] : [prefix];
  const text = toBinaryString(prefix);
  const mark = toBinaryString(delimiter);
  const levels: Uint8Array[] = [];
  for (let at = text.indexOf(mark); at !== -1; at = text.indexOf(mark, at + mark.length)) {
    levels.push(prefix.subarray(0, at + mark.length));
  }
  if ((levels.at(-1)?.length ?? 0) < prefix.length) levels.push(prefix);
  return levels;
}

/** The moment or revision that an address names, as a revision; undefined: now. Throws a Problem. */
export async function revisionOf({ query, services }: PageRequest): Promise<number | undefined> {
  const given = query.text("rev") ?? query.text("at")?.trim() ?? "";
  if (/^\d{1,15}$/.test(given)) return Number(given) === 0 ? undefined : retained(Number(given), services);
  const time = query.text("time") ?? given;
  if (time === "") return undefined;
  const timeMs = momentOf(time);
  if (timeMs === undefined) {
    throw new Problem("bad-parameter", "This is neither a revision nor a time.", {
      fix: "Write a revision such as 812, or a time in UTC such as 2030-01-02 03:04:05.",
    });
  }
  const revision = await services.history.revisionAt(timeMs, true);
  if (revision === undefined) {
    throw new Problem("compacted", "Nothing is known of that time: it lies before all retained history.", {
      fix: "Choose a later time, or the oldest revision that is left.",
    });
  }
  return revision;
}

/** The revision, if it can be shown. Throws a Problem that says which ones can. */
function retained(revision: number, { store }: PageRequest["services"]): number {
  if (revision > store.revision) {
    throw new Problem("bad-parameter", `There is no revision ${countOf(revision)} yet.`, {
      fix: `The newest is ${countOf(store.revision)}: choose that or an older one.`,
    });
  }
  if (revision < store.compactedRevision) {
    throw new Problem("compacted", `Revision ${countOf(revision)} was compacted: what it was is forgotten.`, {
      fix: `The oldest that is left is ${countOf(store.compactedRevision)}.`,
    });
  }
  return revision;
}

/** A time as people write it, in UTC unless it says otherwise; undefined when it is none. */
export function momentOf(text: string): number | undefined {
  const found =
    /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?))?\s*(Z|UTC|[+-]\d{2}:\d{2})?$/i.exec(
      text.trim(),
    );
  if (found === null) return undefined;
  const [, day, hours = "00:00", zone = "Z"] = found;
  const timeMs = Date.parse(`${day}T${hours}${zone.toUpperCase() === "UTC" ? "Z" : zone.toUpperCase()}`);
  return Number.isNaN(timeMs) ? undefined : timeMs;
}
