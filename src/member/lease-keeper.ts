/** The leader's timing of leases. Lives only in memory; the leases themselves are replicated state. */
import type { LeaseId, Term } from "../ids";
import type { Clock } from "./ports";

/** A lease as the replicated state knows it. */
export interface LeaseTiming {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
  /** Set by a checkpoint; 0 or absent: the full time. */
  readonly remainingSeconds?: number;
}

export interface LeaseKeeperOptions {
  readonly clock: Clock;
  /** What a new leader adds to every lease: nobody could renew while there was no leader. */
  readonly electionTimeoutMs: number;
  /** Propose a revoke for each, with this term in `expired_in_term`; asked again every 3 s until {@link LeaseKeeper.revoked}. */
  readonly expired: (ids: readonly LeaseId[], term: Term) => void;
  /** Propose a LeaseCheckpoint; absent: no checkpoints are made. */
  readonly checkpoint?: (
    checkpoints: readonly { readonly id: LeaseId; readonly remainingSeconds: number }[],
  ) => void;
  readonly checkpointIntervalMs?: number;
}

/**
 * What a renewal came to: the full time in seconds, or why not.
 * "unknown": no such lease. "expired": its time is over and its revoke under way; wait with
 * {@link LeaseKeeper.settled}, then answer TTL 0. "checkpointed": a recorded remaining time must first be
 * cleared (propose a checkpoint of 0, wait for its apply, renew again). "notLeader": ask the leader.
 */
export type Renewal = number | "unknown" | "expired" | "checkpointed" | "notLeader";

/** Times leases while this member leads. Every call that names a lease comes after that lease's apply. */
export class LeaseKeeper {
  constructor(readonly options: LeaseKeeperOptions) {}
  get leading(): boolean {
    throw new Error("not yet");
  }
  /** Starts timing, once the first entry of the term is applied: each lease gets its full (or checkpointed) time plus the election timeout. */
  promote(_term: Term, _leases: Iterable<LeaseTiming>): void {}
  demote(): void {}
  /** A grant was applied. */
  granted(_id: LeaseId, _ttlSeconds: number): void {}
  /** A revoke was applied, a client's or one of ours. */
  revoked(_id: LeaseId): void {}
  /** A checkpoint was applied; 0 clears it. */
  checkpointed(_id: LeaseId, _remainingSeconds: number): void {}
  renew(_id: LeaseId): Renewal {
    throw new Error("not yet");
  }
  /** Milliseconds left (negative when over), or undefined when the lease is unknown or this member does not lead. */
  remaining(_id: LeaseId): number | undefined {
    throw new Error("not yet");
  }
  /** Resolves when the lease is revoked, or this member stops leading. */
  settled(_id: LeaseId): Promise<void> {
    throw new Error("not yet");
  }
}
