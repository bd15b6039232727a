/**
 * Transactions, and the range deletes that they share with plain requests (etcd-wire 8.3, 8.4). Written as
 * generators: they yield when a slice's worth of keys is done, and finish at once when there is little to do.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { InvariantError } from "../assert";
import { compareBytes, emptyBytes, toBinaryString } from "../bytes";
import type { RefusalName } from "../errors";
import type { Revision } from "../ids";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import {
  type Compare,
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  DeleteRangeResponseSchema,
  type DeleteRangeRequest,
  PutResponseSchema,
  type PutRequest,
  type RangeRequest,
  RangeResponseSchema,
  type RequestOp,
  ResponseHeaderSchema,
  type ResponseOp,
  ResponseOpSchema,
  type TxnRequest,
  type TxnResponse,
  TxnResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { KeyEntry } from "./mvcc/key-entry";
import { keyRange, type KeyRange } from "./mvcc/key-range";
import { KeyRanges } from "./mvcc/key-ranges";
import { RangeRun } from "./mvcc/range";
import { recordValue } from "./mvcc/record";
import type { MvccStore, VersionView } from "./mvcc/store";

/** Keys that a long apply works through between two yields. */
export interface Slice {
  readonly keys: number;
  left: number;
}

/** Work that may take several slices. */
export type Steps<Outcome> = Generator<undefined, Outcome, undefined>;

export function* spend(slice: Slice, keys: number): Steps<void> {
  slice.left -= keys;
  if (slice.left > 0) return;
  yield undefined;
  slice.left = slice.keys;
}

/** Bytes of records that one slice of a range inside a txn gathers. */
const sliceBytes = 1024 ** 2;
/** Keys handled between two looks at the slice. */
const batchKeys = 256;

export interface DeleteOutcome {
  readonly deleted: number;
  readonly previous: Uint8Array[];
}

/** Deletes the live keys of a range, in key order. */
export function* deleteRange(
  store: MvccStore,
  range: KeyRange,
  withPrevious: boolean,
  slice: Slice,
): Steps<DeleteOutcome> {
  const previous: Uint8Array[] = [];
  let deleted = 0;
  const { rows } = store;
  const fitting = withPrevious ? Math.floor(sliceBytes / Math.max(1, rows.longestBytes)) : batchKeys;
  const batch = Math.max(1, Math.min(batchKeys, slice.keys, fitting));
  let unspentBytes = sliceBytes;
  for (let from = range.low; ;) {
    const { keys, entries } = store.liveKeys(range, from, batch);
    if (withPrevious) {
      const sequences = entries.map(({ sequence }) => sequence);
      for (const record of rows.readMany(sequences, false)) {
        previous.push(record);
        unspentBytes -= record.length;
      }
    }
    for (const key of keys) store.delete(key);
    deleted += keys.length;
    if (keys.length < batch) return { deleted, previous };
    from = `${keys.at(-1)!}\0`;
    yield* spend(slice, unspentBytes > 0 ? keys.length : slice.keys);
    if (unspentBytes <= 0) unspentBytes = sliceBytes;
  }
}

/** The record that a put replaces, the value and lease it ends up with, or why it cannot be done. */
export function resolvePut(
  store: MvccStore,
  request: PutRequest,
  key: string,
):
  | { readonly refused: RefusalName }
  | {
      readonly refused: undefined;
      readonly previous: Uint8Array | undefined;
      readonly value: Uint8Array;
      readonly lease: KeyEntry["lease"];
    } {
  const { ignoreValue, ignoreLease, prevKv } = request;
  let lease: KeyEntry["lease"];
  if (request.lease !== 0n) {
    lease = store.leases.get(request.lease);
    if (lease === undefined) return { refused: "leaseNotFound" };
  }
  if (!ignoreValue && !ignoreLease && !prevKv) {
    return { refused: undefined, previous: undefined, value: request.value, lease };
  }
  const entry = store.index.find(key);
  const live = entry !== undefined && entry.live ? entry : undefined;
  if (live === undefined && (ignoreValue || ignoreLease)) return { refused: "keyNotFound" };
  const previous =
    live === undefined || !(ignoreValue || prevKv) ? undefined : store.rows.read(live.sequence);
  return {
    refused: undefined,
    previous: prevKv ? previous : undefined,
    value: ignoreValue ? recordValue(previous!) : request.value,
    lease: ignoreLease ? live?.lease : lease,
  };
}

