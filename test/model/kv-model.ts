/**
 * An obvious model of the key-value store: every version ever written in one list, and again by key; every answer
 * is computed from them by looking. Without slices or storage; what it says is what etcd-wire section 8 says. Tests
 * compare the real thing with it.
 */
import { toBinaryString } from "../../src/bytes";
import type { RefusalName } from "../../src/errors";
import {
  type Compare,
  type PutRequest,
  type RangeRequest,
  RangeRequest_SortOrder as Order,
  type RequestOp,
  type TxnRequest,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { Command } from "../../src/proto/gen/keelson/command_pb";
import { compareHolds, sortRank, within } from "./rules";

/** One version of a key; a tombstone has version 0. */
export interface ModelVersion {
  readonly key: string;
  readonly main: number;
  readonly sub: number;
  readonly create: number;
  readonly version: number;
  readonly value: string;
  readonly lease: bigint;
}

export interface ModelRange {
  readonly revision: number;
  readonly count: number;
  readonly more: boolean;
  readonly records: string[];
}

export type ModelOpAnswer =
  | { readonly kind: "range"; readonly range: ModelRange }
  | { readonly kind: "put"; readonly revision: number; readonly previous: string | undefined }
  | {
      readonly kind: "delete-range";
      readonly revision: number;
      readonly deleted: number;
      readonly previous: string[];
    }
  | { readonly kind: "txn"; readonly txn: ModelTxn };

export interface ModelTxn {
  readonly succeeded: boolean;
  readonly answers: ModelOpAnswer[];
}

export type ModelResult =
  | { readonly kind: "refused"; readonly name: RefusalName; readonly revision: number }
  | { readonly kind: "txn"; readonly revision: number; readonly txn: ModelTxn }
  | Exclude<ModelOpAnswer, { kind: "range" | "txn" }>
  | { readonly kind: "other"; readonly revision: number };

class Refused extends Error {
  constructor(readonly refusal: RefusalName) {
    super(refusal);
  }
}

const text = toBinaryString;

const records = new WeakMap<ModelVersion, string>();

/** The stored form of a version: an mvccpb.KeyValue, written down field by field (`kv-model.test.ts`). */
export function modelRecord(version: ModelVersion, keysOnly = false): string {
  if (keysOnly) return encodeRecord(version, true);
  let record = records.get(version);
  if (record === undefined) records.set(version, (record = encodeRecord(version, false)));
  return record;
}

function encodeRecord(version: ModelVersion, keysOnly: boolean): string {
  const dead = version.version === 0;
  const bytes = (field: number, value: string): string =>
    value === "" ? "" : `${varint((field << 3) | 2)}${varint(value.length)}${value}`;
  const number = (field: number, value: number | bigint): string =>
    value === 0 || value === 0n ? "" : `${varint(field << 3)}${varint(value)}`;
  const mod = number(3, version.main);
  if (dead) return bytes(1, version.key) + mod;
  return (
    bytes(1, version.key) +
    number(2, version.create) +
    mod +
    number(4, version.version) +
    bytes(5, keysOnly ? "" : version.value) +
    number(6, version.lease)
  );
}

/** Of a number that is not negative, or of 64 bits; as a binary string. */
function varint(value: number | bigint): string {
  let text = "";
  let rest = typeof value === "bigint" ? BigInt.asUintN(64, value) : value;
  while (rest >= 128) {
    text += String.fromCharCode(Number(BigInt.asUintN(7, BigInt(rest))) | 128);
    rest = typeof rest === "bigint" ? rest >> 7n : Math.floor(rest / 128);
  }
  return text + String.fromCharCode(Number(rest));
}

export class KvModel {
  readonly versions: ModelVersion[] = [];
  readonly #byKey = new Map<string, ModelVersion[]>();
  /** Every key that ever was, sorted. */
  #keys: string[] = [];
  readonly leases = new Map<bigint, { granted: number; remaining: number }>();
  revision = 1;
  compacted = -1;
  /** Changes of the write that is under way. */
  #sub = 0;

  get #newest(): number {
    return this.#sub > 0 ? this.revision + 1 : this.revision;
  }

  /** The live versions in a range at a revision, in key order. */
  live(key: string, end: string, revision: number): ModelVersion[] {
    const found: ModelVersion[] = [];
    for (const candidate of end === "" ? [key] : this.#keys) {
      if (!within(candidate, key, end)) continue;
      const version = this.#byKey.get(candidate)?.findLast(({ main }) => main <= revision);
      if (version !== undefined && version.version > 0) found.push(version);
    }
    return found;
  }

  /** The version just before a revision, a tombstone included. */
  before(key: string, revision: number): ModelVersion | undefined {
    return this.#byKey.get(key)?.findLast(({ main }) => main < revision);
  }

  #write(version: ModelVersion): void {
    this.versions.push(version);
    const versions = this.#byKey.get(version.key);
    if (versions !== undefined) {
      versions.push(version);
      return;
    }
    this.#byKey.set(version.key, [version]);
    this.#keys.push(version.key);
    this.#keys.sort();
  }

  /** Takes back everything behind the first `count` versions. */
  #takeBack(count: number): void {
    while (this.versions.length > count) this.#byKey.get(this.versions.pop()!.key)!.pop();
  }

  /** Versions of revisions from..to, in the order in which they were written. */
  changes(from: number, to: number): ModelVersion[] {
    return this.versions.filter(({ main }) => main >= from && main <= to);
  }

  /** What remains after a complete compaction, but for tombstones at the compacted revision itself. */
  kept(): ModelVersion[] {
    const seen = new Set(this.live("\0", "\0", this.compacted));
    return this.versions.filter((version) => version.main > this.compacted || seen.has(version));
  }

  /**
   * What HashKV covers: of what compaction kept, what still lives at the hashed revision (all of it when nothing
   * does), and every version after the compaction.
   */
  hashed(revision: number): ModelVersion[] {
    const live = new Set(this.live("\0", "\0", revision));
    return this.kept().filter(
      (version) =>
        version.main <= revision && (version.main > this.compacted || live.size === 0 || live.has(version)),
    );
  }

  range(request: RangeRequest): ModelRange | RefusalName {
    const asked = Number(request.revision);
    if (asked > this.revision) return "futureRev";
    const at = asked <= 0 ? this.revision : asked;
    return at < this.compacted ? "compacted" : this.#range(request, at);
  }

  /** As a member answered whose newest revision was `at`, whatever was compacted since. */
  rangeAt(request: RangeRequest, at: number): ModelRange {
    const asked = Number(request.revision);
    return { ...this.#range(request, asked > 0 ? asked : at), revision: at };
  }

  #range(request: RangeRequest, at: number): ModelRange {
    const all = this.live(text(request.key), text(request.rangeEnd), at);
    const limit = Number(request.limit);
    const answer = { revision: this.#newest, count: all.length };
    if (request.countOnly) return { ...answer, more: false, records: [] };
    const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
    const filtered = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision].some(
      (b) => b !== 0n,
    );
    let found = all;
    if (request.sortOrder === Order.NONE && !filtered && limit > 0) found = found.slice(0, limit + 1);
    found = found.filter(
      ({ main, create: created }) =>
        (minModRevision === 0n || main >= minModRevision) &&
        (maxModRevision === 0n || main <= maxModRevision) &&
        (minCreateRevision === 0n || created >= minCreateRevision) &&
        (maxCreateRevision === 0n || created <= maxCreateRevision),
    );
    const direction = request.sortOrder === Order.DESCEND ? -1 : 1;
    found = found.toSorted((a, b) => {
      const [x, y] = [sortRank(a, a.main, request.sortTarget), sortRank(b, b.main, request.sortTarget)];
      return x === y ? 0 : x < y ? -direction : direction;
    });
    const more = limit > 0 && found.length > limit;
    if (more) found = found.slice(0, limit);
    return { ...answer, more, records: found.map((version) => modelRecord(version, request.keysOnly)) };
  }

  apply(command: Command): ModelResult {
    const before = this.versions.length;
    try {
      const result = this.#apply(command);
      if (this.#sub > 0) this.revision++;
      return result;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#takeBack(before);
      return { kind: "refused", name: error.refusal, revision: this.revision };
    } finally {
      this.#sub = 0;
    }
  }

  #apply({ operation }: Command): ModelResult {
    switch (operation.case) {
      case "put":
        return this.#put(operation.value, false);
      case "deleteRange": {
        const { key, rangeEnd, prevKv } = operation.value;
        return this.#delete(text(key), text(rangeEnd), prevKv);
      }
      case "txn":
        return this.#txn(operation.value);
      case "compaction": {
        const revision = Number(operation.value.revision);
        if (revision <= this.compacted) throw new Refused("compacted");
        if (revision > this.revision) throw new Refused("futureRev");
        this.compacted = revision;
        return { kind: "other", revision: this.revision };
      }
      case "leaseGrant": {
        const { ID, TTL } = operation.value;
        if (this.leases.has(ID)) throw new Refused("leaseExist");
        this.leases.set(ID, { granted: Number(TTL), remaining: Number(TTL) });
        return { kind: "other", revision: this.revision };
      }
      case "leaseRevoke": {
        const { id } = operation.value;
        if (!this.leases.has(id)) throw new Refused("leaseNotFound");
        for (const { key } of this.leased(id)) this.#delete(key, "", false);
        this.leases.delete(id);
        return { kind: "other", revision: this.#newest };
      }
      default:
        return { kind: "other", revision: this.revision };
    }
  }

  /** Live keys that a lease holds, in key order. */
  leased(id: bigint): ModelVersion[] {
    return this.live("\0", "\0", this.#newest).filter(({ lease }) => lease === id);
  }

  #put(request: PutRequest, inTxn: boolean): ModelOpAnswer & { kind: "put" } {
    const key = text(request.key);
    const previous = this.live(key, "", this.#newest)[0];
    const unknownLease = request.lease !== 0n && !this.leases.has(request.lease);
    // etcd looks at the lease first for a put of its own, and last for one inside a txn.
    if (unknownLease && !inTxn) throw new Refused("leaseNotFound");
    if ((request.ignoreValue || request.ignoreLease) && previous === undefined)
      throw new Refused("keyNotFound");
    if (unknownLease) throw new Refused("leaseNotFound");
    const main = this.revision + 1;
    this.#write({
      key,
      main,
      sub: this.#sub++,
      create: previous?.create ?? main,
      version: (previous?.version ?? 0) + 1,
      value: request.ignoreValue ? previous!.value : text(request.value),
      lease: request.ignoreLease ? previous!.lease : request.lease,
    });
    const answered = request.prevKv && previous !== undefined ? modelRecord(previous) : undefined;
    return { kind: "put", revision: this.#newest, previous: answered };
  }

  #delete(key: string, end: string, withPrevious: boolean): ModelOpAnswer & { kind: "delete-range" } {
    const gone = this.live(key, end, this.#newest);
    for (const { key: dead } of gone) {
      const main = this.revision + 1;
      this.#write({ key: dead, main, sub: this.#sub++, create: 0, version: 0, value: "", lease: 0n });
    }
    const previous = withPrevious ? gone.map((version) => modelRecord(version)) : [];
    return { kind: "delete-range", revision: this.#newest, deleted: gone.length, previous };
  }

  #txn(request: TxnRequest): ModelResult {
    const branches = this.#branches(request);
    const txn = this.#run(request, branches);
    return { kind: "txn", revision: this.#newest, txn };
  }

  /** Which branch each txn takes, by the state before any of them. */
  #branches(request: TxnRequest): Map<TxnRequest, boolean> {
    const branches = new Map<TxnRequest, boolean>();
    const visit = (txn: TxnRequest): void => {
      const holds = txn.compare.every((compare) => this.#holds(compare));
      branches.set(txn, holds);
      for (const { request: op } of holds ? txn.success : txn.failure) {
        if (op.case === "requestTxn") visit(op.value);
      }
    };
    visit(request);
    return branches;
  }

  #holds(compare: Compare): boolean {
    const found = this.live(text(compare.key), text(compare.rangeEnd), this.revision);
    return compareHolds(
      compare,
      found.map((version) => ({ version, mod: version.main })),
    );
  }

  #run(request: TxnRequest, branches: Map<TxnRequest, boolean>): ModelTxn {
    const succeeded = branches.get(request)!;
    const answers = (succeeded ? request.success : request.failure).map((op) => this.#op(op, branches));
    return { succeeded, answers };
  }

  #op({ request: op }: RequestOp, branches: Map<TxnRequest, boolean>): ModelOpAnswer {
    switch (op.case) {
      case "requestPut":
        return this.#put(op.value, true);
      case "requestDeleteRange":
        return this.#delete(text(op.value.key), text(op.value.rangeEnd), op.value.prevKv);
      case "requestTxn":
        return { kind: "txn", txn: this.#run(op.value, branches) };
      case "requestRange": {
        const asked = Number(op.value.revision);
        if (asked > this.revision) throw new Refused("futureRev");
        if (asked !== 0 && asked < this.compacted) throw new Refused("compacted");
        return { kind: "range", range: this.#range(op.value, asked > 0 ? asked : this.#newest) };
      }
      default:
        throw new Error("an op without a request is refused before it gets here");
    }
  }
}
