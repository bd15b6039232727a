/**
 * What etcd's KV answers, given the list of all changes: the state of any revision, and one request evaluated on it.
 * Fast enough for histories of a hundred thousand requests; `by-revision.test.ts` holds it against the random
 * histories of `test/model`, which is slow and obvious.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { type KeyValue, KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import {
  type Compare,
  type DeleteRangeRequest,
  type DeleteRangeResponse,
  type PutRequest,
  type PutResponse,
  type RangeRequest,
  RangeRequest_SortOrder as Order,
  RangeRequest_SortTarget as SortTarget,
  type RangeResponse,
  type TxnRequest,
  type TxnResponse,
} from "../../src/proto/gen/etcd/rpc_pb";
import { toBinaryString } from "../../src/bytes";
import type { RevisionChanges } from "../../src/state/types";
import { compareHolds, sortRank, within } from "../model/rules";

/** One version of a key; a tombstone has version 0. Keys and values are binary strings. */
export interface KvVersion {
  readonly key: string;
  readonly mod: number;
  readonly create: number;
  readonly version: number;
  readonly value: string;
  readonly lease: bigint;
}

/** A version as text, every field of it; equal exactly when the wire's messages are. */
export function versionText(version: KvVersion, keysOnly = false): string {
  const { key, mod, create, lease, value } = version;
  if (version.version === 0) return `${key} deleted@${mod}`;
  const held = lease === 0n ? "" : ` lease ${lease}`;
  return `${key}=${keysOnly ? "" : value} created@${create} @${mod} v${version.version}${held}`;
}

export function versionOf(kv: KeyValue): KvVersion {
  return {
    key: toBinaryString(kv.key),
    mod: Number(kv.modRevision),
    create: Number(kv.createRevision),
    version: Number(kv.version),
    value: toBinaryString(kv.value),
    lease: kv.lease,
  };
}

const kvText = (kv: KeyValue): string => versionText(versionOf(kv));

function lowerBound<Item>(sorted: readonly Item[], isBefore: (item: Item) => boolean): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBefore(sorted[middle]!)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The whole past: which version of each key lived at which revision. */
export class KvTimeline {
  readonly #versions = new Map<string, KvVersion[]>();
  readonly #keys: string[];
  readonly #byRevision = new Map<number, readonly KvVersion[]>();
  readonly #leased = new Map<bigint, Set<string>>();
  /** The newest revision; 1 when nothing ever changed. */
  readonly revision: number;

  /** `log` holds every revision from 2 on, in order. */
  constructor(log: readonly RevisionChanges[]) {
    let expected = 2;
    for (const { revision, changes } of log) {
      if (revision !== expected) throw new Error(`the log goes from revision ${expected - 1} to ${revision}`);
      expected++;
      const versions = changes.map(({ record }) => versionOf(fromBinary(KeyValueSchema, record)));
      this.#byRevision.set(revision, versions);
      for (const version of versions) {
        const known = this.#versions.get(version.key);
        if (known === undefined) this.#versions.set(version.key, [version]);
        else known.push(version);
        if (version.lease === 0n) continue;
        const keys = this.#leased.get(version.lease) ?? new Set();
        this.#leased.set(version.lease, keys.add(version.key));
      }
    }
    this.revision = expected - 1;
    this.#keys = [...this.#versions.keys()].sort();
  }

  /** What one revision changed, in order. */
  changes(revision: number): readonly KvVersion[] {
    return this.#byRevision.get(revision) ?? [];
  }

  /** The live version of a key just after `revision`. */
  at(key: string, revision: number): KvVersion | undefined {
    const versions = this.#versions.get(key) ?? [];
    const found = versions[lowerBound(versions, ({ mod }) => mod <= revision) - 1];
    return found === undefined || found.version === 0 ? undefined : found;
  }

