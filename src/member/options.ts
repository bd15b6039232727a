/** What a member is started with, and what it tells its surroundings. */
import type { LogObserver } from "../storage/wal/types";
import type { ApplyObserver } from "./applier";
import type { AutoCompaction } from "./auto-compaction";
import type { InitialMember } from "./data-directory";
import type { JoinPlan } from "./join-plan";

export interface MemberOptions {
  readonly name: string;
  /** False: a member that the cluster knows keeps its name, and `name` is only for a new one. Absent: true. */
  readonly nameGiven?: boolean;
  readonly dataDirectory: string;
  /** Where the log lies when it is not inside the data directory. */
  readonly logDirectory?: string;
  readonly initialClusterState: "new" | "existing";
  readonly clientUrls: readonly string[];
  readonly initialCluster: readonly InitialMember[];
  readonly clusterToken: string;
  /** For a member without data: how it begins in a cluster that runs already. Absent: it founds one. */
  readonly joining?: JoinPlan;
  /** Rewrite the membership to this member alone, once, whatever the others say. */
  readonly forceNewCluster?: boolean;
  readonly heartbeatIntervalMs: number;
  readonly electionTimeoutMs: number;
  readonly preVote: boolean;
  readonly requestBytesMax: number;
  /** Of the state database; negative: no quota. */
  readonly quotaBytes: number;
  readonly autoCompaction: AutoCompaction | undefined;
  readonly compactionBatchRows: number;
  readonly compactionPauseMs: number;
  readonly applyCommitIntervalMs: number;
  /** Applied entries after which a checkpoint is due (etcd's --snapshot-count). */
  readonly checkpointEntries: number;
  /** Entries that stay in the log behind a checkpoint, for followers that lag. */
  readonly catchupEntries: number;
  readonly watchProgressIntervalMs: number;
  /** Replicate the remaining time of long leases now and then. */
  readonly leaseCheckpoints: boolean;
  readonly warningApplyMs: number;
  /** Refuse changes of membership that could cost the quorum (etcd's --strict-reconfig-check); absent: on. */
  readonly strictReconfiguration?: boolean;
  /** Learners at a time (etcd's --max-learners); absent: 1. */
  readonly learnersMax?: number;
  /** How often a leader compares all members' data (etcd's --corrupt-check-time); absent or 0: never. */
  readonly corruptCheckIntervalMs?: number;
  /** How often a leader looks whether a compaction is to be compared; absent or 0: never. */
  readonly compactHashCheckIntervalMs?: number;
  /** The size at which a segment of the log ends; absent: the log's own default. */
  readonly logSegmentBytes?: number;
  /** Other bounds than production's, for tests that want to meet them. */
  readonly bounds?: Partial<MemberBounds>;
}

export interface MemberBounds {
  /** Entries make a checkpoint due at most this often. */
  readonly checkpointPauseMs: number;
  /** See `ConsensusOptions`. */
  readonly logTailBytes: number;
  readonly appendBytes: number;
  readonly inflightMessages: number;
}

/** What a member tells its surroundings. */
export interface MemberEvents {
  log(level: "info" | "warn" | "error", message: string, fields?: Record<string, unknown>): void;
  /** The process must end now: a broken invariant, or a disk that can no longer be trusted. */
  fatal(error: unknown): void;
  /**
   * This member was removed from the cluster, for good. It no longer takes part; who runs it answers what is under
   * way and then stops it. Called once.
   */
  removed?(): void;
  readonly logObserver?: LogObserver;
  readonly applyObserver?: ApplyObserver;
}

/** Numbers of a member for metrics and Status. */
export interface MemberCounters {
  readonly proposalsPending: number;
  readonly proposalsFailed: number;
  readonly readsFailed: number;
  readonly backlog: number;
  readonly slowApplies: number;
  readonly logBytes: number;
}
