/** What the rest of a member sees of the durable log. */
import type { Entry, HardState, SnapshotPosition } from "../../consensus/types";
import type { ClusterId, LogIndex, MemberId, Term } from "../../ids";

/** Written once, first thing in every segment: whose log this is. */
export interface LogIdentity {
  readonly clusterId: ClusterId;
  readonly memberId: MemberId;
}

/** Made durable together. Entries continue the log, or overwrite it from their first index on. */
export interface LogBatch {
  readonly entries: readonly Entry[];
  readonly hardState?: HardState | undefined;
  /** A snapshot that was received, verified and synced: this record is the commit point of its install. */
  readonly snapshot?: (SnapshotPosition & { readonly digest: Uint8Array }) | undefined;
}

/** What a restart finds. */
export interface RecoveredLog {
  readonly identity: LogIdentity;
  readonly hardState: HardState;
  /** Where the log begins: entries up to here were cut or came by snapshot. Index 0 and term 0 for a new log. */
  readonly start: { readonly index: LogIndex; readonly term: Term };
  /** The newest entries, as many as fit into the bytes asked for; older ones come from `read`. */
  readonly tail: readonly Entry[];
  readonly lastIndex: LogIndex;
  /** The last snapshot record, when no later cut made it obsolete. */
  readonly snapshot: LogBatch["snapshot"];
  /** Present when an unsynced tail was cut off, for the log. */
  readonly repaired: { readonly file: string; readonly offset: number; readonly bytes: number } | undefined;
}

export interface DurableLog {
  /** Resolves when the batch is on disk. Batches become durable in order; those that wait share one sync. */
  append(batch: LogBatch): Promise<void>;
  /** Entries in [low, high), at least one when any exists, cut at about `bytesMax`. Reads from disk. */
  read(low: LogIndex, high: LogIndex, bytesMax: number): Entry[];
  term(index: LogIndex): Term | undefined;
  /** Forgets entries up to and including `index`, whole segments at a time. */
  cut(index: LogIndex): Promise<void>;
  readonly firstIndex: LogIndex;
  readonly lastIndex: LogIndex;
  readonly sizeBytes: number;
  close(): Promise<void>;
}

/** Observations for metrics; all optional. */
export interface LogObserver {
  /** A monotonic clock in milliseconds, for the durations; without it they are 0. */
  monotonicMs?(): number;
  synced?(durationMs: number, bytes: number): void;
  /** The next segment could not be prepared ahead: the disk is full, and appends will soon be refused. */
  preparationFailed?(error: Error): void;
}
