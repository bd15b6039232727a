/** Counts what a client may do seldom; reads no clock until the count is used up. */
export class FrequencyLimit {
  #count = 0;
  #sinceMs = performance.now();

  constructor(
    readonly countMax: number,
    readonly periodMs: number,
  ) {}

  /** Counts one; true when there were more than `countMax` within a period. */
  exceeded(): boolean {
    if (++this.#count <= this.countMax) return false;
    const nowMs = performance.now();
    if (nowMs - this.#sinceMs < this.periodMs) return true;
    this.#sinceMs = nowMs;
    this.#count = 1;
    return false;
  }
}
