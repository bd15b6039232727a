/**
 * The Worker for one database file. It is started from this file's own text (see jobs.ts), so that it runs from
 * source and inside a compiled executable alike; therefore it imports nothing but the runtime's modules.
 */
import { dlopen } from "bun:ffi";
import { Database } from "bun:sqlite";
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { setPriority } from "node:os";
import { dirname } from "node:path";

declare const self: Worker;

/** A job, and what answers it. */
export type DatabaseJob =
  | { readonly kind: "checkpoint"; readonly mode: "PASSIVE" | "RESTART"; readonly busyTimeoutMs: number }
  | { readonly kind: "copy"; readonly to: string; readonly reserveBytes: number }
  | { readonly kind: "examine"; readonly file: string }
  | { readonly kind: "check" };

export interface CheckpointOutcome {
  /** Another connection was in the way. */
  readonly busy: boolean;
  /** Pages in SQLite's WAL, and how many of them are in the synced database file. */
  readonly logPages: number;
  readonly checkpointedPages: number;
}

export interface CopyOutcome {
  readonly bytes: number;
  /** SHA-256. */
  readonly digest: Uint8Array;
  readonly appliedIndex: number;
  readonly appliedTerm: number;
  readonly revision: number;
  readonly members: readonly Uint8Array[];
}

export interface JobRequest {
  readonly path: string;
  readonly sequence: number;
  readonly job: DatabaseJob;
  /** Work that takes long and has time: it gives way to the threads that serve. */
  readonly patient: boolean;
}

export type JobAnswer =
  /** Not its end yet: how far it is. */
  | { readonly sequence: number; readonly progress: { readonly done: number; readonly total: number } }
  | { readonly sequence: number; readonly ok: true; readonly outcome: unknown }
  | {
      readonly sequence: number;
      readonly ok: false;
      readonly message: string;
      /** There was no room; nothing that was there before is lost. */
      readonly diskFull: boolean;
    };

const chunkBytes = 256 * 1024;
/** A copy is synced this often: one sync of everything at its end would hold up those of the log for seconds. */
const copySyncBytes = 4 * 1024 ** 2;
/** The longest pause: after a slow sync half of the disk's time is left, and after a hanging one not all of it. */
const restMsMax = 100;
/** Long work pauses after so much of it, for as long: what waits for its processor waits no longer than that. */
const burstMs = 1;

/** Holds up this Worker only. */
class Pace {
  #sinceMs = performance.now();

  step(): void {
    const workedMs = performance.now() - this.#sinceMs;
    if (workedMs < burstMs) return;
    Bun.sleepSync(Math.min(restMsMax, workedMs));
    this.#sinceMs = performance.now();
  }
}