  /** Live versions of a range just after `revision`, in key order. */
  live(start: string, end: string, revision: number): KvVersion[] {
    if (end === "") {
      const only = this.at(start, revision);
      return only === undefined ? [] : [only];
    }
    const found: KvVersion[] = [];
    for (let at = lowerBound(this.#keys, (key) => key < start); at < this.#keys.length; at++) {
      const key = this.#keys[at]!;
      if (end !== "\0" && key >= end) break;
      const version = this.at(key, revision);
      if (version !== undefined) found.push(version);
    }
    return found;
  }

  /** Keys that a lease held just after `revision`, in key order. */
  leased(lease: bigint, revision: number): string[] {
    return [...(this.#leased.get(lease) ?? [])]
      .filter((key) => this.at(key, revision)?.lease === lease)
      .sort();
  }
}

/** Thrown when a request would have been refused at this place. */
export class WouldRefuse extends Error {}

/** One request, evaluated on the state just after revision `base`; its changes would get the next revision. */
export class Evaluation {
  /** What it would change, in order. */
  readonly changes: KvVersion[] = [];
  readonly #overlay = new Map<string, KvVersion>();

  constructor(
    readonly timeline: KvTimeline,
    readonly base: number,
  ) {}

  #at(key: string): KvVersion | undefined {
    const own = this.#overlay.get(key);
    if (own === undefined) return this.timeline.at(key, this.base);
    return own.version === 0 ? undefined : own;
  }

  #live(start: string, end: string): KvVersion[] {
    if (this.#overlay.size === 0) return this.timeline.live(start, end, this.base);
    const found = this.timeline.live(start, end, this.base).filter(({ key }) => !this.#overlay.has(key));
    for (const version of this.#overlay.values()) {
      if (version.version > 0 && within(version.key, start, end)) found.push(version);
    }
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  #write(version: KvVersion): void {
    this.changes.push(version);
    this.#overlay.set(version.key, version);
  }

  range(request: RangeRequest): string {
    const asked = Number(request.revision);
    if (asked > this.base) throw new WouldRefuse("future revision");
    const [start, end] = [toBinaryString(request.key), toBinaryString(request.rangeEnd)];
    const all = asked > 0 ? this.timeline.live(start, end, asked) : this.#live(start, end);
    if (request.countOnly) return rangeText([], all.length, false);
    const bounds = {
      mod: [Number(request.minModRevision), Number(request.maxModRevision)],
      create: [Number(request.minCreateRevision), Number(request.maxCreateRevision)],
    } as const;
    const filtered = [...bounds.mod, ...bounds.create].some((bound) => bound !== 0);
    const limit = Number(request.limit);
    let found = all;
    // Without an order or a filter etcd stops one after the limit.
    if (request.sortOrder === Order.NONE && !filtered && limit > 0) found = found.slice(0, limit + 1);
    const inside = (value: number, [low, high]: readonly [number, number]): boolean =>
      (low === 0 || value >= low) && (high === 0 || value <= high);
    if (filtered) found = found.filter((v) => inside(v.mod, bounds.mod) && inside(v.create, bounds.create));
    if (request.sortOrder !== Order.NONE || request.sortTarget !== SortTarget.KEY) {
      const direction = request.sortOrder === Order.DESCEND ? -1 : 1;
      found = found.toSorted((a, b) => {
        const [x, y] = [sortRank(a, a.mod, request.sortTarget), sortRank(b, b.mod, request.sortTarget)];
        return x === y ? 0 : x < y ? -direction : direction;
      });
    }
    const more = limit > 0 && found.length > limit;
    if (more) found = found.slice(0, limit);
    return rangeText(
      found.map((version) => versionText(version, request.keysOnly)),
      all.length,
      more,
    );
  }

  put(request: PutRequest): string {
    const key = toBinaryString(request.key);
    const previous = this.#at(key);
    if ((request.ignoreValue || request.ignoreLease) && previous === undefined)
      throw new WouldRefuse("key not found");
    const mod = this.base + 1;
    this.#write({
      key,
      mod,
      create: previous?.create ?? mod,
      version: (previous?.version ?? 0) + 1,
      value: request.ignoreValue ? previous!.value : toBinaryString(request.value),
      lease: request.ignoreLease ? previous!.lease : request.lease,
    });
    return putText(request.prevKv && previous !== undefined ? versionText(previous) : undefined);
  }

  deleteRange(request: DeleteRangeRequest): string {
    const gone = this.#live(toBinaryString(request.key), toBinaryString(request.rangeEnd));
    for (const { key } of gone) {
      this.#write({ key, mod: this.base + 1, create: 0, version: 0, value: "", lease: 0n });
    }
    return deleteText(gone.length, request.prevKv ? gone.map((version) => versionText(version)) : []);
  }

  /** A txn; every compare, those of inner txns too, looks at the state before any of its changes. */
  txn(request: TxnRequest): string {
    const branches = new Map<TxnRequest, boolean>();
    const decide = (txn: TxnRequest): void => {
      const holds = txn.compare.every((compare) => this.#holds(compare));
      branches.set(txn, holds);
      for (const { request: op } of holds ? txn.success : txn.failure)
        if (op.case === "requestTxn") decide(op.value);
    };
    decide(request);
    return this.#run(request, branches);
  }

  #run(txn: TxnRequest, branches: ReadonlyMap<TxnRequest, boolean>): string {
    const succeeded = branches.get(txn)!;
    const answers = (succeeded ? txn.success : txn.failure).map(({ request: op }) => {
      switch (op.case) {
        case "requestRange":
          return this.range(op.value);
        case "requestPut":
          return this.put(op.value);
        case "requestDeleteRange":
          return this.deleteRange(op.value);
        case "requestTxn":
          return this.#run(op.value, branches);
        default:
          throw new WouldRefuse("an op without a request");
      }
    });
    return txnText(succeeded, answers);
  }

  #holds(compare: Compare): boolean {
    const found = this.timeline.live(
      toBinaryString(compare.key),
      toBinaryString(compare.rangeEnd),
      this.base,
    );
    return compareHolds(
      compare,
      found.map((version) => ({ version, mod: version.mod })),
    );
  }
}

