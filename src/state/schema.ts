/**
 * The tables of the state database. Drizzle owns their shape and serves the cold ones; the hot path (revisions,
 * position) uses prepared statements on the same connection. 64-bit ids are 8-byte big-endian blobs, because the
 * driver rounds integers above 2^53.
 */
import { blob, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Every retained version of every key, in the order in which they were written. */
export const revisions = sqliteTable("revisions", {
  /** Strictly increasing; never used again. */
  sequence: integer("sequence").primaryKey(),
  main: integer("main").notNull(),
  sub: integer("sub").notNull(),
  checksum: integer("checksum").notNull(),
  /** A sealed record. */
  record: blob("record", { mode: "buffer" }).notNull(),
});

/** One row: how far the state has come. Moves in the same transaction as what it describes. */
export const position = sqliteTable("position", {
  id: integer("id").primaryKey(),
  appliedIndex: integer("applied_index").notNull(),
  appliedTerm: integer("applied_term").notNull(),
  revision: integer("revision").notNull(),
  compactedRevision: integer("compacted_revision").notNull(),
  /** Physical compaction has dealt with every row up to this sequence. */
  sweptSequence: integer("swept_sequence").notNull(),
  /** The compacted revision that physical compaction has finished with. */
  sweptRevision: integer("swept_revision").notNull(),
  nextSequence: integer("next_sequence").notNull(),
  /** Number of rows in all tables but this one, and the sum of their checksums in two lanes. */
  rowCount: integer("row_count").notNull(),
  rowSum: integer("row_sum").notNull(),
  rowMix: integer("row_mix").notNull(),
  checksum: integer("checksum").notNull(),
});

/** Leases; which keys they hold is in the records. */
export const leases = sqliteTable("leases", {
  id: blob("id", { mode: "buffer" }).primaryKey(),
  grantedTtlSeconds: integer("granted_ttl_seconds").notNull(),
  remainingTtlSeconds: integer("remaining_ttl_seconds").notNull(),
  checksum: integer("checksum").notNull(),
});

/** Members, also removed ones: an id is never used again. */
export const members = sqliteTable("members", {
  id: blob("id", { mode: "buffer" }).primaryKey(),
  removed: integer("removed").notNull(),
  /** An encoded etcdserverpb.Member. */
  member: blob("member", { mode: "buffer" }).notNull(),
  checksum: integer("checksum").notNull(),
});

/** Active alarms by name: an encoded etcdserverpb.AlarmMember is the key. */
export const alarms = sqliteTable("alarms", {
  alarm: blob("alarm", { mode: "buffer" }).primaryKey(),
  checksum: integer("checksum").notNull(),
});

/** Single values that the cluster agreed on. */
export const settings = sqliteTable("settings", {
  name: text("name").primaryKey(),
  value: text("value").notNull(),
  checksum: integer("checksum").notNull(),
});

/** What writes under an idempotency key came to. */
export const keptResults = sqliteTable("kept_results", {
  key: blob("key", { mode: "buffer" }).primaryKey(),
  /** Log time at which it was applied. */
  timeMs: integer("time_ms").notNull(),
  requestHash: blob("request_hash", { mode: "buffer" }).notNull(),
  /** An encoded keelson.KeptResult. */
  result: blob("result", { mode: "buffer" }).notNull(),
  checksum: integer("checksum").notNull(),
});

/** When revisions were written: the first one of each second. */
export const timeMarks = sqliteTable("time_marks", {
  revision: integer("revision").primaryKey(),
  timeMs: integer("time_ms").notNull(),
  checksum: integer("checksum").notNull(),
});
