/** Judges, before a write is proposed, whether there is room for it: the quota, and the disk. */
import { refuse } from "../errors";
import type { MemberId } from "../ids";
import { diskReserveBytes } from "../limits";
import { AlarmType } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { StateMachine } from "../state/state-machine";
import type { Disk } from "./ports";
import { operationCost } from "./quota";

/** A write goes to the log, to SQLite's log and, at the next checkpoint, to the database. */
const copiesOfWrite = 3;

export interface SpaceGuardOptions {
  readonly state: StateMachine;
  readonly disk: Disk;
  readonly directory: string;
  /** Bytes by which the next checkpoint may make the database file grow. */
  readonly checkpointBytes: () => number;
  /** Negative: no quota. */
  readonly quotaBytes: number;
  readonly memberId: MemberId;
  /** Proposes the alarm for this member; resolves when that has succeeded or failed. */
  readonly raiseAlarm: (alarm: AlarmType) => Promise<void>;
}

/**
 * File sizes differ between members, so the member that receives a write judges, never apply; apply looks at the
 * replicated alarm. Deletes and compaction always pass: they are the way out.
 */
export class SpaceGuard {
  readonly #options: SpaceGuardOptions;
  /** What the disk had free when it was last looked at, less what the next checkpoint takes. */
  #freeBytes = Number.POSITIVE_INFINITY;
  /** What was admitted since, as it is written three times: log, SQLite's log, database. */
  #writtenBytes = 0;
  /** The database's size when it was last looked at, and what was admitted since. */
  #usedBytes = 0;
  #admittedBytes = 0;
  #logIsFull = false;
  /** An alarm is on its way. */
  #alarmAsked = false;

  constructor(options: SpaceGuardOptions) {
    this.#options = options;
  }

  /** Throws `noSpace` when the write does not fit, and has the alarm raised. */
  admit(operation: Command["operation"]): void {
    const cost = operationCost(operation);
    if (cost === 0) return;
    if (this.#fits(cost)) {
      this.#admittedBytes += cost;
      this.#writtenBytes += copiesOfWrite * cost;
      return;
    }
    this.#raise();
    throw refuse("noSpace");
  }

  #fits(cost: number): boolean {
    if (this.#logIsFull || !this.#diskHasRoom(copiesOfWrite * cost)) return false;
    const { quotaBytes } = this.#options;
    if (quotaBytes < 0 || this.#usedBytes + this.#admittedBytes + cost <= quotaBytes) return true;
    // Only an estimate says no: look before refusing.
    this.measureDatabase();
    return this.#usedBytes + cost <= quotaBytes;
  }

  #diskHasRoom(bytes: number): boolean {
    if (this.#freeBytes - this.#writtenBytes - bytes >= diskReserveBytes) return true;
    // Only an estimate says no: look before refusing.
    this.#measureDisk();
    return this.#freeBytes - bytes >= diskReserveBytes;
  }

  #measureDisk(): void {
    const { disk, directory, checkpointBytes } = this.#options;
    this.#freeBytes = disk.freeBytes(directory) - checkpointBytes();
    this.#writtenBytes = 0;
  }

  /**
   * Raises NOSPACE unless it is raised, also when somebody lowered it without making room. A full log cannot even
   * write the alarm, so then only this member refuses.
   */
  #raise(): void {
    const { state, memberId, raiseAlarm } = this.#options;
    if (this.#logIsFull || this.#alarmAsked) return;
    if (state.alarms().some((raised) => raised.memberID === memberId && raised.alarm === AlarmType.NOSPACE))
      return;
    this.#alarmAsked = true;
    void raiseAlarm(AlarmType.NOSPACE).then(() => {
      this.#alarmAsked = false;
    });
  }

  /** Looks at the database, which costs more than a put: after each commit, not before each write. */
  measureDatabase(): void {
    this.#usedBytes = this.#options.state.fileBytes;
    this.#admittedBytes = 0;
  }

  /** Looks at the disk; once a second is enough. */
  measure(): void {
    this.measureDatabase();
    this.#measureDisk();
    if (this.#freeBytes < diskReserveBytes) this.#raise();
  }

  get logIsFull(): boolean {
    return this.#logIsFull;
  }

  logFull(full: boolean): void {
    this.#logIsFull = full;
  }
}
