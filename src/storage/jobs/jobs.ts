/** Work on database files that must not run on the event loop: checkpoints, copies, checks. */
import { statSync } from "node:fs";
import { assert } from "../../assert";
import type { LogIndex, Term } from "../../ids";
import { diskReserveBytes } from "../../limits";
import type { StateMachine } from "../../state/state-machine";
import type { CheckpointOutcome, CopyOutcome, DatabaseJob, JobAnswer, JobRequest } from "./worker";
import workerText from "./worker.ts" with { type: "text" };

/** As `sqlite.ts` creates databases. */
const pageBytes = 4096;
/** Above this, SQLite's WAL is started over, which holds apply for some milliseconds. */
const walBytesMax = 32 * 1024 ** 2;
/** The longest that a RESTART waits for readers before it lets go. */
const restartTimeoutMs = 20;
/** Tries to have every page in the database file before a copy. */
const checkpointTriesMax = 20;

/** A job failed; after a failed checkpoint the file's state on disk is unknown, and the process must end. */
export class DatabaseJobError extends Error {
  override readonly name = "DatabaseJobError";
}

/** The disk is full; the job changed nothing that counts and may be tried again. */
export class DatabaseFullError extends DatabaseJobError {}

export interface SnapshotFile {
  readonly path: string;
  /** A multiple of 512. */
  readonly bytes: number;
  /** SHA-256 of the whole file. */
  readonly digest: Uint8Array;
  /** The state that the file holds. */
  readonly appliedIndex: LogIndex;
  readonly appliedTerm: Term;
  readonly revision: number;
  /** The members present in it, each an encoded etcdserverpb.Member. */
  readonly members: readonly Uint8Array[];
}

/**
 * Runs checkpoints and copies of one state database in a Worker, one job at a time. Duties of the member: call
 * `checkpoint` now and then (every few seconds), apply nothing while `holding` is true (a write would block the
 * event loop for those milliseconds), cut the log only up to `coveredIndex`, and end the process when `checkpoint`
 * rejects; after one failure, also inside `takeSnapshotFile`, every further one rejects too.
 */
export interface DatabaseJobs {
  /** Entries up to here are in the synced database file: the log may be cut up to it. */
  readonly coveredIndex: LogIndex;
  /** True while SQLite's WAL is being started over: apply, flush, compact and vacuum nothing until it is over. */
  readonly holding: boolean;
  /** The size of SQLite's WAL file. */
  readonly walBytes: number;
  /** Checkpoints; resolves with the new covered index. */
  checkpoint(): Promise<LogIndex>;
  /**
   * Copies the database, as of now, into a new file that needs no other beside it, checks it, and syncs it. Rejects
   * with a DatabaseFullError, before it begins, when the copy would not leave the disk's reserve free. `progress` is
   * told how far it is, in bytes that were written, checked and hashed.
   */
  takeSnapshotFile(path: string, progress?: (done: number, total: number) => void): Promise<SnapshotFile>;
  /**
   * Checks a copy that came from elsewhere: its pages, its rows and their sums. Changes nothing in it. Rejects when
   * it is damaged.
   */
  examineSnapshotFile(path: string): Promise<SnapshotFile>;
  /** Checks the database's pages and rows; resolves with what is wrong. */
  checkIntegrity(): Promise<string[]>;
  /**
   * Ends the Worker. A checkpoint is let finish; copies and checks, which may take minutes, are given up and
   * rejected with `reason`, or with the member's stop.
   */
  close(reason?: string): Promise<void>;
}

/** Starts the Worker for the database file at `path` that `state` writes. Copies leave `reserveBytes` free. */
export function startDatabaseJobs(
  path: string,
  state: StateMachine,
  reserveBytes: number = diskReserveBytes,
): DatabaseJobs {
  return new WorkerJobs(path, state, reserveBytes);
}

/** A job that the Worker was given. */
interface Waiting {
  readonly kind: DatabaseJob["kind"];
  resolve(outcome: unknown): void;
  reject(error: Error): void;
  readonly progress: ((done: number, total: number) => void) | undefined;
}

let workerUrl: string | undefined;

