/** When entries were committed, to within a second: what turns a distance in entries into one in time. */

const keptMax = 3_600;

export class CommitTimes {
  readonly #indexes: number[] = [];
  readonly #times: number[] = [];

  /** Called about once a second with what is committed by then. */
  note(commit: number, nowMs: number): void {
    const last = this.#indexes.at(-1);
    if (last !== undefined && commit <= last) return;
    this.#indexes.push(commit);
    this.#times.push(nowMs);
    if (this.#indexes.length <= keptMax) return;
    this.#indexes.shift();
    this.#times.shift();
  }

  /**
   * The age of the oldest committed entry that is not among the first `applied`, in milliseconds; 0 when there is none.
   * At least so much when it was committed before anything was noted.
   */
  lagMs(applied: number, nowMs: number): number {
    const indexes = this.#indexes;
    if (indexes.length === 0 || indexes.at(-1)! <= applied) return 0;
    let low = 0;
    let high = indexes.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (indexes[middle]! > applied) high = middle;
      else low = middle + 1;
    }
    return Math.max(0, nowMs - this.#times[low]!);
  }
}
