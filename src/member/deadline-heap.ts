/** A binary min-heap of values by time. Entries are never moved: who uses it recognises outdated ones. */

export interface DeadlineEntry<Value> {
  readonly atMs: number;
  readonly value: Value;
}

export class DeadlineHeap<Value> {
  #entries: DeadlineEntry<Value>[] = [];

  get size(): number {
    return this.#entries.length;
  }

  push(atMs: number, value: Value): void {
    this.#entries.push({ atMs, value });
    this.#rise(this.#entries.length - 1);
  }

  /** Removes and returns the earliest entry if it is due. */
  popDue(nowMs: number): DeadlineEntry<Value> | undefined {
    const first = this.#entries[0];
    if (first === undefined || first.atMs > nowMs) return undefined;
    const last = this.#entries.pop()!;
    if (this.#entries.length > 0) {
      this.#entries[0] = last;
      this.#sink(0);
    }
    return first;
  }

  /** Keeps only the entries that are still wanted. */
  prune(wanted: (entry: DeadlineEntry<Value>) => boolean): void {
    this.#entries = this.#entries.filter(wanted);
    for (let at = (this.#entries.length >> 1) - 1; at >= 0; at--) this.#sink(at);
  }

  clear(): void {
    this.#entries = [];
  }

  #rise(from: number): void {
    const entries = this.#entries;
    const entry = entries[from]!;
    let at = from;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (entries[above]!.atMs <= entry.atMs) break;
      entries[at] = entries[above]!;
      at = above;
    }
    entries[at] = entry;
  }

  #sink(from: number): void {
    const entries = this.#entries;
    const entry = entries[from]!;
    let at = from;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= entries.length) break;
      if (below + 1 < entries.length && entries[below + 1]!.atMs < entries[below]!.atMs) below++;
      if (entries[below]!.atMs >= entry.atMs) break;
      entries[at] = entries[below]!;
      at = below;
    }
    entries[at] = entry;
  }
}
