/** Lets a bounded number of tasks run at the same time; the others wait their turn. */
export class Gate {
  readonly #concurrencyMax: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(concurrencyMax: number) {
    this.#concurrencyMax = concurrencyMax;
  }

  /** Runs the task when it is its turn, and hands its outcome on. */
  async pass<Result>(task: () => Promise<Result>): Promise<Result> {
    if (this.#running >= this.#concurrencyMax) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await task();
    } finally {
      // A waiting task takes over the place as it is, so nobody slips in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
