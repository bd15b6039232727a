/** Work that repeats while a member lives. */
import type { CancelTimer, Clock } from "./ports";

export class Timers {
  readonly #clock: Clock;
  readonly #cancels = new Set<() => void>();
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `work` each interval, the first time when one has passed. */
  every(intervalMs: number, work: () => void): void {
    let cancel: CancelTimer = () => {};
    const next = (): void => {
      cancel = this.#clock.after(intervalMs, () => {
        if (this.#stopped) return;
        next();
        work();
      });
    };
    next();
    this.#cancels.add(() => cancel());
  }

  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#cancels) cancel();
  }
}
