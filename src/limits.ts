/** Every bound in one place, with its unit in its name. Configuration may override the ones etcd has flags for. */

/** Requests above this are refused (etcd's --max-request-bytes). */
export const requestBytesMaxDefault = 1_572_864;
/** What a gRPC frame may exceed the request limit by, for the envelope around it. */
export const grpcOverheadBytes = 524_288;
/** Operations in one list of a transaction (etcd's --max-txn-ops). */
export const txnOpsMaxDefault = 128;
/** The longest that anything may hold the event loop before it yields. */
export const sliceBudgetMs = 10;
/** Committed entries that may wait for apply before proposals are refused. */
export const committedUnappliedMax = 5_000;
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
