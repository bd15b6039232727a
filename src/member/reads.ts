/** Linearizable reads: one confirmed read index serves every read that waits (Raft thesis 6.4). */
import type { Raft } from "../consensus/raft";
import { refuse, type StoreError } from "../errors";
import type { LogIndex } from "../ids";

interface Round {
  readonly context: number;
  readonly startedAtMs: number;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: StoreError) => void;
  /** The index that must be applied, once confirmed. */
  index: LogIndex | undefined;
}

/**
 * Reads that arrive while a round is under way join the next one: a round may only serve reads that came before
 * it began.
 */
export class Reads {
  #nextContext = 1;
  #collecting: Round | undefined;
  /** Given to consensus, not yet confirmed. */
  #asked: Round | undefined;
  /** Confirmed, waiting for apply; indexes never fall. */
  #confirmed: Round[] = [];
  #appliedIndex: LogIndex;
  failed = 0;

  constructor(appliedIndex: LogIndex) {
    this.#appliedIndex = appliedIndex;
  }

  /** True while reads wait that consensus was not yet asked about. */
  get waiting(): boolean {
    return this.#collecting !== undefined;
  }

  /** Resolves when a read of the local state is linearizable with every answer given before this call. */
  confirm(nowMs: number): Promise<void> {
    if (this.#collecting === undefined) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      this.#collecting = {
        context: this.#nextContext++,
        startedAtMs: nowMs,
        promise,
        resolve,
        reject,
        index: undefined,
      };
    }
    return this.#collecting.promise;
  }

  /** Asks consensus for the waiting reads, unless a round is still open or there is no leader here. */
  handIn(raft: Raft): void {
    if (this.#collecting === undefined || this.#asked !== undefined) return;
    if (!raft.readIndex(this.#collecting.context).ok) return;
    this.#asked = this.#collecting;
    this.#collecting = undefined;
  }

  /** Consensus confirmed a round at an index. */
  confirmed(context: number, index: LogIndex): void {
    const round = this.#asked;
    if (round === undefined || round.context !== context) return;
    this.#asked = undefined;
    if (index <= this.#appliedIndex) return round.resolve();
    round.index = index;
    this.#confirmed.push(round);
  }

  applied(index: LogIndex): void {
    this.#appliedIndex = index;
    while (this.#confirmed.length > 0 && this.#confirmed[0]!.index! <= index) {
      this.#confirmed.shift()!.resolve();
    }
  }

  /** Leadership was lost: a read that was asked of the old leader cannot be confirmed any more. */
  abandoned(context: number): void {
    const round = this.#asked;
    if (round === undefined || round.context !== context) return;
    this.#asked = undefined;
    this.failed++;
    round.reject(refuse("leaderChanged"));
  }

  sweep(nowMs: number, timeoutMs: number): void {
    const expired = (round: Round | undefined): round is Round =>
      round !== undefined && nowMs - round.startedAtMs >= timeoutMs;
    const given: Round[] = [];
    if (expired(this.#collecting)) {
      given.push(this.#collecting);
      this.#collecting = undefined;
    }
    if (expired(this.#asked)) {
      given.push(this.#asked);
      this.#asked = undefined;
    }
    while (expired(this.#confirmed[0])) given.push(this.#confirmed.shift()!);
    this.failed += given.length;
    for (const round of given) round.reject(refuse("timeout"));
  }

  stop(): void {
    for (const round of [this.#collecting, this.#asked, ...this.#confirmed]) round?.reject(refuse("stopped"));
    this.#collecting = undefined;
    this.#asked = undefined;
    this.#confirmed = [];
  }
}
