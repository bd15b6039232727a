/** How often a client may ping (grpc-go's enforcement policy, which etcd configures with grpc-keepalive-min-time). */

/** A third strike is forgiven no more. */
const strikesMax = 2;
/** A client without open calls has no reason to ping more often than this. */
const idleMinTimeMs = 2 * 3_600_000;

export class PingPolicy {
  readonly #minTimeMs: number;
  #lastAtMs = Number.NEGATIVE_INFINITY;
  #strikes = 0;
  #forgiven = false;

  constructor(minTimeMs: number) {
    this.#minTimeMs = minTimeMs;
  }

  /** The server wrote something that is not control traffic. */
  wrote(): void {
    this.#forgiven = true;
  }

  /** Judges a ping; false means that the connection must be closed. */
  received(nowMs: number, callsOpen: boolean): boolean {
    const sinceMs = nowMs - this.#lastAtMs;
    this.#lastAtMs = nowMs;
    if (this.#forgiven) {
      this.#forgiven = false;
      this.#strikes = 0;
      return true;
    }
    if (sinceMs < (callsOpen ? this.#minTimeMs : idleMinTimeMs)) this.#strikes++;
    return this.#strikes <= strikesMax;
  }
}
