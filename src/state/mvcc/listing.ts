/**
 * Lists of keys for people: one level of the tree that a delimiter makes of keys, or all keys in order, or those with
 * some bytes in them. Works in slices at a pinned revision, and skips from one child of a prefix to the next.
 */
import { fromBinaryString } from "../../bytes";
import type { Revision } from "../../ids";
import type { KeyEntry } from "./key-entry";
import { encodeRecord, parseRecord } from "./record";
import type { MvccStore } from "./store";

/** How far the keys below a prefix are counted. */
export const listedCountMax = 1_000;
/** Visits that counting below one prefix of the past may cost; the newest revision is counted without visits. */
const countVisitsMax = 2_000;
/** Old versions, whose sizes only their rows know, end a slice after this many bytes. */
const sliceBytesMax = 4 * 1024 * 1024;

/** What is listed. All strings are binary: one character a byte. */
export interface ListingQuery {
  readonly prefix: string;
  /** Ends a level of the tree; undefined: no tree, all keys in order. */
  readonly delimiter?: string | undefined;
  /** Only keys with this somewhere behind the prefix; without a delimiter only. */
  readonly contains?: string | undefined;
  /** Begin at the first row that is not before this key. */
  readonly from?: string | undefined;
  readonly rowsMax: number;
}

/** A key without its value. */
export interface ListedKey {
  readonly kind: "key";
  readonly key: string;
  readonly create: Revision;
  readonly mod: Revision;
  readonly version: number;
  readonly lease: bigint;
  readonly valueBytes: number;
}

/** Keys that share a longer prefix. */
export interface ListedPrefix {
  readonly kind: "prefix";
  readonly prefix: string;
  /** Keys below it; at least so many when `more` is true. */
  readonly keys: number;
  readonly more: boolean;
}

export type ListedRow = ListedKey | ListedPrefix;

export interface ListingSlice {
  readonly rows: readonly ListedRow[];
  /** All of the page is there, or the range is at its end. */
  readonly done: boolean;
  /** Where the next page begins; undefined: there is none. */
  readonly next: string | undefined;
  /** Keys that were looked at. */
  readonly visited: number;
}

/** The end of the range of keys with a prefix; undefined: to the end. */
export function prefixEndOf(prefix: string): string | undefined {
  for (let at = prefix.length - 1; at >= 0; at--) {
    const code = prefix.charCodeAt(at);
    if (code < 0xff) return prefix.slice(0, at) + String.fromCharCode(code + 1);
  }
  return undefined;
}

/** One page being read. The caller holds a pin at `at`. */
export class ListingRun {
  readonly #high: string | undefined;
  #from: string;
  #left: number;
  #ended = false;

  constructor(
    readonly store: MvccStore,
    readonly query: ListingQuery,
    /** The revision at which keys are listed. */
    readonly at: Revision,
  ) {
    const { prefix, from, rowsMax } = query;
    this.#high = prefixEndOf(prefix);
    this.#from = from === undefined || from < prefix ? prefix : from;
    this.#left = rowsMax;
  }