/** Runs a txn. `at` is the revision that its compares see as newest; a txn that only reads may run at any. */
export class TxnRun {
  /** Whether each txn, outermost first and in the order of its ops, takes its success branch. */
  readonly #path: boolean[] = [];
  #next = 0;

  constructor(
    readonly store: MvccStore,
    readonly request: TxnRequest,
    readonly at: Revision,
    readonly slice: Slice,
    readonly mode: "write" | "read",
  ) {}

  *run(): Steps<
    { readonly refused: RefusalName } | { readonly refused: undefined; readonly response: TxnResponse }
  > {
    yield* this.#decide(this.request);
    const refused = this.#check(this.request, { next: 0 }, new Overlay(this.store));
    if (refused !== undefined) return { refused };
    const response = create(TxnResponseSchema);
    yield* this.#execute(this.request, response);
    response.header = create(ResponseHeaderSchema, { revision: BigInt(this.#newest()) });
    return { refused: undefined, response };
  }

  #newest(): Revision {
    return this.mode === "write" ? this.store.writingRevision : this.at;
  }

  /** Evaluates all compares, nested ones included, before anything is done. */
  *#decide(txn: TxnRequest): Steps<void> {
    let succeeded = true;
    for (const compare of txn.compare) {
      if (!(yield* this.#holds(compare))) {
        succeeded = false;
        break;
      }
    }
    this.#path.push(succeeded);
    for (const op of succeeded ? txn.success : txn.failure) {
      if (op.request.case === "requestTxn") yield* this.#decide(op.request.value);
    }
  }

  *#holds(compare: Compare): Steps<boolean> {
    const range = keyRange(compare.key, compare.rangeEnd);
    const { store, at } = this;
    if (range.single) {
      const view = store.view(store.index.find(range.low), at);
      return view === undefined ? this.#holdsAbsent(compare) : this.#holdsFor(compare, view);
    }
    let found = false;
    const batchMax = Math.min(batchKeys, this.slice.keys);
    for (let from = range.low; ;) {
      const batch: { key: string; entry: KeyEntry }[] = [];
      store.index.walk(from, range.high, (key, entry) => batch.push({ key, entry }) < batchMax);
      for (const { entry } of batch) {
        const view = store.view(entry, at);
        if (view === undefined) continue;
        found = true;
        if (!this.#holdsFor(compare, view)) return false;
      }
      if (batch.length < batchMax) break;
      from = `${batch.at(-1)!.key}\0`;
      yield* spend(this.slice, batch.length);
    }
    return found || this.#holdsAbsent(compare);
  }

  #holdsAbsent(compare: Compare): boolean {
    // There is no value to compare with, so not even "not equal" holds.
    if (compare.target === Target.VALUE) return false;
    return this.#holdsFor(compare, { sequence: 0, create: 0, mod: 0, version: 0, lease: 0n });
  }

  #holdsFor({ target, result, targetUnion: given }: Compare, view: VersionView): boolean {
    let order = 0;
    switch (target) {
      case Target.VALUE: {
        const value = given.case === "value" ? given.value : emptyBytes;
        order = compareBytes(recordValue(this.store.rows.read(view.sequence)), value);
        break;
      }
      case Target.VERSION:
        order = orderOf(BigInt(view.version), given.case === "version" ? given.value : 0n);
        break;
      case Target.CREATE:
        order = orderOf(BigInt(view.create), given.case === "createRevision" ? given.value : 0n);
        break;
      case Target.MOD:
        order = orderOf(BigInt(view.mod), given.case === "modRevision" ? given.value : 0n);
        break;
      case Target.LEASE:
        order = orderOf(view.lease, given.case === "lease" ? given.value : 0n);
        break;
      default:
        break;
    }
    switch (result) {
      case Result.EQUAL:
        return order === 0;
      case Result.NOT_EQUAL:
        return order !== 0;
      case Result.GREATER:
        return order > 0;
      case Result.LESS:
        return order < 0;
      default:
        return true;
    }
  }

