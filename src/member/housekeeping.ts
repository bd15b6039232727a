/**
 * What a member does besides serving: commits the open database transaction, checkpoints the database and cuts the
 * log behind it, removes compacted rows and gives their space back, compacts by schedule.
 */
import { GrpcCode, refuse, StoreError } from "../errors";
import type { LogIndex, Term } from "../ids";
import {
  DatabaseFullError,
  DatabaseJobError,
  type DatabaseJobs,
  type SnapshotFile,
} from "../storage/jobs/jobs";
import type { DurableLog } from "../storage/wal/types";
import { startAutoCompaction } from "./auto-compaction";
import type { Member } from "./member";
import type { CancelTimer, Clock } from "./ports";

export interface HousekeepingParts {
  readonly member: Member;
  readonly log: DurableLog;
  /** Bytes written to the log since the start: about what the database was given. */
  readonly loggedBytes: () => number;
  readonly clock: Clock;
  readonly jobs: DatabaseJobs;
  /** Entries behind this one must stay in the log, besides those that lag allows for. */
  readonly keepFrom: () => LogIndex | undefined;
  /** Apply may go on. */
  readonly wake: () => void;
  readonly logCut: (index: LogIndex, term: Term | undefined) => void;
  readonly report: (level: "info" | "warn", message: string, fields?: Record<string, unknown>) => void;
  readonly fatal: (error: unknown) => void;
}

/** A checkpoint is due when so much was logged since the last, */
const checkpointBytes = 64 * 1024 ** 2;
/** when the last is this old, */
const checkpointIntervalMs = 60_000;
/**
 * or when enough entries were applied since, but not more often than this: SQLite syncs its log on the event loop
 * when it starts it over, which lasts some 60 ms while the disk is busy.
 */
const checkpointPauseMs = 30_000;
/** Pages given back in one step. */
const vacuumPages = 64;
const vacuumPauseMs = 1;
/** Rows that one step of a compaction looks at: about a fifth of a millisecond. */
const compactionStepRows = 64;
/** While a reader keeps compacted rows, they are looked at this often. */
const pinnedPauseMs = 200;
/** Reading leaves a transaction open until the next commit, so one is made at least this often. */
const idleFlushMs = 1_000;
/** While apply is held for a checkpoint, its end is looked for this often. */
const holdPollMs = 1;

/** Whoever began long work: is told how far it is, and may give it up. */
export interface WorkContext {
  progress(done: number, total: number): void;
  readonly canceled: boolean;
}

interface Waiter extends PromiseWithResolvers<void> {
  readonly by: WorkContext | undefined;
}

/** Tells those who wait how far the work is; those who gave up wait no longer. */
function tellWaiters(waiters: Waiter[], done: number, total: number): void {
  for (const waiter of waiters.splice(0)) {
    if (waiter.by?.canceled === true) waiter.reject(refuse("canceled"));
    else {
      waiter.by?.progress(done, total);
      waiters.push(waiter);
    }
  }
}

export class Housekeeping {
  readonly #parts: HousekeepingParts;
  #jobs: DatabaseJobs;
  #stopped = false;
  #flushTimer: CancelTimer | undefined;
  #stopAutoCompaction: CancelTimer = () => {};
  #checkpoint: Promise<void> | undefined;
  #checkpointedAtMs = 0;
  #checkpointedAtBytes = 0;
  #compacting = false;
  /** Callers of a physical compaction, and of a defragmentation. */
  readonly #compactionWaiters: Waiter[] = [];
  #compactedRows = 0;
  #vacuuming = false;
  /** A compaction's end asked for it too, so it goes on although nobody waits. */
  #vacuumsAnyway = false;
  #vacuumedBytes = 0;
  readonly #vacuumWaiters: Waiter[] = [];
  #holdPolled = false;

  constructor(parts: HousekeepingParts) {
    this.#parts = parts;
    this.#jobs = parts.jobs;
  }

