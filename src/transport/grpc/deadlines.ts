/**
 * Deadlines of many calls with one timer. Nearly every call carries one and nearly none expires, so arming and
 * disarming must cost little: a set per tick of a few milliseconds.
 */
export interface Expiring {
  expire(): void;
}

const tickMs = 5;
/** Beyond this a deadline is looked at again instead of being remembered exactly. */
const horizonMs = 24 * 3_600_000;

export class Deadlines {
  readonly #nowMs: () => number;
  readonly #ticks = new Map<number, Set<Expiring>>();
  #armed = 0;
  #lastTick = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Calls under a deadline right now. */
  get armed(): number {
    return this.#armed;
  }

  /** Returns the ticket with which {@link disarm} forgets it. Fires up to one tick late, never early. */
  arm(call: Expiring, deadlineAtMs: number): number {
    const now = this.#nowMs();
    if (this.#timer === undefined) {
      this.#lastTick = Math.floor(now / tickMs);
      this.#timer = setInterval(() => this.#turn(), tickMs);
      this.#timer.unref();
    }
    const tick = Math.max(this.#lastTick + 1, Math.ceil(Math.min(deadlineAtMs, now + horizonMs) / tickMs));
    let calls = this.#ticks.get(tick);
    if (calls === undefined) this.#ticks.set(tick, (calls = new Set()));
    calls.add(call);
    this.#armed++;
    return tick;
  }

  /** Harmless when it already fired. */
  disarm(call: Expiring, ticket: number): void {
    const calls = this.#ticks.get(ticket);
    if (calls === undefined || !calls.delete(call)) return;
    this.#armed--;
    if (calls.size === 0) this.#ticks.delete(ticket);
  }

  /** Forgets all. */
  close(): void {
    this.#ticks.clear();
    this.#armed = 0;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #turn(): void {
    const upTo = Math.floor(this.#nowMs() / tickMs);
    while (this.#lastTick < upTo) {
      const calls = this.#ticks.get(++this.#lastTick);
      if (calls === undefined) continue;
      this.#ticks.delete(this.#lastTick);
      this.#armed -= calls.size;
      for (const call of calls) call.expire();
    }
    if (this.#armed === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
