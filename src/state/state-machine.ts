/**
 * The replicated state: takes committed entries in order, answers what they did, and serves reads. Deterministic:
 * no clock, no randomness. Only this class writes to the database.
 */
import type { Database } from "bun:sqlite";
import type { ConfigurationChange } from "../consensus/types";
import type { LeaseId, LogIndex, Revision, Term } from "../ids";
import type { AlarmMember, Member, RangeRequest, TxnRequest, TxnResponse } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { Applied, LeaseInfo, Pin, RangeAnswer, SlicedHash, SlicedRange, StateSizes } from "./results";
import type { History } from "./types";

export interface StateMachineOptions {
  /** Keys that one slice of a long apply works through before it yields. */
  readonly sliceKeys?: number;
}

export class StateMachine {
  /**
   * Opens the state in a database of `openStateDatabase`, rebuilding the key index and checking every row, their
   * number and their sum. Throws a DamagedStateError that says what is wrong and what to do.
   */
  static open(_database: Database, _options: StateMachineOptions = {}): StateMachine {
    throw new Error("not written");
  }

  /** The last entry applied, flushed or not. */
  declare readonly appliedIndex: LogIndex;
  declare readonly appliedTerm: Term;
  /** The newest published revision. */
  declare readonly revision: Revision;
  /** Reads below it are refused; -1 before the first compaction. */
  declare readonly compactedRevision: Revision;
  /** Bytes of rows that the open SQLite transaction holds. */
  declare readonly unflushedBytes: number;
  /** The last entry that a commit covers. */
  declare readonly flushedIndex: LogIndex;
  /** True between an `apply` that answered `pending` and the `resume` that finishes it. */
  declare readonly pending: boolean;
  /** How watchers read the past. */
  declare readonly history: History;

  /** Applies the next entry. `command` is undefined for the empty entry of a new leader. */
  apply(_index: LogIndex, _term: Term, _command: Command | undefined): Applied {
    throw new Error("not written");
  }
  /** Goes on with the pending entry for one more slice. */
  resume(): Applied {
    throw new Error("not written");
  }
  /** Applies a membership change; its context is an encoded etcdserverpb.Member, or empty for a removal. */
  applyConfiguration(_index: LogIndex, _term: Term, _change: ConfigurationChange): Applied {
    throw new Error("not written");
  }
  /** Commits the open transaction: rows, applied index, revision, row count and hash together. */
  flush(): void {
    throw new Error("not written");
  }

  /** Answers a range at once. Throws the refusals `compacted` and `futureRev`. */
  range(_request: RangeRequest): RangeAnswer {
    throw new Error("not written");
  }
  /** How many keys a range would walk over, cheaply: choose `rangeSliced` above about a thousand. */
  rangeCost(_request: RangeRequest): number {
    throw new Error("not written");
  }
  /** Answers a range in slices. Throws the refusals `compacted` and `futureRev`. */
  rangeSliced(_request: RangeRequest): SlicedRange {
    throw new Error("not written");
  }
  /** Evaluates a txn that only reads, against published state. Throws refusals. */
  readTxn(_request: TxnRequest): TxnResponse {
    throw new Error("not written");
  }
  /** etcd's HashKV up to `revision` (0 = newest). Throws the refusals `compacted` and `futureRev`. */
  hashKV(_revision: Revision): SlicedHash {
    throw new Error("not written");
  }

  /** Keeps physical compaction from removing what a reader at `revision` needs. */
  pin(_revision: Revision): Pin {
    throw new Error("not written");
  }
  /** True when rows wait to be removed physically. */
  get compactionPending(): boolean {
    throw new Error("not written");
  }
  /** Removes about `rowsMax` superseded rows. `waiting`: a pin holds the rest back; try again later. */
  compactionStep(_rowsMax: number): {
    readonly done: boolean;
    readonly waiting: boolean;
    readonly removed: number;
  } {
    throw new Error("not written");
  }
  /** Gives up to `pagesMax` free pages back to the file system; true when none are left. */
  vacuumStep(_pagesMax: number): boolean {
    throw new Error("not written");
  }

  lease(_id: LeaseId): LeaseInfo | undefined {
    throw new Error("not written");
  }
  /** Every lease, without keys (`keys` is empty); ids, TTLs. */
  leases(): LeaseInfo[] {
    throw new Error("not written");
  }
  members(): Member[] {
    throw new Error("not written");
  }
  alarms(): AlarmMember[] {
    throw new Error("not written");
  }
  /** The cluster version that members agreed on; undefined until it was decided. */
  get clusterVersion(): string | undefined {
    throw new Error("not written");
  }
  sizes(): StateSizes {
    throw new Error("not written");
  }
  /** Flushes and lets the database go; the caller closes it. */
  close(): void {
    throw new Error("not written");
  }
}
