/**
 * What writes under an idempotency key came to, so that the same request is applied once however often it arrives. Kept
 * for a quarter of an hour of log time and never forgotten earlier: when there are too many, new keys are refused.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Statement } from "bun:sqlite";
import { toBinaryString } from "../bytes";
import type { RefusalName } from "../errors";
import { type Command, type KeptResult, KeptResultSchema } from "../proto/gen/keelson/command_pb";
import { DamagedStateError } from "./damage";
import type { Journal } from "./position";
import type { ApplyResult } from "./results";
import { type RowSum, rowChecksum } from "./row-sum";

/** How long a result is kept, in log time. */
const keptMs = 15 * 60_000;
/** Results that are kept at most ... */
const resultsMax = 100_000;
/** ... and their bytes; the one that passes it is still taken. */
const resultBytesMax = 256 * 1024 ** 2;
/** Expired results that one entry removes at most. */
const expireMax = 64;
const loadPageRows = 1_000;
/** A txn nests a hundred deep at most. */
const depthMax = 128;

interface Kept {
  readonly key: Uint8Array;
  readonly timeMs: number;
  readonly requestHash: Uint8Array;
  readonly bytes: number;
}

type Row = [key: Uint8Array, timeMs: number, requestHash: Uint8Array, result: Uint8Array, checksum: number];

export class KeptResults {
  readonly #journal: Journal;
  /** In the order of their times. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;
  #lastMs = 0;
  readonly #save: Statement;
  readonly #read: Statement;
  readonly #remove: Statement;

  constructor(journal: Journal) {
    this.#journal = journal;
    const { database } = journal;
    this.#save = database.prepare("INSERT INTO kept_results VALUES (?1, ?2, ?3, ?4, ?5)");
    this.#read = database.prepare("SELECT * FROM kept_results WHERE key = ?1");
    this.#remove = database.prepare("DELETE FROM kept_results WHERE key = ?1 RETURNING checksum");
  }

  /** Reads the stored results, checking and counting them; yields between pages. */
  *load(sum: RowSum): Generator<void, void> {
    const page = this.#journal.database.prepare(
      `SELECT rowid, * FROM kept_results WHERE rowid > ?1 ORDER BY rowid LIMIT ${loadPageRows}`,
    );
    const found: Kept[] = [];
    for (let last = 0; ;) {
      const rows = page.values(last) as [rowid: number, ...Row][];
      for (const [rowid, key, timeMs, requestHash, result, checksum] of rows) {
        if (checksumOf(key, timeMs, requestHash, result) !== checksum) {
          throw new DamagedStateError("a kept result does not match its checksum");
        }
        sum.add(checksum);
        found.push({ key, timeMs, requestHash, bytes: result.length });
        last = rowid;
      }
      if (rows.length < loadPageRows) break;
      yield;
    }
    // Row numbers of removed rows may be used again; the order of times is what counts. Equal times keep any order.
    found.sort((a, b) => a.timeMs - b.timeMs);
    for (const kept of found) this.#hold(kept);
  }

  #hold(kept: Kept): void {
    this.#kept.set(toBinaryString(kept.key), kept);
    this.#bytes += kept.bytes;
    this.#lastMs = kept.timeMs;
  }

  /** Results that are kept now. */
  get count(): number {
    return this.#kept.size;
  }

  /** Log time at a command: the proposer's clock, but never behind what the log has seen. */
  timeAt(command: Command, markedMs: number): number {
    return Math.max(Number(command.proposedAtMs), markedMs, this.#lastMs);
  }

  /**
   * What is known of a command's key: the result of the same request, a refusal, or nothing; then the command is to be
   * applied and its result given to {@link keep}.
   */
  find(command: Command, nowMs: number): ApplyResult | RefusalName | undefined {
    this.#expire(nowMs);
    const kept = this.#kept.get(toBinaryString(command.idempotencyKey));
    if (kept !== undefined && kept.timeMs + keptMs > nowMs) {
      if (!Buffer.from(kept.requestHash).equals(command.requestHash)) return "idempotencyKeyReused";
      return this.#resultOf(kept);
    }
    // An expired one whose turn has not come yet gives way to its own key.
    if (kept !== undefined) this.#forget(kept);
    return this.#kept.size >= resultsMax || this.#bytes >= resultBytesMax
      ? "tooManyIdempotencyKeys"
      : undefined;
  }

  keep(command: Command, nowMs: number, result: ApplyResult): void {
    const message = keptResultOf(result);
    if (message === undefined) return;
    const { idempotencyKey: key, requestHash } = command;
    const encoded = toBinary(KeptResultSchema, message);
    this.#journal.write(encoded.length + key.length + 64);
    const checksum = checksumOf(key, nowMs, requestHash, encoded);
    this.#journal.position.rows.add(checksum);
    this.#save.run(key, nowMs, requestHash, encoded, checksum);
    this.#hold({ key, timeMs: nowMs, requestHash, bytes: encoded.length });
  }

  #expire(nowMs: number): void {
    let left = expireMax;
    for (const kept of this.#kept.values()) {
      if (kept.timeMs + keptMs > nowMs || left-- === 0) return;
      this.#forget(kept);
    }
  }

  #forget(kept: Kept): void {
    this.#journal.write(64);
    const row = this.#remove.values(kept.key)[0] as [number] | undefined;
    if (row === undefined) throw new DamagedStateError("a kept result is missing");
    this.#journal.position.rows.subtract(row[0]);
    this.#kept.delete(toBinaryString(kept.key));
    this.#bytes -= kept.bytes;
  }

  #resultOf(kept: Kept): ApplyResult {
    this.#journal.read();
    const row = this.#read.values(kept.key)[0] as Row | undefined;
    if (row === undefined || checksumOf(row[0], row[1], row[2], row[3]) !== row[4]) {
      throw new DamagedStateError("a kept result is not what was written");
    }
    return resultOf(fromBinary(KeptResultSchema, row[3], { recursionLimit: depthMax }));
  }
}

