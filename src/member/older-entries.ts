/**
 * Entries that left memory and are read from the log again: for apply at once, for followers at a pace. One that was
 * away for long would otherwise take the disks and the event loops of all that it needs to catch up.
 */
import type { Raft } from "../consensus/raft";
import type { WantedRange } from "../consensus/types";
import { catchUpBytesPerSecond, catchUpPieceBytes } from "../limits";
import type { DurableLog } from "../storage/wal/types";
import type { Clock } from "./ports";

/** Who asked for them. */
export type OlderEntriesReader = Pick<Raft, "supplyEntries" | "status">;

/** What was not used is kept for as long as this. */
const burstMs = 100;
/** When nothing was committed for this long although something waits to be, those that lag are what it waits for. */
const stalledMs = 100;

export class OlderEntries {
  readonly #raft: OlderEntriesReader;
  readonly #log: Pick<DurableLog, "read" | "firstIndex">;
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #forApply: WantedRange[] = [];
  readonly #forFollowers: WantedRange[] = [];
  /** Bytes that may be read for followers now; below zero: owed. */
  #tokens = 0;
  #tokensAtMs = 0;
  #timerSet = false;
  #committedAtMs = 0;

  constructor(
    raft: OlderEntriesReader,
    log: Pick<DurableLog, "read" | "firstIndex">,
    clock: Clock,
    wake: () => void,
  ) {
    this.#raft = raft;
    this.#log = log;
    this.#clock = clock;
    this.#wake = wake;
  }

  wanted(ranges: readonly WantedRange[]): void {
    for (const range of ranges) (range.forApply ? this.#forApply : this.#forFollowers).push(range);
  }

  /**
   * The log grew by so much. Followers that lag are let have twice that in addition: else one could fall behind for
   * ever while clients write faster than the pace.
   */
  logged(bytes: number): void {
    if (this.#forFollowers.length > 0) this.#tokens += 2 * bytes;
  }

  /** A snapshot takes the place of all that is not applied; from now on the log may begin behind it. */
  replaced(): void {
    this.#forApply.length = 0;
  }

  committed(): void {
    this.#committedAtMs = this.#clock.monotonicMs();
  }

  /** Answers one range of each kind, if its time has come: reading and checking takes a millisecond or more. */
  supply(): void {
    const apply = this.#forApply.shift();
    if (apply !== undefined) this.#read(apply, apply.bytesMax);
    if (this.#forApply.length > 0) this.#wake();
    if (this.#forFollowers.length === 0) return;
    this.#earn();
    if (this.#mayRead()) {
      const range = this.#forFollowers.shift()!;
      this.#tokens -= this.#read(range, Math.min(range.bytesMax, catchUpPieceBytes));
    }
    if (this.#forFollowers.length === 0) return;
    if (this.#mayRead()) this.#wake();
    else this.#wakeLater();
  }

  #mayRead(): boolean {
    return this.#tokens > 0 || this.#isStalled();
  }

  /** Then no client can be served before somebody has caught up, and there is nobody to be fair to. */
  #isStalled(): boolean {
    const { commit, lastIndex } = this.#raft.status();
    return commit < lastIndex && this.#clock.monotonicMs() - this.#committedAtMs >= stalledMs;
  }

  #read({ low, high, forApply }: WantedRange, bytesMax: number): number {
    // While a range for a follower waits for its time the log may be cut; the follower then needs a snapshot.
    const gone = !forApply && low < this.#log.firstIndex;
    const entries = gone ? [] : this.#log.read(low, high, bytesMax);
    this.#raft.supplyEntries(low, entries);
    let bytes = 0;
    for (const { data } of entries) bytes += data.length;
    return bytes;
  }

  #earn(): void {
    const nowMs = this.#clock.monotonicMs();
    const earned = ((nowMs - this.#tokensAtMs) * catchUpBytesPerSecond) / 1_000;
    this.#tokensAtMs = nowMs;
    const burstBytes = (burstMs * catchUpBytesPerSecond) / 1_000;
    // What was read beyond the pace is not owed for long either.
    this.#tokens = Math.max(-burstBytes, Math.min(this.#tokens + earned, burstBytes));
  }

  #wakeLater(): void {
    if (this.#timerSet) return;
    this.#timerSet = true;
    const waitMs = Math.max(1, (-this.#tokens * 1_000) / catchUpBytesPerSecond);
    this.#clock.after(waitMs, () => {
      this.#timerSet = false;
      this.#wake();
    });
  }
}
