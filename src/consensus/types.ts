/** The vocabulary of consensus: what goes into the core, and what its driver must do for it. */
import type { LogIndex, MemberId, Term } from "../ids";

export type EntryKind = "command" | "configuration";

/** One position of the replicated log. An empty command is the entry with which a leader opens its term. */
export interface Entry {
  readonly term: Term;
  readonly index: LogIndex;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
}

/** Who votes and who only listens. Ids are sorted. */
export interface Configuration {
  readonly voters: readonly MemberId[];
  readonly learners: readonly MemberId[];
}

/** A single-server membership change; only one may be under way. */
export interface ConfigurationChange {
  readonly type: "add-voter" | "add-learner" | "remove";
  readonly memberId: MemberId;
  /** Opaque to consensus: what state needs to know about the member (addresses). */
  readonly context: Uint8Array;
}

/** What must survive a restart besides the entries. */
export interface HardState {
  readonly term: Term;
  readonly vote: MemberId;
  readonly commit: LogIndex;
}

/** The position that a snapshot stands for. */
export interface SnapshotPosition {
  readonly index: LogIndex;
  readonly term: Term;
  readonly configuration: Configuration;
}

interface MessageBase {
  readonly from: MemberId;
  readonly to: MemberId;
  readonly term: Term;
}

/** Everything members say to each other about consensus. */
export type Message = MessageBase &
  (
    | {
        readonly kind: "pre-vote" | "vote";
        readonly lastIndex: LogIndex;
        readonly lastTerm: Term;
        readonly transfer: boolean;
      }
    | {
        readonly kind: "pre-vote-answer" | "vote-answer";
        readonly granted: boolean;
        /** Up to where the voter knows the log to be committed, and the term there (0: unknown). */
        readonly commit: LogIndex;
        readonly commitTerm: Term;
      }
    | {
        readonly kind: "append";
        readonly previousIndex: LogIndex;
        readonly previousTerm: Term;
        readonly entries: readonly Entry[];
        readonly commit: LogIndex;
      }
    | {
        readonly kind: "append-answer";
        readonly accepted: boolean;
        /** Accepted: the last index now matching. Refused: the previousIndex that did not match. */
        readonly index: LogIndex;
        /** Refused: where the follower suggests to look next (index and its term there). */
        readonly hintIndex: LogIndex;
        readonly hintTerm: Term;
      }
    | { readonly kind: "heartbeat"; readonly commit: LogIndex; readonly readRound: number }
    | { readonly kind: "heartbeat-answer"; readonly readRound: number }
    | { readonly kind: "snapshot"; readonly position: SnapshotPosition }
    | { readonly kind: "snapshot-status"; readonly ok: boolean }
    | { readonly kind: "timeout-now" }
  );

/** A read that may be served once the state has applied `index`. */
export interface ConfirmedRead {
  /** As given to `readIndex`; unique per member and life. */
  readonly context: number;
  readonly index: LogIndex;
}

/** Entries [low, high), as many as `bytesMax` holds, and at least one. */
export interface WantedRange {
  readonly low: LogIndex;
  readonly high: LogIndex;
  readonly bytesMax: number;
  /** Committed entries that this member itself needs next; otherwise followers that lag do, which may be paced. */
  readonly forApply: boolean;
}

/**
 * What the driver must do, in this order of durability: persist `hardState` and `entries` (one batch, one sync);
 * send `sendNow` at any time, also before the sync; send `sendAfterPersist` only once the batch is on disk, then
 * call `persisted`. `committed` entries may be applied at once: they are durable on a quorum and in the own log.
 * A new Ready may be taken while older batches are being written.
 */
export interface Ready {
  /**
   * Goes into the same batch as `entries`. When `mustSync` is false only its commit index moved, which may be
   * written whenever convenient, or not at all: it is learned again. It then comes with no `persist`.
   */
  readonly hardState: HardState | undefined;
  /** True exactly when `persist` is present. */
  readonly mustSync: boolean;
  readonly entries: readonly Entry[];
  /**
   * The last entry of the batch, or the log's end when the batch has none: hand it to `persisted` when this batch
   * and all before it are on disk. A batch may be empty: its messages then only wait for the older ones.
   */
  readonly persist: { readonly term: Term; readonly index: LogIndex; readonly sequence: number } | undefined;
  readonly sendNow: readonly Message[];
  readonly sendAfterPersist: readonly Message[];
  readonly committed: readonly Entry[];
  readonly reads: readonly ConfirmedRead[];
  /** Contexts of reads that can no longer be confirmed, because leadership was lost: ask again. */
  readonly abandonedReads: readonly number[];
  /** Ranges of entries that left memory and are needed again; answer with `supplyEntries`. */
  readonly wanted: readonly WantedRange[];
  /** A follower needs a snapshot newer than the last one named: answer with `snapshotAvailable`. */
  readonly snapshotWanted: boolean;
  /** A snapshot that was offered by the leader and fits; install it, then call `snapshotInstalled`. */
  readonly install: SnapshotPosition | undefined;
  /** Role, term or leader changed since the last Ready. */
  readonly stateChanged: boolean;
}
