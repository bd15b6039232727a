/** What the health and version pages ask the member; the member implements it. */

export interface Alarm {
  /** "CORRUPT" or "NOSPACE"; anything else is reported as unknown. */
  readonly type: string;
  readonly memberId: bigint;
}

export interface Versions {
  /** The etcd level that is implemented, such as "3.6.14". */
  readonly etcdserver: string;
  /** "not_decided" before the first decision. */
  readonly etcdcluster: string;
  /** "unknown" before the first decision. */
  readonly storage: string;
}

export interface HealthSource {
  /** Alarms that are raised anywhere in the cluster. */
  alarms(): readonly Alarm[];
  hasLeader(): boolean;
  isLearner(): boolean;
  /** Reads one key of this member's own state; rejects with the reason when that fails. */
  serializableRead(): Promise<void>;
  /** Reads one key after confirming leadership; rejects with the reason when that fails. */
  linearizableRead(): Promise<void>;
  versions(): Versions;
}
