/**
 * Linearizable reads: one confirmed read index serves every read that waits (Raft thesis 6.4). A member that leads asks
 * its own consensus, any other asks the leader.
 */
import type { Raft } from "../consensus/raft";
import { refuse, type StoreError } from "../errors";
import { type LogIndex, type MemberId, noMember, type Term } from "../ids";

/** A question that went to another member is asked again after this long without an answer, as etcd does. */
const askAgainMs = 500;
/** After "ask again", and with the same leader still known. */
const refusedPauseMs = 100;

interface Round {
  readonly startedAtMs: number;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: StoreError) => void;
  /** The contexts with which it was asked, from the first to the last: an answer to any of them will do. */
  firstContext: number;
  lastContext: number;
  /** Who was asked last, and in which term it led; `noMember`: nobody who could still answer. */
  askedOf: MemberId;
  askedTerm: Term;
  askAgainAtMs: number;
  /** The index that must be applied, once confirmed. */
  index: LogIndex | undefined;
}

/** Puts a question to the leader. It may be lost. */
export type AskLeader = (leader: MemberId, context: number) => void;

/**
 * Reads that arrive while a round is under way join the next one: a round may only serve reads that came before
 * it began.
 */
export class Reads {
  #lastContext = 0;
  #collecting: Round | undefined;
  /** Asked, not yet confirmed. */
  #asked: Round | undefined;
  /** Confirmed, waiting for apply. */
  #confirmed: Round[] = [];
  #appliedIndex: LogIndex;
  failed = 0;

  constructor(appliedIndex: LogIndex) {
    this.#appliedIndex = appliedIndex;
  }

  /** True while reads wait that nobody was asked about. */
  get waiting(): boolean {
    return this.#collecting !== undefined || this.#asked !== undefined;
  }

  /** A number that no question of this member's life had before. */
  nextContext(): number {
    return ++this.#lastContext;
  }

  /** Resolves when a read of the local state is linearizable with every answer given before this call. */
  confirm(nowMs: number): Promise<void> {
    if (this.#collecting === undefined) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      this.#collecting = {
        startedAtMs: nowMs,
        promise,
        resolve,
        reject,
        firstContext: 0,
        lastContext: 0,
        askedOf: noMember,
        askedTerm: 0,
        askAgainAtMs: 0,
        index: undefined,
      };
    }
    return this.#collecting.promise;
  }

  /** Asks about the waiting reads, unless a round is open; asks again about an open one whose question is lost. */
  handIn(raft: Raft, nowMs: number, ask: AskLeader): void {
    if (this.#asked !== undefined) {
      this.#askAgain(this.#asked, raft, nowMs, ask);
      return;
    }
    if (this.#collecting === undefined) return;
    if (!this.#ask(this.#collecting, raft, nowMs, ask)) return;
    this.#asked = this.#collecting;
    this.#collecting = undefined;
  }

  #ask(round: Round, raft: Raft, nowMs: number, ask: AskLeader): boolean {
    const context = this.nextContext();
    const outcome = raft.readIndex(context);
    if (!outcome.ok && outcome.leader === noMember) return false;
    if (round.firstContext === 0) round.firstContext = context;
    round.lastContext = context;
    if (outcome.ok) {
      // Consensus here forgets no question.
      round.askedOf = noMember;
      round.askAgainAtMs = Infinity;
      return true;
    }
    round.askedOf = outcome.leader;
    round.askedTerm = raft.briefStatus().term;
    round.askAgainAtMs = nowMs + askAgainMs;
    ask(outcome.leader, context);
    return true;
  }

  /** At once when another member leads by now, or when time is up; the reads of the round stay the same. */
  #askAgain(round: Round, raft: Raft, nowMs: number, ask: AskLeader): void {
    if (round.askAgainAtMs === Infinity) return;
    if (nowMs < round.askAgainAtMs) {
      const { leader, term } = raft.briefStatus();
      if (leader === round.askedOf && term === round.askedTerm) return;
    }
    this.#ask(round, raft, nowMs, ask);
  }

  /** A question was confirmed at an index, here or by the leader. */
  confirmed(context: number, index: LogIndex): void {
    const round = this.#open(context);
    if (round === undefined) return;
    this.#asked = undefined;
    if (index <= this.#appliedIndex) return round.resolve();
    round.index = index;
    this.#confirmed.push(round);
  }

  #open(context: number): Round | undefined {
    const round = this.#asked;
    if (round === undefined || context < round.firstContext || context > round.lastContext) return undefined;
    return round;
  }

  applied(index: LogIndex): void {
    this.#appliedIndex = index;
    if (this.#confirmed.length === 0) return;
    const ready = this.#confirmed.filter((round) => round.index! <= index);
    if (ready.length === 0) return;
    this.#confirmed = this.#confirmed.filter((round) => round.index! > index);
    for (const round of ready) round.resolve();
  }

  /** Leadership was lost here before the question was confirmed: the next leader is asked as soon as it is known. */
  abandoned(context: number): void {
    const round = this.#open(context);
    if (round !== undefined) round.askAgainAtMs = 0;
  }

  /** Whoever was asked does not lead (any more). Another leader is asked at once, the same one after a pause. */
  refused(context: number, nowMs: number): void {
    const round = this.#open(context);
    if (round === undefined || round.askAgainAtMs === Infinity) return;
    round.askAgainAtMs = Math.min(round.askAgainAtMs, nowMs + refusedPauseMs);
  }

  sweep(nowMs: number, timeoutMs: number): void {
    const expired = (round: Round | undefined): round is Round =>
      round !== undefined && nowMs - round.startedAtMs >= timeoutMs;
    const given = this.#confirmed.filter(expired);
    if (given.length > 0) this.#confirmed = this.#confirmed.filter((round) => !expired(round));
    if (expired(this.#collecting)) {
      given.push(this.#collecting);
      this.#collecting = undefined;
    }
    if (expired(this.#asked)) {
      given.push(this.#asked);
      this.#asked = undefined;
    }
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
