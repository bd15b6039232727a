/** Every bound of the hub, with its unit in its name. */

/** Revisions that one shared scan reads, and so the most that one catch-up response can span. */
export const scanRevisionsMax = 1_000;
/** Bytes of records that one shared scan reads; a scan ends at the first revision that passes it. */
export const scanBytesMax = 1024 ** 2;
/** Watchers that one shared scan feeds. */
export const scanWatchersMax = 512;
/** Watchers times changes that one shared scan compares, to stay within a few milliseconds. */
export const scanComparisonsMax = 200_000;
/** Events that wait for a flush are sent at once when there are more than this ... */
export const pendingEventsMax = 1_000;
/** ... or when they hold more bytes. */
export const pendingBytesMax = 256 * 1024;
/** Recent revisions kept in memory, so that a reader who is only a little late needs no history ... */
export const tailRevisionsMax = 16_384;
/** ... and the bytes of their records. */
export const tailBytesMax = 8 * 1024 ** 2;
/** A batch above this is cut for watchers that asked for it: etcd's request limit and its envelope. */
export const fragmentBytesDefault = 1_572_864 + 524_288;
/** Between periodic progress notifications. */
export const progressIntervalMsDefault = 600_000;
