/** Work on database files that must not run on the event loop: checkpoints, copies, checks. */
import type { LogIndex } from "../../ids";
import type { StateMachine } from "../../state/state-machine";

export interface SnapshotFile {
  readonly path: string;
  /** A multiple of 512. */
  readonly bytes: number;
  /** The state that the file holds. */
  readonly appliedIndex: LogIndex;
  readonly revision: number;
}

/**
 * Runs checkpoints and copies of one state database in a Worker, one job at a time. Duties of the member: call
 * `checkpoint` now and then (every few seconds, or when `walBytes` is large), hold apply while `holding` is true,
 * and cut the log only up to `coveredIndex`.
 */
export interface DatabaseJobs {
  /** Entries up to here are in the synced database file: the log may be cut below it. */
  readonly coveredIndex: LogIndex;
  /** True while a RESTART pass runs: apply, flush, compact and vacuum nothing until it is over. */
  readonly holding: boolean;
  readonly walBytes: number;
  /** Checkpoints; resolves with the new covered index. */
  checkpoint(): Promise<LogIndex>;
  /** Copies the database, as of now, into a new file, checks it, and syncs it. */
  takeSnapshotFile(path: string): Promise<SnapshotFile>;
  /** Checks the database file's pages and rows in the Worker; resolves with what is wrong. */
  checkIntegrity(): Promise<string[]>;
  close(): Promise<void>;
}

/** Starts the Worker for the database file at `path` that `state` writes. */
export function startDatabaseJobs(_path: string, _state: StateMachine): DatabaseJobs {
  throw new Error("not written");
}