  /** Finds what would fail, before anything is written. */
  #check(txn: TxnRequest, cursor: { next: number }, overlay: Overlay): RefusalName | undefined {
    const branch = this.#path[cursor.next++] ? txn.success : txn.failure;
    for (const { request: op } of branch) {
      let refused: RefusalName | undefined;
      if (op.case === "requestRange") refused = this.#checkRange(op.value);
      else if (op.case === "requestPut") refused = overlay.put(op.value);
      else if (op.case === "requestDeleteRange") overlay.delete(op.value);
      else if (op.case === "requestTxn") refused = this.#check(op.value, cursor, overlay);
      if (refused !== undefined) return refused;
    }
    return undefined;
  }

  /** Unlike a plain range, a negative revision is taken at its word (etcd-wire 8.4). */
  #checkRange({ revision }: RangeRequest): RefusalName | undefined {
    if (revision === 0n) return undefined;
    if (revision > BigInt(this.at)) return "futureRev";
    return revision < BigInt(this.store.compactedRevision) ? "compacted" : undefined;
  }

  *#execute(txn: TxnRequest, response: TxnResponse): Steps<void> {
    response.succeeded = this.#path[this.#next++]!;
    for (const op of response.succeeded ? txn.success : txn.failure) {
      response.responses.push(create(ResponseOpSchema, { response: yield* this.#do(op) }));
    }
  }

  *#do({ request: op }: RequestOp): Steps<ResponseOp["response"]> {
    switch (op.case) {
      case "requestRange": {
        const newest = this.#newest();
        const at = op.value.revision > 0n ? Number(op.value.revision) : newest;
        const run = new RangeRun(this.store, op.value, newest, at);
        const value = create(RangeResponseSchema, { header: header(newest) });
        for (;;) {
          const slice = run.next(this.slice.keys, sliceBytes);
          for (const record of slice.records) value.kvs.push(fromBinary(KeyValueSchema, record));
          if (slice.done) {
            value.count = BigInt(slice.count);
            value.more = slice.more;
            yield* spend(this.slice, slice.records.length);
            return { case: "responseRange", value };
          }
          yield* spend(this.slice, this.slice.keys);
        }
      }
      case "requestPut": {
        const key = toBinaryString(op.value.key);
        const put = resolvePut(this.store, op.value, key);
        // The check has seen everything that can be refused; an unset value here would be a broken invariant.
        if (put.refused !== undefined)
          throw new InvariantError(`a put that was checked is refused: ${put.refused}`);
        this.store.put(key, op.value.key, put.value, put.lease);
        const value = create(PutResponseSchema, { header: header(this.store.writingRevision) });
        if (put.previous !== undefined) value.prevKv = fromBinary(KeyValueSchema, put.previous);
        return { case: "responsePut", value };
      }
      case "requestDeleteRange": {
        const { key, rangeEnd, prevKv } = op.value;
        const outcome = yield* deleteRange(this.store, keyRange(key, rangeEnd), prevKv, this.slice);
        const value = create(DeleteRangeResponseSchema, {
          header: header(this.#newest()),
          deleted: BigInt(outcome.deleted),
          prevKvs: outcome.previous.map((record) => fromBinary(KeyValueSchema, record)),
        });
        return { case: "responseDeleteRange", value };
      }
      case "requestTxn": {
        const value = create(TxnResponseSchema, { header: create(ResponseHeaderSchema) });
        yield* this.#execute(op.value, value);
        return { case: "responseTxn", value };
      }
      default:
        return { case: undefined };
    }
  }
}

/** Which keys will exist when an op's turn comes, as far as puts that build on an existing key need to know. */
class Overlay {
  readonly #deleted = new KeyRanges();
  /** Where the deletes "to the end" begin, the lowest of them. */
  #deletedFrom: string | undefined = undefined;
  readonly #store: MvccStore;

  constructor(store: MvccStore) {
    this.#store = store;
  }

  delete({ key, rangeEnd }: DeleteRangeRequest): void {
    const { low, high } = keyRange(key, rangeEnd);
    if (high !== undefined) this.#deleted.add(low, high);
    else if (this.#deletedFrom === undefined || low < this.#deletedFrom) this.#deletedFrom = low;
  }

  put({ key, lease, ignoreValue, ignoreLease }: PutRequest): RefusalName | undefined {
    if (ignoreValue || ignoreLease) {
      const name = toBinaryString(key);
      // A delete "to the end" earlier in the txn passes the duplicate check (etcd-wire 8.4), yet empties the key.
      if (this.#deletedFrom !== undefined && name >= this.#deletedFrom) return "keyNotFound";
      if (this.#deleted.holds(name)) return "keyNotFound";
      if (!this.#store.index.find(name)?.live) return "keyNotFound";
    }
    return lease !== 0n && this.#store.leases.get(lease) === undefined ? "leaseNotFound" : undefined;
  }
}

function header(revision: Revision) {
  return create(ResponseHeaderSchema, { revision: BigInt(revision) });
}

function orderOf(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
