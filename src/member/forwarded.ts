/**
 * What followers forward to this member while it leads. It takes a batch only in the very term that the sender named,
 * and once; it says "refused" only where nothing of the batch can be in its log.
 */
import type { Raft } from "../consensus/raft";
import { type MemberId, noMember, type Term } from "../ids";
import { uncommittedBytesMax } from "../limits";
import type { MemberMessage } from "./peer-message";
import type { Clock } from "./ports";
import { TakenOnce } from "./taken-once";

type ForwardedBatch = Extract<MemberMessage, { kind: "propose" }>;

export interface ForwardedParts {
  readonly self: MemberId;
  readonly raft: Raft;
  readonly clock: Clock;
  /** Too much waits already: nothing more is taken. */
  readonly overloaded: () => boolean;
  /** Nothing can be written now; another leader may take over soon. */
  readonly stuck: () => boolean;
  /** How long batches wait for that, at most. */
  readonly stuckMaxMs: number;
  readonly send: (message: MemberMessage) => void;
}

export class Forwarded {
  readonly #parts: ForwardedParts;
  /** The last term that this member led in this life, and what it has seen in it. */
  #ledTerm: Term = 0;
  readonly #seen = new TakenOnce();
  /** Not yet in the log. */
  #held: ForwardedBatch[] = [];
  #heldBytes = 0;
  /** When the oldest of them came (monotonic milliseconds). */
  #heldSinceMs = 0;

  constructor(parts: ForwardedParts) {
    this.#parts = parts;
  }

  receive(batch: ForwardedBatch): void {
    this.#noticeLeadership();
    // Of terms before the last one led nothing is remembered, and an earlier life may have led them: silence then.
    // The sender finds out when it applies an entry of a later term.
    if (batch.term !== this.#ledTerm || !this.#seen.take(batch.from, batch.incarnation, batch.batch)) return;
    if (!this.#leads()) return this.#refuse(batch, "not-leader");
    const bytes = batch.payloads.reduce((sum, payload) => sum + payload.length, 0);
    if (this.#heldBytes + bytes > uncommittedBytesMax) return this.#refuse(batch, "overloaded");
    if (this.#held.length === 0) this.#heldSinceMs = this.#parts.clock.monotonicMs();
    this.#held.push(batch);
    this.#heldBytes += bytes;
  }

  #noticeLeadership(): void {
    const { role, term } = this.#parts.raft.briefStatus();
    if (role !== "leader" || term === this.#ledTerm) return;
    this.#refuseHeld("not-leader");
    this.#ledTerm = term;
    this.#seen.clear();
  }

  #leads(): boolean {
    const { role, term } = this.#parts.raft.briefStatus();
    return role === "leader" && term === this.#ledTerm;
  }

  /** Appends what came. While leadership is being handed over it waits: the transfer may fail. */
  handIn(): void {
    if (this.#held.length === 0) return;
    const { raft, clock, overloaded, stuck, stuckMaxMs } = this.#parts;
    if (!this.#leads()) return this.#refuseHeld("not-leader");
    if (raft.briefStatus().transferee !== noMember) return;
    if (stuck()) {
      if (clock.monotonicMs() - this.#heldSinceMs >= stuckMaxMs) this.#refuseHeld("overloaded");
      return;
    }
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    for (const batch of held) {
      if (overloaded() || !raft.propose(batch.payloads).ok) this.#refuse(batch, "overloaded");
    }
  }

  /** Role or term changed: what a former leader still holds goes back. */
  stateChanged(): void {
    if (this.#held.length > 0 && !this.#leads()) this.#refuseHeld("not-leader");
  }

  #refuseHeld(reason: "not-leader" | "overloaded"): void {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    for (const batch of held) this.#refuse(batch, reason);
  }

  #refuse({ from, term, incarnation, batch }: ForwardedBatch, reason: "not-leader" | "overloaded"): void {
    const { self, send } = this.#parts;
    send({ kind: "propose-refused", from: self, to: from, term, incarnation, batch, reason });
  }
}
