/** Virtual time: an event queue ordered by time, then by order of scheduling. */
import { drainMicrotasks } from "bun:jsc";
import type { CancelTimer, Clock } from "../../src/member/ports";

interface Event {
  readonly atMs: number;
  readonly sequence: number;
  callback: (() => void) | undefined;
}

/** How long an event is taken to last, so that "soon" makes progress and loops end. */
const eventMs = 0.001;

export class VirtualClock implements Clock {
  #nowMs = 0;
  #sequence = 0;
  /** A binary heap. */
  readonly #events: Event[] = [];
  readonly #wallStartMs: number;

  constructor(wallStartMs = 1_700_000_000_000) {
    this.#wallStartMs = wallStartMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallStartMs + this.#nowMs;
  }

  after(delayMs: number, callback: () => void): CancelTimer {
    const event: Event = { atMs: this.#nowMs + Math.max(0, delayMs), sequence: this.#sequence++, callback };
    this.#push(event);
    return () => {
      event.callback = undefined;
    };
  }

  soon(callback: () => void): void {
    this.after(eventMs, callback);
  }

  /** Runs the next event and the promises that it settles; false when there is none up to `untilMs`. */
  step(untilMs: number): boolean {
    const next = this.#events[0];
    if (next === undefined || next.atMs > untilMs) return false;
    this.#pop();
    this.#nowMs = next.atMs;
    next.callback?.();
    drainMicrotasks();
    return true;
  }

  /** Lets time pass. Pending promises run first. */
  run(durationMs: number): void {
    drainMicrotasks();
    const untilMs = this.#nowMs + durationMs;
    while (this.step(untilMs));
    this.#nowMs = untilMs;
  }

  /** Lets time pass until the promise is settled, and returns its value; throws when that takes too long. */
  settle<Value>(promise: Promise<Value>, withinMs = 60_000): Value {
    const settled: { outcome?: { value: Value } | { error: unknown } } = {};
    promise.then(
      (value) => {
        settled.outcome = { value };
      },
      (error: unknown) => {
        settled.outcome = { error };
      },
    );
    drainMicrotasks();
    const untilMs = this.#nowMs + withinMs;
    while (settled.outcome === undefined) {
      if (!this.step(untilMs)) throw new Error(`nothing came of it within ${withinMs} virtual ms`);
    }
    if ("error" in settled.outcome) throw settled.outcome.error;
    return settled.outcome.value;
  }

  #before(a: Event, b: Event): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
  }

  #push(event: Event): void {
    const events = this.#events;
    let at = events.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(event, events[parent]!)) break;
      events[at] = events[parent]!;
      at = parent;
    }
    events[at] = event;
  }

  #pop(): void {
    const events = this.#events;
    const last = events.pop()!;
    if (events.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= events.length) break;
      if (child + 1 < events.length && this.#before(events[child + 1]!, events[child]!)) child++;
      if (!this.#before(events[child]!, last)) break;
      events[at] = events[child]!;
      at = child;
    }
    events[at] = last;
  }
}
