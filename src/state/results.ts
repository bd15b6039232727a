/** What the state machine answers: to applied commands, to reads, and about itself. */
import type { RefusalName } from "../errors";
import type { LeaseId, MemberId, Revision } from "../ids";
import type { AlarmMember, TxnResponse } from "../proto/gen/etcd/rpc_pb";
import type { ListingSlice } from "./mvcc/listing";
import type { RevisionChanges } from "./types";

/**
 * What a command did. `revision` is the one for the answer's header. Records are encoded mvccpb.KeyValue
 * messages. A refusal wrote nothing.
 */
export type ApplyResult =
  | { readonly kind: "refused"; readonly name: RefusalName; readonly revision: Revision }
  | {
      readonly kind: "put";
      readonly revision: Revision;
      /** The key's version now, 1 when it was created. */
      readonly version: number;
      readonly previous: Uint8Array | undefined;
    }
  | {
      readonly kind: "delete-range";
      readonly revision: Revision;
      readonly deleted: number;
      /** In key order; empty unless asked for. */
      readonly previous: readonly Uint8Array[];
    }
  /** The response's own header carries only the revision, like those of its parts; the service fills the rest. */
  | { readonly kind: "txn"; readonly revision: Revision; readonly response: TxnResponse }
  | { readonly kind: "compaction"; readonly revision: Revision; readonly compactedRevision: Revision }
  | {
      readonly kind: "lease-grant";
      readonly revision: Revision;
      readonly id: LeaseId;
      readonly ttlSeconds: number;
      /** The answer of an earlier entry under the same idempotency key: nothing happened now. */
      readonly repeated?: true;
    }
  /** `ignored` when the leader's decision that it ran out came from another term: nothing happened then. */
  | {
      readonly kind: "lease-revoke";
      readonly revision: Revision;
      readonly id: LeaseId;
      readonly ignored: boolean;
      readonly deleted: number;
      /** As of a grant. */
      readonly repeated?: true;
    }
  | { readonly kind: "lease-checkpoint"; readonly revision: Revision }
  | { readonly kind: "alarm"; readonly revision: Revision; readonly alarms: readonly AlarmMember[] }
  | { readonly kind: "publish"; readonly revision: Revision; readonly memberId: MemberId }
  | { readonly kind: "member-update"; readonly revision: Revision; readonly memberId: MemberId }
  | { readonly kind: "cluster-version"; readonly revision: Revision; readonly version: string }
  | { readonly kind: "configuration"; readonly revision: Revision }
  /** The empty entry with which a leader opens its term. */
  | { readonly kind: "nothing"; readonly revision: Revision };

/**
 * The outcome of `apply` or `resume`. While `pending`, call `resume` until it is not: nothing else may be applied
 * and no commit falls in between. `changes` is undefined when the revision did not move.
 */
export type Applied =
  | { readonly pending: true }
  | { readonly pending: false; readonly result: ApplyResult; readonly changes: RevisionChanges | undefined };

/** The parts of a RangeResponse, before anyone fills its header. */
export interface RangeAnswer {
  /** The store's revision when it answered: the header's, whatever revision was asked for. */
  readonly revision: Revision;
  /** Keys in the range at that revision, before limit and filters. */
  readonly count: number;
  readonly more: boolean;
  /** Encoded mvccpb.KeyValue messages. */
  readonly records: readonly Uint8Array[];
}

/** One slice of a large answer. `count` and `more` are final in the last one only. */
export interface RangeSlice {
  readonly done: boolean;
  readonly records: readonly Uint8Array[];
  readonly count: number;
  readonly more: boolean;
}

/**
 * A range read in slices, all at one pinned revision. Some slices only prepare (counting, sorting) and carry no
 * records. Close it when done, at its deadline, or when the client left: until then compaction keeps its rows.
 */
export interface SlicedRange {
  /** For the header: the store's revision when the read began. */
  readonly revision: Revision;
  /** Works through about `keysMax` keys or `bytesMax` bytes of records, whichever comes first. */
  next(keysMax: number, bytesMax: number): RangeSlice;
  close(): void;
}

/** One page of a list of keys in slices, all at one pinned revision. Close it in any case. */
export interface SlicedListing {
  /** The store's revision when the read began. */
  readonly revision: Revision;
  /** The revision that is listed. */
  readonly at: Revision;
  /** Works through about `visitsMax` keys. */
  next(visitsMax: number): ListingSlice;
  close(): void;
}

/** A read-only txn in slices, at a pinned revision: call `next` until it answers. */
export interface SlicedTxn {
  next(): TxnResponse | undefined;
  close(): void;
}

/** Keeps the rows that a reader at `revision` needs until it is released. */
export interface Pin {
  readonly revision: Revision;
  release(): void;
}

/** etcd's HashKV. */
export interface HashAnswer {
  readonly hash: number;
  /** -1 when the store was never compacted, as etcd says it. */
  readonly compactRevision: Revision;
  /** Up to which revision was hashed. */
  readonly hashRevision: Revision;
  /** The store's revision when the work began. */
  readonly revision: Revision;
}

/** A hash over the whole store in slices: call `next` until it answers. */
export interface SlicedHash {
  next(rowsMax: number): HashAnswer | undefined;
  close(): void;
}

/** One lease. `keys` is a fresh array of binary strings, in key order. */
export interface LeaseInfo {
  readonly id: LeaseId;
  readonly grantedTtlSeconds: number;
  /** The rest at the last checkpoint; the granted TTL when there was none. */
  readonly remainingTtlSeconds: number;
  /** In order. Sorted each time that they are asked for, 30 ms for 100,000 of them. */
  readonly keys: readonly string[];
}

/** Sizes for Status, quota and metrics, in bytes. Free pages count in the total but not in use. */
export interface StateSizes {
  readonly totalBytes: number;
  readonly inUseBytes: number;
  /** Live keys at the newest revision. */
  readonly keys: number;
}
