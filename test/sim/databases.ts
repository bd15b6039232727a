/**
 * State databases on the simulated disk. Each is a database in memory with a file of its name on the disk: one that
 * was received as a snapshot begins with the file's bytes, so bytes that were never synced are missed here too. When
 * power fails, a database is rolled back to its last commit or, as the rng says, to its last checkpoint, which is
 * all that SQLite promises with `synchronous = NORMAL`.
 */
import { Database } from "bun:sqlite";
import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import type { DiskFile } from "../../src/member/ports";
import type { Rng } from "../../src/rng";
import { StateMachine } from "../../src/state/state-machine";
import {
  DatabaseFullError,
  DatabaseJobError,
  type DatabaseJobs,
  type SnapshotFile,
} from "../../src/storage/jobs/jobs";
import { adoptStateDatabase } from "../../src/storage/sqlite";
import { PowerCutError, type SimulatedDisk } from "./disk";

interface Entry {
  /** What the file on disk held when the database was opened from it; empty for one that began here. */
  readonly base: Uint8Array;
  database: Database | undefined;
  /** The state as of the last checkpoint. */
  checkpoint: Uint8Array;
  /** What a closed database left. */
  left: Uint8Array | undefined;
}

export interface SimulatedJobsOptions {
  /** True while a checkpoint holds apply. */
  readonly holding?: () => boolean;
  /** Lets virtual time pass: as long as a job in a Worker takes. */
  readonly pause: () => Promise<void>;
  /** Lets the time of a checkpoint's last pass go by, during which nothing is applied; absent: it takes none. */
  readonly hold?: () => Promise<void>;
}

/** All databases of one simulated disk; outlives the crashes of the member that uses them. */
export class SimulatedDatabases {
  readonly #disk: SimulatedDisk;
  readonly #rng: Rng | undefined;
  readonly #entries = new Map<string, Entry>();

  /** Without an rng no commit is ever lost. */
  constructor(disk: SimulatedDisk, rng?: Rng) {
    this.#disk = disk;
    this.#rng = rng;
  }

  /** The `openDatabase` of a member's ports. */
  openDatabase(path: string): Database {
    let entry = this.#entries.get(path);
    if (!this.#disk.list(dirname(path)).includes(basename(path))) {
      this.#disk.open(path, "create").close();
      this.#disk.syncDirectory(dirname(path));
      entry = undefined;
    }
    // Another file under the same name: the one that was opened before was removed.
    if (entry !== undefined && !this.#isIntact(path, entry)) entry = undefined;
    const bytes = entry === undefined ? this.#disk.content(path) : entry.base;
    entry ??= { base: bytes, database: undefined, checkpoint: bytes, left: undefined };
    this.#entries.set(path, entry);
    entry.database ??= this.#open(path, entry.left ?? entry.checkpoint);
    return entry.database;
  }

  #open(path: string, bytes: Uint8Array): Database {
    const opened = bytes.length > 0 ? Database.deserialize(Buffer.from(bytes)) : new Database(":memory:");
    const database = adoptStateDatabase(opened, path);
    const close = database.close.bind(database);
    database.close = (throwOnError) => {
      const entry = this.#entries.get(path);
      if (entry?.database === database) {
        if (database.inTransaction) database.run("ROLLBACK");
        entry.left = database.serialize();
        entry.database = undefined;
      }
      close(throwOnError);
    };
    return database;
  }

  /** The power failed, or the process was killed: call it once the disk was restarted. */
  crash(powerFailed = true): void {
    for (const [path, entry] of this.#entries) {
      const { database } = entry;
      if (database?.inTransaction) database.run("ROLLBACK");
      if (!powerFailed) continue;
      if (!this.#isIntact(path, entry)) {
        this.#entries.delete(path);
      } else if (this.#rng?.below(2) === 0) {
        entry.database = undefined;
        entry.left = undefined;
      }
    }
  }

  /** Lets everything go, at the end of a run. */
  dispose(): void {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const { database } of entries) database?.close();
  }

  /** Whether the file from which the database was made is still what it was. */
  #isIntact(path: string, { base }: Entry): boolean {
    if (!this.#disk.list(dirname(path)).includes(basename(path))) return false;
    return Buffer.from(this.#disk.content(path)).equals(base);
  }

  /** The `startDatabaseJobs` of a member's ports: nothing runs elsewhere, and little is waited for. */
  startDatabaseJobs(path: string, state: StateMachine, options: SimulatedJobsOptions): DatabaseJobs {
    let coveredIndex = state.flushedIndex;
    let closed = false;
    let holding = false;
    const disk = this.#disk;
    const { pause, hold } = options;
    const image = (): Uint8Array => {
      const { database } = this.#entries.get(path) ?? {};
      if (closed || database === undefined) throw new DatabaseJobError("the member stops");
      return database.serialize();
    };
    const flush = (): void => {
      if (!state.pending) state.flush();
    };
    return {
      get coveredIndex() {
        return coveredIndex;
      },
      get holding() {
        return holding || (options.holding?.() ?? false);
      },
      walBytes: 0,
      checkpoint: async () => {
        const entry = this.#entries.get(path);
        if (closed || entry === undefined) return coveredIndex;
        flush();
        if (state.flushable) return coveredIndex;
        const [flushed, checkpoint] = [state.flushedIndex, image()];
        if (hold !== undefined) {
          holding = true;
          state.holdTransactions(true);
          try {
            await hold();
          } finally {
            state.holdTransactions(false);
            holding = false;
          }
          if (closed) return coveredIndex;
        }
        entry.checkpoint = checkpoint;
        coveredIndex = flushed;
        return coveredIndex;
      },
      async takeSnapshotFile(target) {
        do await pause();
        while (state.pending);
        flush();
        const bytes = image();
        await pause();
        await writeFile(disk, target, bytes);
        return describe(target, bytes);
      },
      async examineSnapshotFile(source) {
        await pause();
        if (closed) throw new DatabaseJobError("the member stops");
        return describe(source, disk.content(source));
      },
      checkIntegrity: () => Promise.resolve([]),
      close: () => {
        closed = true;
        return Promise.resolve();
      },
    };
  }
}

async function writeFile(disk: SimulatedDisk, path: string, bytes: Uint8Array): Promise<void> {
  let file: DiskFile;
  try {
    file = disk.open(path, "create");
  } catch (error) {
    if (error instanceof PowerCutError) throw error;
    throw new DatabaseJobError(String(error));
  }
  try {
    file.write(0, bytes);
    await file.sync();
  } catch (error) {
    disk.remove(path);
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new DatabaseFullError((error as Error).message);
  } finally {
    file.close();
  }
  disk.syncDirectory(dirname(path));
}

/** What a copy holds; throws when it is damaged. */
function describe(path: string, bytes: Uint8Array): SnapshotFile {
  let database: Database;
  try {
    database = adoptStateDatabase(Database.deserialize(Buffer.from(bytes)), path);
  } catch (error) {
    throw new DatabaseJobError(`the copy is damaged: ${String(error)}`);
  }
  try {
    const state = StateMachine.open(database);
    return {
      path,
      bytes: bytes.length,
      digest: createHash("sha256").update(bytes).digest(),
      appliedIndex: state.appliedIndex,
      appliedTerm: state.appliedTerm,
      revision: state.revision,
      members: database
        .query<{ member: Uint8Array }, []>("SELECT member FROM members WHERE removed = 0")
        .all()
        .map(({ member }) => member),
    };
  } catch (error) {
    throw new DatabaseJobError(`the copy is damaged: ${String(error)}`);
  } finally {
    database.close();
  }
}