function checksumOf(key: Uint8Array, timeMs: number, hash: Uint8Array, result: Uint8Array): number {
  return rowChecksum(Buffer.concat([key, hash, result]), timeMs, key.length);
}

/** The result in its stored form; undefined for one that is not worth keeping: a refusal wrote nothing. */
function keptResultOf(result: ApplyResult): KeptResult | undefined {
  const revision = BigInt(result.revision);
  switch (result.kind) {
    case "put": {
      const { version, previous } = result;
      const value = { revision, version: BigInt(version), ...(previous === undefined ? {} : { previous }) };
      return create(KeptResultSchema, { result: { case: "put", value } });
    }
    case "delete-range": {
      const value = { revision, deleted: BigInt(result.deleted), previous: [...result.previous] };
      return create(KeptResultSchema, { result: { case: "deleteRange", value } });
    }
    case "txn":
      return create(KeptResultSchema, {
        result: { case: "txn", value: { revision, response: result.response } },
      });
    case "lease-grant": {
      const value = { revision, id: result.id, ttlSeconds: BigInt(result.ttlSeconds) };
      return create(KeptResultSchema, { result: { case: "leaseGrant", value } });
    }
    case "lease-revoke": {
      const value = { revision, id: result.id, deleted: BigInt(result.deleted) };
      return create(KeptResultSchema, { result: { case: "leaseRevoke", value } });
    }
    default:
      return undefined;
  }
}

function resultOf({ result }: KeptResult): ApplyResult {
  switch (result.case) {
    case "put": {
      const { revision, version, previous } = result.value;
      return { kind: "put", revision: Number(revision), version: Number(version), previous };
    }
    case "deleteRange": {
      const { revision, deleted, previous } = result.value;
      return { kind: "delete-range", revision: Number(revision), deleted: Number(deleted), previous };
    }
    case "txn":
      return { kind: "txn", revision: Number(result.value.revision), response: result.value.response! };
    case "leaseGrant": {
      const { revision, id, ttlSeconds } = result.value;
      return {
        kind: "lease-grant",
        revision: Number(revision),
        id,
        ttlSeconds: Number(ttlSeconds),
        repeated: true,
      };
    }
    case "leaseRevoke": {
      const { revision, id, deleted } = result.value;
      return {
        kind: "lease-revoke",
        revision: Number(revision),
        id,
        ignored: false,
        deleted: Number(deleted),
        repeated: true,
      };
    }
    case undefined:
      throw new DamagedStateError("a kept result says nothing");
  }
}
