/**
 * Spreads deadlines out, so that not too many fall into one second. Works one by one, in any order: each gets the
 * first place that is free at its time or later.
 */

/** Leaves room for other revokes (a thousand a second). */
const perSecond = 750;

export class DeadlineSpread {
  readonly #originMs: number;
  /** Places taken, by second since the origin. */
  readonly #taken = new Map<number, number>();
  /** From a full second to one at or before the next that has room. */
  readonly #onwards = new Map<number, number>();

  constructor(originMs: number) {
    this.#originMs = originMs;
  }

  /** A time at `atMs` or less than a second later, unless the seconds from there on are full: then behind them. */
  place(atMs: number): number {
    const wanted = Math.floor((atMs - this.#originMs) / 1_000);
    const second = this.#withRoom(wanted);
    const taken = this.#taken.get(second) ?? 0;
    this.#taken.set(second, taken + 1);
    if (taken + 1 >= perSecond) this.#onwards.set(second, second + 1);
    const placeMs = this.#originMs + second * 1_000 + (taken * 1_000) / perSecond;
    return Math.max(atMs, placeMs);
  }

  #withRoom(from: number): number {
    let second = from;
    for (let next = this.#onwards.get(second); next !== undefined; next = this.#onwards.get(second)) {
      second = next;
    }
    // Who comes next finds the way at once.
    for (let on = from; on !== second;) {
      const next = this.#onwards.get(on)!;
      this.#onwards.set(on, second);
      on = next;
    }
    return second;
  }
}