class WorkerJobs implements DatabaseJobs {
  readonly #worker: Worker;
  /** Copies and checks, while there are any: a Worker of low priority. */
  #patient: Worker | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #sequence = 0;
  #covered: LogIndex = 0;
  #holding = false;
  #closed = false;
  #closedBecause = "the member stops";
  /** The first failure of a checkpoint; after it none is tried again. */
  #broken: unknown = undefined;
  /** The end of the queue of jobs. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly path: string,
    readonly state: StateMachine,
    readonly reserveBytes: number,
  ) {
    this.#worker = this.#startWorker();
  }

  #startWorker(): Worker {
    workerUrl ??= URL.createObjectURL(new Blob([workerText], { type: "application/typescript" }));
    const worker = new Worker(workerUrl);
    worker.addEventListener("message", (event: MessageEvent<JobAnswer>) => this.#answered(event.data));
    worker.addEventListener("error", (event) => this.#failed(event.message));
    return worker;
  }

  get coveredIndex(): LogIndex {
    return this.#covered;
  }
  get holding(): boolean {
    return this.#holding;
  }
  get walBytes(): number {
    return statSync(`${this.path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  checkpoint(): Promise<LogIndex> {
    return this.#queue(() => (this.#closed ? Promise.resolve(this.#covered) : this.#checkpoint()));
  }

  takeSnapshotFile(path: string, progress?: (done: number, total: number) => void): Promise<SnapshotFile> {
    return this.#queue(async () => {
      for (let tries = 1; ; tries++) {
        if (this.#closed) throw this.#closedError();
        if ((await this.#pass()).complete) break;
        if (tries >= checkpointTriesMax) {
          throw new DatabaseJobError(
            "readers keep the database file from being brought up to date; try again",
          );
        }
        await Bun.sleep(restartTimeoutMs);
      }
      // Nobody but this queue runs checkpoints, so the file does not change until the copy is done.
      if (this.#closed) throw this.#closedError();
      const { reserveBytes } = this;
      const outcome = await this.#run<CopyOutcome>({ kind: "copy", to: path, reserveBytes }, progress);
      assert(outcome.bytes % 512 === 0, "a database file consists of whole pages");
      return { path, ...outcome };
    });
  }

  checkIntegrity(): Promise<string[]> {
    return this.#queue(async () => {
      if (this.#closed) throw this.#closedError();
      if (!this.state.pending) this.state.flush();
      return this.#run<string[]>({ kind: "check" });
    });
  }

  examineSnapshotFile(path: string): Promise<SnapshotFile> {
    return this.#queue(async () => {
      if (this.#closed) throw this.#closedError();
      return { path, ...(await this.#run<CopyOutcome>({ kind: "examine", file: path })) };
    });
  }

  async close(reason?: string): Promise<void> {
    this.#closed = true;
    this.#closedBecause = reason ?? this.#closedBecause;
    for (const { kind, reject } of this.#waiting.values()) {
      if (kind !== "checkpoint") reject(this.#closedError());
    }
    await this.#last;
    this.#worker.terminate();
    this.#patient?.terminate();
  }

  #closedError(): DatabaseJobError {
    return new DatabaseJobError(this.#closedBecause);
  }

  #queue<Outcome>(job: () => Promise<Outcome>): Promise<Outcome> {
    const outcome = this.#last.then(job);
    this.#last = outcome.catch(() => {});
    return outcome;
  }

  async #checkpoint(): Promise<LogIndex> {
    const { logPages } = await this.#pass();
    // Only a pass that no writer or reader disturbs lets SQLite write its WAL from the beginning again. The file's
    // own size says nothing: it stays at its largest.
    if (logPages * pageBytes > walBytesMax && !this.state.pending) {
      this.#holding = true;
      this.state.holdTransactions(true);
      try {
        this.state.flush();
        const index = this.state.flushedIndex;
        const outcome = await this.#runCheckpoint("RESTART");
        if (!outcome.busy) this.#covered = index;
      } finally {
        this.state.holdTransactions(false);
        this.#holding = false;
      }
    }
    return this.#covered;
  }

  /** Commits and copies pages beside everyone's work; incomplete when readers kept some of them back. */
  async #pass(): Promise<{ readonly complete: boolean; readonly logPages: number }> {
    if (!this.state.pending) this.state.flush();
    const index = this.state.flushedIndex;
    const outcome = await this.#runCheckpoint("PASSIVE");
    const complete = !outcome.busy && outcome.checkpointedPages === outcome.logPages;
    if (complete) this.#covered = Math.max(this.#covered, index);
    return { complete, logPages: outcome.logPages };
  }

  /** A sync that failed once may succeed later without having written: so the first failure is the last try. */
  async #runCheckpoint(mode: "PASSIVE" | "RESTART"): Promise<CheckpointOutcome> {
    if (this.#broken !== undefined) throw this.#broken;
    try {
      return await this.#run({ kind: "checkpoint", mode, busyTimeoutMs: restartTimeoutMs });
    } catch (error) {
      if (!(error instanceof DatabaseFullError)) this.#broken = error;
      throw error;
    }
  }

  #run<Outcome>(job: DatabaseJob, progress?: (done: number, total: number) => void): Promise<Outcome> {
    const sequence = ++this.#sequence;
    const patient = job.kind !== "checkpoint";
    const worker = patient ? (this.#patient ??= this.#startWorker()) : this.#worker;
    const request: JobRequest = { path: this.path, sequence, job, patient };
    const outcome = new Promise<Outcome>((resolve, reject) => {
      this.#waiting.set(sequence, {
        kind: job.kind,
        resolve: resolve as (outcome: unknown) => void,
        reject,
        progress,
      });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a Worker's has no target
      worker.postMessage(request);
    });
    // Seldom wanted, and its memory is worth more than the moment that it takes to start.
    const release = (): void => {
      if (this.#patient !== worker) return;
      this.#patient = undefined;
      worker.terminate();
    };
    if (patient) outcome.then(release, release);
    return outcome;
  }

  #answered(answer: JobAnswer): void {
    const waiting = this.#waiting.get(answer.sequence);
    if ("progress" in answer) return waiting?.progress?.(answer.progress.done, answer.progress.total);
    this.#waiting.delete(answer.sequence);
    if (answer.ok) waiting?.resolve(answer.outcome);
    else waiting?.reject(new (answer.diskFull ? DatabaseFullError : DatabaseJobError)(answer.message));
  }

  #failed(message: string): void {
    for (const { reject } of this.#waiting.values()) reject(new DatabaseJobError(message));
    this.#waiting.clear();
  }
}
