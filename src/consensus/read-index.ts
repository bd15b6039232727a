/**
 * Reads that wait for proof of leadership (thesis §6.4).
 *
 * Reads gather in a queue. A round takes all that wait, fixes the commit index, and is confirmed once a quorum has
 * answered a heartbeat that carries the round's number; then the next round takes what gathered meanwhile. Numbers
 * are the leader's own and never used twice in its life, so a late answer to an earlier round, or to an earlier
 * attempt of the same caller, can never confirm a later one (etcd #20418).
 */
import type { LogIndex } from "../ids";
import type { ConfirmedRead } from "./types";

export class ReadIndexQueue {
  #waiting: number[] = [];
  #confirming: number[] = [];
  #index: LogIndex = 0;
  #round = 0;

  /** The newest round; heartbeats carry it. 0 before the first. */
  get round(): number {
    return this.#round;
  }
  get anyWaiting(): boolean {
    return this.#waiting.length > 0;
  }
  get underWay(): boolean {
    return this.#confirming.length > 0;
  }

  add(context: number): void {
    this.#waiting.push(context);
  }

  /** Begins a round with everything that waits. The previous one must be over. */
  begin(commit: LogIndex): void {
    this.#confirming = this.#waiting;
    this.#waiting = [];
    this.#index = commit;
    this.#round++;
  }

  /** Ends the round: its reads may be served once `index` is applied. */
  confirm(): ConfirmedRead[] {
    const index = this.#index;
    const reads = this.#confirming.map((context) => ({ context, index }));
    this.#confirming = [];
    return reads;
  }

  /** Gives up everything; returns the contexts. */
  abandon(): number[] {
    const contexts = [...this.#confirming, ...this.#waiting];
    this.#confirming = [];
    this.#waiting = [];
    return contexts;
  }
}