function checkpoint(path: string, mode: string, busyTimeoutMs: number): CheckpointOutcome {
  const database = new Database(path, { create: false, readwrite: true });
  try {
    database.run(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    database.run("PRAGMA wal_autocheckpoint = 0");
    database.run("PRAGMA synchronous = FULL");
    const row = database.query<unknown, []>(`PRAGMA wal_checkpoint(${mode})`).values()[0] as number[];
    return { busy: row[0] !== 0, logPages: row[1]!, checkpointedPages: row[2]! };
  } catch (error) {
    // A lock in the way is no failure; anything else leaves it open what is on the disk.
    const { code } = error as { code?: unknown };
    if (typeof code !== "string" || !code.startsWith("SQLITE_BUSY")) throw error;
    return { busy: true, logPages: 0, checkpointedPages: 0 };
  } finally {
    database.close(true);
  }
}

/** Is told how far a copy is, in bytes. */
type Tell = (done: number, total: number) => void;

/** A copy's bytes are looked at three times: written, checked row by row, and hashed. */
const copyPasses = 3;
/** Rows that are checked between two reports. */
const rowsPerReport = 8_192;

/** Copies the database file, which nobody writes: whoever asked lets no checkpoint run meanwhile. */
function copy(path: string, to: string, reserveBytes: number, tell: Tell): CopyOutcome {
  refuseWithoutRoom(path, to, reserveBytes);
  const { size } = statSync(path);
  const inPass = (pass: number) => (done: number) =>
    tell(pass * size + Math.min(done, size), copyPasses * size);
  const source = openSync(path, "r");
  try {
    copyInto(to, source, inPass(0));
  } finally {
    closeSync(source);
  }
  const outcome = seal(to, (share) => inPass(1)(Math.floor(share * size)), inPass(2));
  const directory = openSync(dirname(to), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
  return outcome;
}

function copyInto(to: string, source: number, tell: (done: number) => void): void {
  const target = openSync(to, "wx");
  try {
    const chunk = new Uint8Array(chunkBytes);
    const pace = new Pace();
    for (let offset = 0; ;) {
      const read = readSync(source, chunk, 0, chunkBytes, offset);
      if (read === 0) break;
      for (let written = 0; written < read;) {
        written += writeSync(target, chunk, written, read - written, offset + written);
      }
      offset += read;
      tell(offset);
      if (offset % copySyncBytes === 0) fdatasyncSync(target);
      pace.step();
    }
  } catch (error) {
    rmSync(to, { force: true });
    throw error;
  } finally {
    closeSync(target);
  }
}

/** A copy that filled the disk would take the room that commits and the log need. */
function refuseWithoutRoom(path: string, to: string, reserveBytes: number): void {
  const neededBytes = statSync(path).size + reserveBytes;
  const { bavail, bsize } = statfsSync(dirname(to));
  const freeBytes = bavail * bsize;
  if (freeBytes >= neededBytes) return;
  const text = `${neededBytes} bytes have to be free beside the database, and ${freeBytes} are`;
  throw Object.assign(new Error(text), { code: "ENOSPC" });
}

/** Makes the copy stand alone, without a WAL beside it, checks it, and syncs it. */
function seal(path: string, checked: (share: number) => void, hashed: (bytes: number) => void): CopyOutcome {
  try {
    const database = new Database(path, { create: false, readwrite: true });
    try {
      database.run("PRAGMA journal_mode = DELETE");
    } finally {
      database.close(true);
    }
    const file = openSync(path, "r+");
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    return examine(path, checked, hashed);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}

/** Checks a file that stands alone, and says what it holds. */
function examine(
  path: string,
  checked: (share: number) => void = () => {},
  hashed: (bytes: number) => void = () => {},
): CopyOutcome {
  const database = new Database(path, { create: false, readonly: true });
  try {
    const damage = damageOf(database, checked);
    if (damage.length > 0) throw new Error(`the copy is damaged: ${damage.join("; ")}`);
    const row = database
      .query<unknown, []>("SELECT applied_index, applied_term, revision FROM position")
      .values()[0];
    const [appliedIndex, appliedTerm, revision] = (row ?? [0, 0, 1]) as [number, number, number];
    const members = database.query<unknown, []>("SELECT member FROM members WHERE removed = 0").values();
    return {
      ...digestOf(path, hashed),
      appliedIndex,
      appliedTerm,
      revision,
      members: members.map((member) => (member as [Uint8Array])[0]),
    };
  } finally {
    database.close(true);
  }
}

function digestOf(path: string, hashed: (bytes: number) => void): { bytes: number; digest: Uint8Array } {
  const hasher = new Bun.CryptoHasher("sha256");
  const file = openSync(path, "r");
  try {
    const chunk = new Uint8Array(chunkBytes);
    const pace = new Pace();
    let bytes = 0;
    for (;;) {
      const read = readSync(file, chunk, 0, chunkBytes, bytes);
      if (read === 0) return { bytes, digest: new Uint8Array(hasher.digest()) };
      hasher.update(chunk.subarray(0, read));
      bytes += read;
      hashed(bytes);
      pace.step();
    }
  } finally {
    closeSync(file);
  }
}

function damageOf(database: Database, checked: (share: number) => void = () => {}): string[] {
  const pages = database.query<unknown, []>("PRAGMA integrity_check(10)").values() as [string][];
  const damage = pages.map(([text]) => text).filter((text) => text !== "ok");
  return damage.length > 0 ? damage : damagedRows(database, checked);
}

/** The same sums as state/row-sum.ts; a test holds the two together. */
function damagedRows(database: Database, checked: (share: number) => void): string[] {
  const numbers = new Float64Array(4);
  const numberBytes = new Uint8Array(numbers.buffer);
  let count = 0;
  let sum = 0;
  const damage: string[] = [];
  const position = database.query<unknown, []>("SELECT row_count, row_sum FROM position").values()[0];
  const [expectedCount, expectedSum] = (position ?? [0, 0]) as [number, number];
  const pace = new Pace();
  const statement = database.query<unknown, []>(
    "SELECT sequence, main, sub, checksum, record FROM revisions",
  );
  for (const row of statement.iterate() as Iterable<Record<string, unknown>>) {
    const { sequence, main, sub, checksum, record } = row as unknown as {
      sequence: number;
      main: number;
      sub: number;
      checksum: number;
      record: Uint8Array;
    };
    numbers.set([sequence, main, sub, 0]);
    if (Bun.hash.crc32(record, Bun.hash.crc32(numberBytes)) !== checksum && damage.length < 10) {
      damage.push(`row ${sequence} does not match its checksum`);
    }
    count++;
    sum = (sum + checksum) >>> 0;
    if (count % rowsPerReport === 0) checked(Math.min(1, count / Math.max(1, expectedCount)));
    pace.step();
  }
  // Every table but these two: the rows of one were counted above, and the other holds the sums.
  const others = database
    .query<unknown, []>(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('revisions', 'position')",
    )
    .values() as [string][];
  for (const [table] of others) {
    for (const [checksum] of database.query<unknown, []>(`SELECT checksum FROM ${table}`).values() as [
      number,
    ][]) {
      count++;
      sum = (sum + checksum) >>> 0;
    }
  }
  if (count !== expectedCount) damage.push(`${count} rows were found where ${expectedCount} were written`);
  else if (sum !== expectedSum) damage.push("the rows are not those that were written");
  return damage;
}

function check(path: string): string[] {
  const database = new Database(path, { create: false, readwrite: true });
  try {
    database.run("PRAGMA query_only = ON");
    database.run("BEGIN");
    return damageOf(database);
  } finally {
    database.close(true);
  }
}

function perform(path: string, job: DatabaseJob, tell: Tell): unknown {
  switch (job.kind) {
    case "checkpoint":
      return checkpoint(path, job.mode, job.busyTimeoutMs);
    case "copy":
      return copy(path, job.to, job.reserveBytes, tell);
    case "examine":
      return examine(job.file);
    case "check":
      return check(path);
  }
}

let lowered = false;
const patientNice = 10;
/** The longest that Linux takes, in nanoseconds. */
const patientSliceNs = 100_000_000n;

/** On Linux a priority belongs to a thread; it cannot be raised again, so such a Worker does nothing else. */
function lowerPriority(): void {
  if (lowered || process.platform !== "linux") return;
  lowered = true;
  setPriority(0, patientNice);
  takeLongSlices();
}

/**
 * Asks for long slices of processor time (sched_setattr(2), Linux 6.12). A priority says how much, not how soon: a
 * thread that serves and wakes on this Worker's processor would wait for up to a tick of 4 ms, with another processor
 * idle. Who asks for shorter slices takes it over at once, and long ones are no larger share.
 */
function takeLongSlices(): void {
  const call = { x64: 314n, arm64: 274n }[process.arch as string];
  if (call === undefined) return;
  const attributes = Buffer.alloc(48);
  attributes.writeUInt32LE(attributes.length, 0);
  attributes.writeInt32LE(patientNice, 16);
  attributes.writeBigUInt64LE(patientSliceNs, 24);
  for (const name of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
    try {
      const { symbols } = dlopen(name, { syscall: { args: ["i64", "i32", "ptr", "u32"], returns: "i64" } });
      // Where the system does not know it, the priority has to do.
      symbols.syscall(call, 0, attributes, 0);
      return;
    } catch {
      continue;
    }
  }
}

self.addEventListener("message", (event: MessageEvent<JobRequest>) => {
  const { path, sequence, job, patient } = event.data;
  if (patient) lowerPriority();
  let answer: JobAnswer;
  let told = "";
  const tell: Tell = (done, total) => {
    // In steps of a hundredth, nobody sees more, and the end.
    const step = (done / Math.max(1, total)).toFixed(2);
    if (step === told && done < total) return;
    told = step;
    const progress: JobAnswer = { sequence, progress: { done, total } };
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a Worker's has no target
    self.postMessage(progress);
  };
  try {
    answer = { sequence, ok: true, outcome: perform(path, job, tell) };
  } catch (error) {
    const { code = "", message = String(error) } = error as { code?: string; message?: string };
    answer = { sequence, ok: false, message, diskFull: code === "SQLITE_FULL" || code === "ENOSPC" };
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a Worker's has no target
  self.postMessage(answer);
});

/** Only for the types: who imports this file as text gets the text as its default export. */
export default "" as string;
