/** What this member and its peers say to each other beside consensus: forwarded work, read indexes, calls. */
import type { Raft } from "../consensus/raft";
import type { ConfirmedRead, Message } from "../consensus/types";
import type { MemberId } from "../ids";
import { Forwarded } from "./forwarded";
import { PeerCalls } from "./peer-calls";
import type { PeerMessage } from "./peer-message";
import type { Clock, Peers } from "./ports";
import type { Proposals } from "./proposals";
import { ReadQuestions } from "./read-questions";
import type { Reads } from "./reads";

export interface ExchangeParts {
  readonly self: MemberId;
  readonly incarnation: bigint;
  readonly clock: Clock;
  readonly peers: Peers;
  readonly raft: Raft;
  readonly proposals: Proposals;
  readonly reads: Reads;
  /** Whether this member, as leader, takes no forwarded proposals for now. */
  readonly overloaded: () => boolean;
  /** Whether its log's disk is full, so that it will hand over if it can. */
  readonly stuck: () => boolean;
  readonly electionTimeoutMs: number;
}

/** What followers forward waits for so many election timeouts while the leader's disk is full: then it has handed over. */
const stuckElectionTimeouts = 3;

export class Exchange {
  readonly calls: PeerCalls;
  readonly #parts: ExchangeParts;
  readonly #forwarded: Forwarded;
  readonly #questions: ReadQuestions;

  constructor(parts: ExchangeParts) {
    this.#parts = parts;
    const { self, incarnation, clock, peers, raft, reads, overloaded, stuck, electionTimeoutMs } = parts;
    const stuckMaxMs = stuckElectionTimeouts * electionTimeoutMs;
    const send = (message: PeerMessage) => peers.send([message]);
    this.calls = new PeerCalls({ self, incarnation, clock, send });
    this.#forwarded = new Forwarded({ self, raft, clock, overloaded, stuck, stuckMaxMs, send });
    this.#questions = new ReadQuestions({ self, raft, nextContext: () => reads.nextContext(), send });
  }

  /** A message for this member. Answers to an earlier life of it are ignored. */
  receive(message: PeerMessage): void {
    const { incarnation, raft, proposals, reads, clock } = this.#parts;
    switch (message.kind) {
      case "propose":
        return this.#forwarded.receive(message);
      case "propose-refused":
        if (message.incarnation !== incarnation) return;
        return proposals.refused(message.from, message.batch, message.reason);
      case "read-index":
        return this.#questions.receive(message);
      case "read-index-answer":
        if (message.incarnation !== incarnation) return;
        if (message.index === undefined) reads.refused(message.context, clock.monotonicMs());
        else reads.confirmed(message.context, message.index);
        return;
      case "call":
      case "call-answer":
        return this.calls.receive(message);
      default:
        raft.step(message satisfies Message);
    }
  }

  /** Start of a turn: what waits goes to consensus here, or to the leader. */
  handIn(): void {
    const { self: from, incarnation, clock, peers, raft, proposals, reads } = this.#parts;
    this.#forwarded.handIn();
    proposals.handIn(raft, (to, term, batch, payloads) =>
      peers.send([{ kind: "propose", from, to, term, incarnation, batch, payloads }]),
    );
    if (!reads.waiting) return;
    reads.handIn(raft, clock.monotonicMs(), (to, context) =>
      peers.send([{ kind: "read-index", from, to, incarnation, context }]),
    );
  }

  confirmed(confirmed: readonly ConfirmedRead[]): void {
    const { reads } = this.#parts;
    for (const { context, index } of confirmed) {
      if (!this.#questions.confirmed(context, index)) reads.confirmed(context, index);
    }
  }

  abandoned(contexts: readonly number[]): void {
    const { reads } = this.#parts;
    for (const context of contexts) {
      if (!this.#questions.abandoned(context)) reads.abandoned(context);
    }
  }

  /** Role, term or leader changed. */
  stateChanged(): void {
    this.#forwarded.stateChanged();
  }
}
