/** Recognises what was taken already, in bounded memory, where a sender counts what it sends from 1. */
import type { MemberId } from "../ids";

/** Numbers that were skipped and may still come; older ones are given up. */
const missingMax = 4_096;
/** Lives of senders that are remembered; a message of a forgotten one is taken for a repetition. */
const livesMax = 4_096;

/** The numbers of one life of one sender. */
class Life {
  #highest = 0;
  readonly #missing = new Set<number>();

  take(number: number): boolean {
    if (number <= this.#highest) return this.#missing.delete(number);
    for (let skipped = Math.max(this.#highest + 1, number - missingMax); skipped < number; skipped++) {
      this.#missing.add(skipped);
    }
    this.#highest = number;
    for (const oldest of this.#missing) {
      if (this.#missing.size <= missingMax) break;
      this.#missing.delete(oldest);
    }
    return true;
  }
}

/**
 * A number is taken at most once per life of its sender, also when messages come late, repeated or out of order.
 * When memory ends, it errs towards "taken already".
 */
export class TakenOnce {
  readonly #lives = new Map<string, Life>();

  /** True the first time only. */
  take(from: MemberId, incarnation: bigint, number: number): boolean {
    const key = `${from}/${incarnation}`;
    let life = this.#lives.get(key);
    if (life === undefined) {
      if (this.#lives.size >= livesMax) return false;
      life = new Life();
      this.#lives.set(key, life);
    }
    return life.take(number);
  }

  clear(): void {
    this.#lives.clear();
  }
}
