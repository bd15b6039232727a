/** Handing leadership to another member: asked for by an operator, or by this member before it goes. */
import type { Raft } from "../consensus/raft";
import { GrpcCode, refuse, StoreError } from "../errors";
import { type MemberId, noMember } from "../ids";
import type { Clock, Peers } from "./ports";

export interface HandOverParts {
  readonly self: MemberId;
  readonly raft: Raft;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly electionTimeoutMs: number;
  /** What consensus wants to send leaves soon. */
  readonly wake: () => void;
}

interface Waiting {
  readonly to: MemberId;
  readonly endMs: number;
  readonly resolve: () => void;
  readonly reject: (error: StoreError) => void;
}

/** A transfer that consensus did not give up by then has ended in an election that goes on without a winner. */
const electionTimeouts = 1.5;

/** Consensus gives a transfer up after an election timeout; proposals wait meanwhile. */
export class HandOver {
  readonly #parts: HandOverParts;
  #waiting: Waiting[] = [];

  constructor(parts: HandOverParts) {
    this.#parts = parts;
  }

  /**
   * Resolves when `to` leads, as far as this member sees. Rejects with `notLeader`, with `badLeaderTransferee` when
   * `to` is no voter, or in etcd's words when the transfer was given up.
   */
  to(to: MemberId): Promise<void> {
    const { self, raft, clock, electionTimeoutMs, wake } = this.#parts;
    const { role } = raft.status();
    if (role !== "leader") return Promise.reject(refuse("notLeader"));
    if (to === self) return Promise.resolve();
    if (!raft.transferLeader(to).ok) return Promise.reject(refuse("badLeaderTransferee"));
    wake();
    const endMs = clock.monotonicMs() + electionTimeouts * electionTimeoutMs;
    return new Promise((resolve, reject) => this.#waiting.push({ to, endMs, resolve, reject }));
  }

  /** Hands leadership to whoever is best prepared; tells whether this member no longer leads. */
  async away(): Promise<boolean> {
    const { raft } = this.#parts;
    if (raft.status().role !== "leader") return true;
    const heir = this.#heir();
    if (heir === undefined) return false;
    try {
      await this.to(heir);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
    return raft.status().role !== "leader";
  }

  /** The voter with the longest log among those that are heard. */
  #heir(): MemberId | undefined {
    const { raft, peers } = this.#parts;
    return raft
      .status()
      .progress.filter(({ id, learner }) => !learner && peers.activeSinceMs(id) !== undefined)
      .reduce<{ id: MemberId; match: number } | undefined>(
        (best, { id, match }) => (best === undefined || match > best.match ? { id, match } : best),
        undefined,
      )?.id;
  }

  /** Call at every tick, and when role, term or leader changed. */
  check(): void {
    if (this.#waiting.length === 0) return;
    const { raft, clock } = this.#parts;
    const { role, leader, transferee } = raft.status();
    const nowMs = clock.monotonicMs();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      if (leader === one.to) one.resolve();
      else if (nowMs >= one.endMs) one.reject(tookTooLong());
      else if (role === "leader" ? transferee === one.to : leader === noMember) this.#waiting.push(one);
      else one.reject(tookTooLong());
    }
  }

  stop(): void {
    for (const { reject } of this.#waiting) reject(refuse("stopped"));
    this.#waiting = [];
  }
}

function tookTooLong(): StoreError {
  const text = "etcdserver: request timed out, leader transfer took too long";
  return new StoreError(GrpcCode.unknown, text, false);
}