  start(): void {
    const { member, clock } = this.#parts;
    this.#checkpointedAtMs = clock.monotonicMs();
    this.#watchCheckpoint();
    this.#flushWhenIdle();
    if (member.state.compactionPending) this.compact();
    const { autoCompaction } = member.options;
    if (autoCompaction === undefined) return;
    this.#stopAutoCompaction = startAutoCompaction(autoCompaction, clock, {
      isLeader: () => member.isLeader,
      get revision() {
        return member.revision;
      },
      compact: async (revision) => {
        await member.write({
          case: "compaction",
          value: { $typeName: "etcdserverpb.CompactionRequest", revision: BigInt(revision), physical: false },
        });
      },
      report: (message, fields) => this.#parts.report("info", message, fields),
    });
  }

  /** True while the database must not be written; wakes the loop when that is over. */
  get holding(): boolean {
    const { clock, wake } = this.#parts;
    if (!this.#jobs.holding) return false;
    if (!this.#holdPolled) {
      this.#holdPolled = true;
      clock.after(holdPollMs, () => {
        this.#holdPolled = false;
        wake();
      });
    }
    return true;
  }

  /** Entries were applied: their transaction is committed within the commit interval. */
  applied(): void {
    if (this.#flushTimer !== undefined) return;
    const { member, clock } = this.#parts;
    this.#flushTimer = clock.after(member.options.applyCommitIntervalMs, () => {
      // Behind the turn that handles what came in: its batch is then being synced while the database works.
      clock.soon(() => {
        this.#flushTimer = undefined;
        this.#guarded(() => this.#flush());
      });
    });
  }

  #flush(): void {
    const { member } = this.#parts;
    if (this.#stopped) return;
    if (member.state.pending || this.#jobs.holding) return this.applied();
    member.state.flush();
    member.space.measureDatabase();
    if (this.#parts.loggedBytes() - this.#checkpointedAtBytes >= checkpointBytes) this.#runCheckpoint();
  }

  #flushWhenIdle(): void {
    const { member, clock } = this.#parts;
    clock.after(idleFlushMs, () => {
      if (this.#stopped) return;
      if (member.state.flushable) this.#guarded(() => this.#flush());
      this.#flushWhenIdle();
    });
  }

  #watchCheckpoint(): void {
    const { member, clock } = this.#parts;
    clock.after(1_000, () => {
      if (this.#stopped) return;
      const ageMs = clock.monotonicMs() - this.#checkpointedAtMs;
      const entries = member.state.flushedIndex - this.#jobs.coveredIndex;
      const { checkpointEntries, bounds } = member.options;
      const pauseMs = bounds?.checkpointPauseMs ?? checkpointPauseMs;
      const manyEntries = entries >= checkpointEntries && ageMs >= pauseMs;
      if (manyEntries || (entries > 0 && ageMs >= checkpointIntervalMs)) this.#runCheckpoint();
      this.#watchCheckpoint();
    });
  }

  #runCheckpoint(): void {
    if (this.#checkpoint !== undefined || this.#stopped) return;
    const { clock, log, member, keepFrom, logCut, loggedBytes, fatal } = this.#parts;
    this.#checkpointedAtBytes = loggedBytes();
    this.#checkpoint = this.#jobs
      .checkpoint()
      .then(async (coveredIndex) => {
        const behind = coveredIndex - member.options.catchupEntries;
        const cutIndex = Math.min(behind, keepFrom() ?? behind);
        if (cutIndex <= log.firstIndex || this.#stopped) return;
        const term = log.term(cutIndex);
        await log.cut(cutIndex);
        logCut(cutIndex, term);
      })
      .catch((error: unknown) => {
        if (!(error instanceof DatabaseFullError)) return fatal(error);
        // The log goes on holding what the database file does not; the next checkpoint tries again.
        this.#parts.report("warn", "no room for a checkpoint of the database", { error: error.message });
      })
      .finally(() => {
        this.#checkpoint = undefined;
        this.#checkpointedAtMs = clock.monotonicMs();
        this.#parts.wake();
      });
  }

  /** Rows below the compacted revision wait to be removed: does it in batches, with pauses between them. */
  compact(): void {
    if (this.#compacting) return;
    this.#compacting = true;
    this.#compactedRows = 0;
    this.#compactionStep(0);
  }

  /** A batch is spread over its pause in small steps, because each step is time that a put waits. */
  #compactionStep(pauseMs: number): void {
    const { member, clock } = this.#parts;
    const { compactionBatchRows, compactionPauseMs } = member.options;
    const rows = Math.min(compactionStepRows, compactionBatchRows);
    const nextPauseMs = (compactionPauseMs * rows) / compactionBatchRows;
    clock.after(pauseMs, () => {
      this.#guarded(() => {
        if (this.#stopped) return;
        if (this.#jobs.holding || member.state.pending) return this.#compactionStep(nextPauseMs);
        const step = member.state.compactionStep(rows);
        this.applied();
        this.#compactedRows += step.removed;
        tellWaiters(this.#compactionWaiters, this.#compactedRows, 0);
        if (!step.done) return this.#compactionStep(step.waiting ? pinnedPauseMs : nextPauseMs);
        this.#compacting = false;
        for (const { resolve } of this.#compactionWaiters.splice(0)) resolve();
        this.#vacuumsAnyway = true;
        this.#vacuum();
      });
    });
  }

  /**
   * Resolves when no compacted row is left; rejects when the member stops before, or the caller gives up waiting: the
   * rows go all the same. Progress is in rows.
   */
  async compactionFinished(by?: WorkContext): Promise<void> {
    if (this.#compacting) await this.#wait(this.#compactionWaiters, by);
  }

  /**
   * Gives every free page back to the file system, a few at a time; resolves when none are left, rejects when the
   * member stops before, or the caller gives up: it ends with the present step unless others want it. Progress is in
   * bytes.
   */
  async defragment(by?: WorkContext): Promise<void> {
    this.#vacuum();
    await this.#wait(this.#vacuumWaiters, by);
  }

  #wait(waiters: Waiter[], by: WorkContext | undefined): Promise<void> {
    if (this.#stopped) throw refuse("stopped");
    const waiter: Waiter = { ...Promise.withResolvers<void>(), by };
    waiters.push(waiter);
    return waiter.promise;
  }

  #vacuum(): void {
    if (this.#vacuuming) return;
    this.#vacuuming = true;
    this.#vacuumedBytes = 0;
    this.#vacuumStep();
  }

  #vacuumStep(): void {
    const { member, clock } = this.#parts;
    clock.after(vacuumPauseMs, () => {
      this.#guarded(() => {
        if (this.#stopped) return;
        if (this.#jobs.holding || member.state.pending) return this.#vacuumStep();
        tellWaiters(this.#vacuumWaiters, this.#vacuumedBytes, this.#vacuumedBytes + this.#freeBytes());
        if (this.#vacuumWaiters.length === 0 && !this.#vacuumsAnyway) {
          this.#vacuuming = false;
          return;
        }
        const before = this.#freeBytes();
        const done = member.state.vacuumStep(vacuumPages);
        this.applied();
        this.#vacuumedBytes += Math.max(0, before - this.#freeBytes());
        tellWaiters(this.#vacuumWaiters, this.#vacuumedBytes, this.#vacuumedBytes + this.#freeBytes());
        if (!done) return this.#vacuumStep();
        this.#vacuuming = false;
        this.#vacuumsAnyway = false;
        for (const { resolve } of this.#vacuumWaiters.splice(0)) resolve();
      });
    });
  }

  #freeBytes(): number {
    const { totalBytes, inUseBytes } = this.#parts.member.state.sizes();
    return totalBytes - inUseBytes;
  }

  /**
   * A consistent copy of the database as of now; `progress` hears how far it is. Rejects with a StoreError when there is
   * no room for it.
   */
  async takeSnapshotFile(
    path: string,
    progress?: (done: number, total: number) => void,
  ): Promise<SnapshotFile> {
    try {
      return await this.#jobs.takeSnapshotFile(path, progress);
    } catch (error) {
      if (this.#stopped) throw refuse("stopped");
      if (error instanceof DatabaseFullError) {
        throw new StoreError(GrpcCode.resourceExhausted, `no room for a snapshot: ${error.message}`);
      }
      // What failed outside the job is the commit before it, and with it the transaction: the log has to replay it.
      if (!(error instanceof DatabaseJobError)) this.#parts.fatal(error);
      throw error;
    }
  }

  /** Checks a copy that came from another member. */
  examineSnapshotFile(path: string): Promise<SnapshotFile> {
    return this.#jobs.examineSnapshotFile(path);
  }

  /** Lets the database go: nothing but the state itself touches its files afterwards. */
  async releaseJobs(reason: string): Promise<void> {
    await Promise.all([this.#checkpoint, this.#jobs.close(reason)]);
  }

  /** The state has become that of another database. */
  useJobs(jobs: DatabaseJobs): void {
    this.#jobs = jobs;
    if (this.#parts.member.state.compactionPending) this.compact();
  }

  /** Bytes of SQLite's write-ahead log. */
  get databaseLogBytes(): number {
    return this.#jobs.walBytes;
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#parts.fatal(error);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#flushTimer?.();
    this.#stopAutoCompaction();
    for (const { reject } of [...this.#compactionWaiters.splice(0), ...this.#vacuumWaiters.splice(0)]) {
      reject(refuse("stopped"));
    }
    await Promise.all([this.#checkpoint, this.#jobs.close()]);
  }
}