// An answer as text: what an evaluation expects and what a client got are compared in this form, which is also
// what a failure prints.
const rangeText = (kvs: readonly string[], count: number, more: boolean): string =>
  `[${kvs.join(", ")}] count ${count}${more ? " more" : ""}`;
const putText = (previous: string | undefined): string =>
  `put${previous === undefined ? "" : `, before: ${previous}`}`;
const deleteText = (deleted: number, previous: readonly string[]): string =>
  `deleted ${deleted}${previous.length === 0 ? "" : `, before: ${previous.join(", ")}`}`;
const txnText = (succeeded: boolean, answers: readonly string[]): string =>
  `${succeeded ? "then" : "else"} {${answers.join("; ")}}`;

/** A client's answer in the same form as what `Evaluation` expects. */
export const answerText = {
  range: (reply: RangeResponse): string => rangeText(reply.kvs.map(kvText), Number(reply.count), reply.more),
  put: (reply: PutResponse): string => putText(reply.prevKv === undefined ? undefined : kvText(reply.prevKv)),
  deleteRange: (reply: DeleteRangeResponse): string =>
    deleteText(Number(reply.deleted), reply.prevKvs.map(kvText)),
  txn(reply: TxnResponse): string {
    const answers = reply.responses.map(({ response }) => {
      switch (response.case) {
        case "responseRange":
          return answerText.range(response.value);
        case "responsePut":
          return answerText.put(response.value);
        case "responseDeleteRange":
          return answerText.deleteRange(response.value);
        case "responseTxn":
          return answerText.txn(response.value);
        default:
          return "nothing";
      }
    });
    return txnText(reply.succeeded, answers);
  },
} as const;

/** True when a txn's answer says that something changed. */
export function txnChanged(reply: TxnResponse): boolean {
  return reply.responses.some(({ response }) => {
    if (response.case === "responsePut") return true;
    if (response.case === "responseDeleteRange") return response.value.deleted > 0n;
    return response.case === "responseTxn" && txnChanged(response.value);
  });
}
