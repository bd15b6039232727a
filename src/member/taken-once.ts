/** Recognises what was taken already, in bounded memory, where a sender counts what it sends from 1. */
import type { MemberId } from "../ids";

/** Numbers that were skipped and may still come; older ones are given up. */
const missingMax = 4_096;
/**
 * Lives of one sender that are remembered. The transport delivers nothing of an earlier life once a later one is
 * heard, so only a message that many restarts late could be taken again.
 */
const livesMax = 64;

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

/** A number is taken at most once per life of its sender, also when messages come late, repeated or out of order. */
export class TakenOnce {
  /** By sender and incarnation, the latest life that began at the end. */
  readonly #senders = new Map<MemberId, Map<bigint, Life>>();

  /** True the first time only. */
  take(from: MemberId, incarnation: bigint, number: number): boolean {
    let lives = this.#senders.get(from);
    if (lives === undefined) {
      lives = new Map();
      this.#senders.set(from, lives);
    }
    let life = lives.get(incarnation);
    if (life === undefined) {
      life = new Life();
      lives.set(incarnation, life);
      if (lives.size > livesMax) lives.delete(lives.keys().next().value!);
    }
    return life.take(number);
  }

  clear(): void {
    this.#senders.clear();
  }
}
