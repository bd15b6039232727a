/** The one place that opens the state database and decides its pragmas, format and schema. */
import { Database } from "bun:sqlite";

/** Marks a file as Keelson's ("Keel"). */
const applicationId = 0x4b65656c;

/** The database cannot be used; the message says why and what to do. */
export class StateDatabaseError extends Error {
  override readonly name = "StateDatabaseError";
}

/**
 * Each format as the statements that lead to it from the one before. Embedded, so that the executable needs no
 * file beside it; `schema.test.ts` holds the outcome to the drizzle tables. Never edit one that was released.
 */
const migrations: readonly (readonly string[])[] = [
  [
    `CREATE TABLE revisions (
      sequence INTEGER PRIMARY KEY,
      main INTEGER NOT NULL,
      sub INTEGER NOT NULL,
      checksum INTEGER NOT NULL,
      record BLOB NOT NULL
    )`,
    `CREATE TABLE position (
      id INTEGER PRIMARY KEY,
      applied_index INTEGER NOT NULL,
      applied_term INTEGER NOT NULL,
      revision INTEGER NOT NULL,
      compacted_revision INTEGER NOT NULL,
      swept_sequence INTEGER NOT NULL,
      swept_revision INTEGER NOT NULL,
      next_sequence INTEGER NOT NULL,
      row_count INTEGER NOT NULL,
      row_sum INTEGER NOT NULL,
      row_mix INTEGER NOT NULL,
      checksum INTEGER NOT NULL
    )`,
    `CREATE TABLE leases (
      id BLOB PRIMARY KEY,
      granted_ttl_seconds INTEGER NOT NULL,
      remaining_ttl_seconds INTEGER NOT NULL,
      checksum INTEGER NOT NULL
    )`,
    `CREATE TABLE members (
      id BLOB PRIMARY KEY,
      removed INTEGER NOT NULL,
      member BLOB NOT NULL,
      checksum INTEGER NOT NULL
    )`,
    `CREATE TABLE alarms (alarm BLOB PRIMARY KEY, checksum INTEGER NOT NULL)`,
    `CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL)`,
  ],
  [
    `CREATE TABLE kept_results (
      key BLOB PRIMARY KEY,
      time_ms INTEGER NOT NULL,
      request_hash BLOB NOT NULL,
      result BLOB NOT NULL,
      checksum INTEGER NOT NULL
    )`,
    `CREATE TABLE time_marks (
      revision INTEGER PRIMARY KEY,
      time_ms INTEGER NOT NULL,
      checksum INTEGER NOT NULL
    )`,
    `CREATE INDEX time_marks_by_time ON time_marks (time_ms)`,
  ],
];

/** The format that this build writes; older ones are brought up to it, newer ones refused. */
export const stateFormat = migrations.length;

/** Pragmas that last with the file must come before its first table. */
const creationPragmas = ["page_size = 4096", "auto_vacuum = INCREMENTAL"];

/**
 * NORMAL syncs SQLite's WAL only at checkpoints: the Raft log is the durable record, and is cut only below what a
 * finished checkpoint covers. Checkpoints are a Worker's work, so that no commit ever syncs on the event loop.
 */
const connectionPragmas = [
  "journal_mode = WAL",
  "synchronous = NORMAL",
  "wal_autocheckpoint = 0",
  // Small: the operating system holds the file's pages anyway. Random reads of a million keys were no slower than
  // with 64 MiB, and the process 60 MB smaller.
  "cache_size = -8192",
  "temp_store = MEMORY",
  // Only a checkpoint's few milliseconds can be in the way of a write.
  "busy_timeout = 5000",
  "journal_size_limit = 67108864",
  "trusted_schema = OFF",
];

function pragmaNumber(database: Database, name: string): number {
  const row = database.query<Record<string, number>, []>(`PRAGMA ${name}`).get();
  return Number(row?.[name] ?? 0);
}

/**
 * Opens (or creates) the state database at `path`, or one in memory for ":memory:", and brings its schema up to
 * date.
 * @throws {StateDatabaseError} when the file is not Keelson's or of a newer format.
 */
export function openStateDatabase(path: string): Database {
  return adoptStateDatabase(new Database(path, { create: true, readwrite: true }), path);
}

/** As {@link openStateDatabase}, for a database that is open already; closes it when it cannot be used. */
export function adoptStateDatabase(database: Database, path: string): Database {
  try {
    if (pragmaNumber(database, "page_count") === 0) {
      for (const pragma of creationPragmas) database.run(`PRAGMA ${pragma}`);
    }
    const format = ownFormat(database, path);
    for (const pragma of connectionPragmas) database.run(`PRAGMA ${pragma}`);
    if (format < stateFormat) migrate(database, format);
    return database;
  } catch (error) {
    database.close();
    if (error instanceof StateDatabaseError || !(error instanceof Error)) throw error;
    throw new StateDatabaseError(
      `the state database ${path} cannot be opened: ${error.message}; ` +
        "if the disk is sound, restore this member from a snapshot or add it to the cluster anew",
      { cause: error },
    );
  }
}

/** The format of the file, 0 when it is new. Changes nothing, so that a refused file stays as it was. */
function ownFormat(database: Database, path: string): number {
  const format = pragmaNumber(database, "user_version");
  const owner = pragmaNumber(database, "application_id");
  const tables = database.query<{ count: number }, []>("SELECT count(*) AS count FROM sqlite_master").get();
  if (owner !== applicationId && tables !== null && tables.count > 0) {
    throw new StateDatabaseError(`${path} is a database of another program; point --data-dir elsewhere`);
  }
  if (format > stateFormat) {
    throw new StateDatabaseError(
      `the state database ${path} has format ${format}, written by a newer Keelson; this build knows formats ` +
        `up to ${stateFormat}: start the newer version again`,
    );
  }
  return format;
}

function migrate(database: Database, format: number): void {
  database.run("BEGIN IMMEDIATE");
  for (const statements of migrations.slice(format))
    for (const statement of statements) database.run(statement);
  database.run(`PRAGMA application_id = ${applicationId}`);
  database.run(`PRAGMA user_version = ${stateFormat}`);
  database.run("COMMIT");
}
