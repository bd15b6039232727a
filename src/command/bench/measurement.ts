/** What a run counts while it goes on. */
import { Histogram } from "./histogram";

/** Codes after which nobody knows whether the request took effect. */
const indefiniteCodes: ReadonlySet<number> = new Set([1, 2, 4, 13, 14, 15]);

export class Measurement {
  readonly latency = new Histogram();
  succeeded = 0;
  failed = 0;
  /** Failed calls that may still have taken effect. */
  indefinite = 0;
  readonly errors = new Map<string, { code: number; text: string; count: number }>();

  success(latencyMs: number): void {
    this.succeeded++;
    this.latency.record(latencyMs);
  }

  failure(code: number, text: string): void {
    this.failed++;
    if (indefiniteCodes.has(code)) this.indefinite++;
    const key = `${code} ${text}`;
    const known = this.errors.get(key);
    if (known !== undefined) known.count++;
    // A server that puts something unique into each text must not fill the memory.
    else if (this.errors.size < 100) this.errors.set(key, { code, text, count: 1 });
  }

  get finished(): number {
    return this.succeeded + this.failed;
  }
}

/** Decides when the next operation may begin, and when there is none any more. */
export class Pace {
  #issued = 0;
  #stopped = false;
  #endedAtMs: number | undefined;
  readonly #startAtMs = performance.now();
  readonly #endAtMs: number;
  readonly #total: number;
  readonly #intervalMs: number;

  constructor(limits: {
    readonly total: number | undefined;
    readonly durationMs: number | undefined;
    readonly ratePerSecond: number | undefined;
  }) {
    this.#total = limits.total ?? Number.POSITIVE_INFINITY;
    this.#endAtMs = this.#startAtMs + (limits.durationMs ?? Number.POSITIVE_INFINITY);
    this.#intervalMs = limits.ratePerSecond === undefined ? 0 : 1000 / limits.ratePerSecond;
  }

  /** From the start until the last answer, or until now while the load goes on. */
  get elapsedMs(): number {
    return (this.#endedAtMs ?? performance.now()) - this.#startAtMs;
  }

  /** The last answer has come. */
  end(): void {
    this.#endedAtMs ??= performance.now();
  }

  /** No operation begins any more. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * When the next operation is due, or undefined when there is none. With a rate that is the scheduled time, from
   * which its latency counts, so that a slow server cannot hide by being asked less often.
   */
  next(nowMs: number): number | undefined {
    if (this.#stopped || this.#issued >= this.#total || nowMs >= this.#endAtMs) return undefined;
    const dueAtMs = this.#intervalMs === 0 ? nowMs : this.#startAtMs + this.#issued * this.#intervalMs;
    if (dueAtMs >= this.#endAtMs) return undefined;
    this.#issued++;
    return dueAtMs;
  }
}
