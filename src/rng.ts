/** Where randomness comes from. Deterministic parts are handed one and never reach for `Math.random`. */
export interface Rng {
  /** A uniformly distributed integer in [0, bound); `bound` is a positive integer up to 2^32. */
  below(bound: number): number;
  /** 64 random bits. */
  bits64(): bigint;
}

/**
 * A small, fast, repeatable generator (PCG-like mixing over a 32-bit Weyl sequence, two streams wide), for
 * tests and simulations, and for election jitter. Not for secrets.
 */
export class SeededRng implements Rng {
  #a: number;
  #b: number;

  constructor(seed: number) {
    this.#a = seed >>> 0;
    this.#b = (seed ^ 0x9e3779b9) >>> 0;
    for (let i = 0; i < 8; i++) this.#next();
  }

  #next(): number {
    this.#a = (this.#a + 0x6d2b79f5) >>> 0;
    this.#b = (Math.imul(this.#b, 1664525) + 1013904223) >>> 0;
    let mixed = this.#a ^ this.#b;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  below(bound: number): number {
    return Math.floor((this.#next() / 2 ** 32) * bound);
  }

  bits64(): bigint {
    return (BigInt(this.#next()) << 32n) | BigInt(this.#next());
  }

  /** A generator whose draws do not influence this one's, so that a new consumer leaves old seeds valid. */
  fork(stream: number): SeededRng {
    return new SeededRng(Math.imul(this.#a ^ 0x85ebca6b, stream * 2 + 1) >>> 0);
  }
}