  /** Works through about `visitsMax` keys. */
  next(visitsMax: number): ListingSlice {
    const rows: ListedRow[] = [];
    let visited = 0;
    let bytes = 0;
    while (!this.#ended && this.#left > 0 && visited < visitsMax && bytes < sliceBytesMax) {
      const found = this.#seek(visitsMax - visited);
      visited += found.visited;
      if (found.key === undefined) continue;
      const child = this.#childOf(found.key);
      if (child === undefined) {
        const row = this.#row(found.key, found.entry!);
        if (found.entry!.main > this.at) bytes += row.valueBytes;
        rows.push(row);
        this.#from = `${found.key}\0`;
      } else {
        const counted = this.#count(child);
        visited += counted.visited;
        rows.push(counted.row);
        const end = prefixEndOf(child);
        if (end === undefined) this.#ended = true;
        else this.#from = end;
      }
      this.#left--;
    }
    if (!this.#ended && this.#high !== undefined && this.#from >= this.#high) this.#ended = true;
    if (!this.#ended && this.#left === 0) {
      const rest = this.#seek(visitsMax);
      // Enough is known for a page: whether there is another one may stay open after a long search.
      if (rest.key === undefined && this.#ended) return { rows, done: true, next: undefined, visited };
      return { rows, done: true, next: rest.key ?? this.#from, visited: visited + rest.visited };
    }
    return { rows, done: this.#ended, next: this.#ended ? undefined : this.#from, visited };
  }

  /** The next key that belongs into the list; moves on behind what does not. */
  #seek(visitsMax: number): { key?: string; entry?: KeyEntry; visited: number } {
    const { index, writingRevision } = this.store;
    const { prefix, contains } = this.query;
    let visited = 0;
    let found: { key: string; entry: KeyEntry } | undefined;
    let last = "";
    let cut = false;
    const visit = (key: string, entry: KeyEntry): boolean => {
      visited++;
      if (
        entry.sequenceAt(this.at) > 0 &&
        (contains === undefined || key.includes(contains, prefix.length))
      ) {
        found = { key, entry };
        return false;
      }
      last = key;
      cut = visited >= visitsMax;
      return !cut;
    };
    if (this.at >= writingRevision) index.walkLive(this.#from, this.#high, visit);
    else index.walk(this.#from, this.#high, visit);
    if (found !== undefined) return { ...found, visited };
    if (cut) this.#from = `${last}\0`;
    else this.#ended = true;
    return { visited };
  }

  /** The longer prefix that a key is listed under; undefined when it stands for itself. */
  #childOf(key: string): string | undefined {
    const { prefix, delimiter } = this.query;
    if (delimiter === undefined) return undefined;
    const at = key.indexOf(delimiter, prefix.length);
    return at === -1 ? undefined : key.slice(0, at + delimiter.length);
  }

  #count(prefix: string): { readonly row: ListedPrefix; readonly visited: number } {
    const { index, writingRevision } = this.store;
    const high = prefixEndOf(prefix);
    if (this.at >= writingRevision) {
      const keys = index.countLive(prefix, high);
      const row: ListedPrefix = {
        kind: "prefix",
        prefix,
        keys: Math.min(keys, listedCountMax),
        more: keys > listedCountMax,
      };
      return { row, visited: 1 };
    }
    let keys = 0;
    let visited = 0;
    let more = false;
    index.walk(prefix, high, (_key, entry) => {
      if (entry.sequenceAt(this.at) > 0) keys++;
      more = keys > listedCountMax || ++visited >= countVisitsMax;
      return !more;
    });
    return { row: { kind: "prefix", prefix, keys: Math.min(keys, listedCountMax), more }, visited };
  }

  #row(key: string, entry: KeyEntry): ListedKey {
    const { rows } = this.store;
    const sequence = entry.sequenceAt(this.at);
    if (entry.main > this.at) {
      const { create, mod, version, lease, valueStart, valueEnd } = parseRecord(rows.read(sequence));
      return { kind: "key", key, create, mod, version, lease, valueBytes: valueEnd - valueStart };
    }
    const { main, create, version, lease } = entry;
    const bare = encodeRecord(fromBinaryString(key), create, main, version, noBytes, lease?.encodedId);
    return {
      kind: "key",
      key,
      create,
      mod: main,
      version,
      lease: lease?.id ?? 0n,
      valueBytes: valueLength(rows.recordBytes(sequence) - bare.length),
    };
  }
}

const noBytes = new Uint8Array(0);

/** The length of a value whose field takes so many bytes: a tag, a length of one byte per seven bits, the value. */
function valueLength(fieldBytes: number): number {
  if (fieldBytes === 0) return 0;
  for (let lengthBytes = 1; ; lengthBytes++) {
    const value = fieldBytes - 1 - lengthBytes;
    if (value < 0x80 ** lengthBytes) return value;
  }
}
