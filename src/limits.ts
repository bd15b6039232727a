/** Every bound in one place, with its unit in its name. Configuration may override the ones etcd has flags for. */

/** Requests above this are refused (etcd's --max-request-bytes). */
export const requestBytesMaxDefault = 1_572_864;
/** What a gRPC frame may exceed the request limit by, for the envelope around it. */
export const grpcOverheadBytes = 524_288;
/** The longest that anything may hold the event loop before it yields. */
export const sliceBudgetMs = 10;
/**
 * Committed entries that may wait for apply before proposals are refused. etcd's bound is 5,000; here a whole
 * group commit becomes committed at once, so the same pressure shows as a larger number.
 */
export const committedUnappliedMax = 20_000;
/** The largest lease TTL in seconds. */
export const leaseTtlSecondsMax = 9_000_000_000;
/** Quota when --quota-backend-bytes is 0. */
export const quotaBytesDefault = 2 * 1024 ** 3;
/** An open SQLite transaction is committed after this long ... */
export const applyCommitIntervalMs = 20;
/** ... or after this many bytes of rows. */
export const applyCommitBytes = 4 * 1024 ** 2;
/** Proposals stop when less than this is free on the disk; deletes and compaction go on. */
export const diskReserveBytes = 64 * 1024 ** 2;
/**
 * The newest log entries that recovery loads and consensus keeps in memory. What is held for a tenth of a second
 * outlives the collections of young objects and is then garbage until the next full one, so this is kept small.
 */
export const logTailBytesMax = 4 * 1024 ** 2;
/** Proposals are refused while more than this waits for its commit. */
export const uncommittedBytesMax = 256 * 1024 ** 2;
/** Bytes of one append message to a follower, and of all that are on their way to it. */
export const appendBytesMax = 1024 ** 2;
export const inflightBytesMax = 32 * 1024 ** 2;
export const inflightMessagesMax = 256;
/** Bytes of a snapshot that one follower gets in a second: 1 GB takes a minute. */
export const snapshotBytesPerSecond = 16 * 1024 ** 2;
/**
 * Bytes of older entries that followers are sent in a second, besides what keeps pace with the log's own growth, and
 * at once.
 */
export const catchUpBytesPerSecond = 16 * 1024 ** 2;
export const catchUpPieceBytes = 256 * 1024;
/** The largest piece of a snapshot that is read, sent and written at once: a put that comes meanwhile waits for it. */
export const snapshotPieceBytes = 128 * 1024;
/** Proposals of a follower that are on their way to the leader; the rest waits, since a full connection drops. */
export const forwardedBytesMax = 32 * 1024 ** 2;
export const forwardedBatchesMax = 4_096;
/** A follower that asked for nothing of its snapshot for this long is taken to have given it up. */
export const snapshotSilenceMs = 5_000;
/** Failed copies and installs are tried again after a second, and then ever later up to this. */
export const snapshotRetryMsMax = 60_000;
/** Reads that began before a snapshot replaced the state may go on for this long. */
export const retiredStateMs = 60_000;
