/** Renewals of leases on any member, answered by the leader (lease-rules.md). */

/** What the leader knows of a lease's time. */
export interface LeaseTimeToLive {
  readonly grantedTtlSeconds: number;
  /** Whole seconds left, rounded down. */
  readonly remainingSeconds: number;
}
