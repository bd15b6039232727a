/** Leases and the keys that they hold. Time is not known here: TTLs are data, the leader's keeper counts. */
import type { Statement } from "bun:sqlite";
import type { LeaseId } from "../../ids";
import { DamagedStateError } from "../damage";
import { encodeInt64 } from "../mvcc/record";
import type { Journal } from "../position";
import type { LeaseInfo } from "../results";
import { type RowSum, rowChecksum } from "../row-sum";

/** A lease in memory; key entries point at it. */
export class Lease {
  /** Keys whose newest version is attached. */
  readonly keys = new Set<string>();
  /** The id as records carry it. */
  readonly encodedId: Uint8Array;

  constructor(
    readonly id: LeaseId,
    public grantedTtlSeconds: number,
    public remainingTtlSeconds: number,
  ) {
    this.encodedId = encodeInt64(id);
  }
}

/** Leases that are read in one slice. */
const loadPageRows = 500;

type LeaseRow = [id: Uint8Array, granted: number, remaining: number, checksum: number];

export class LeaseTable {
  readonly #leases = new Map<LeaseId, Lease>();
  readonly #journal: Journal;
  readonly #save: Statement;
  readonly #remove: Statement;

  constructor(journal: Journal) {
    this.#journal = journal;
    this.#save = journal.database.prepare(
      `INSERT INTO leases VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (id) DO UPDATE SET granted_ttl_seconds = ?2, remaining_ttl_seconds = ?3, checksum = ?4`,
    );
    this.#remove = journal.database.prepare("DELETE FROM leases WHERE id = ?1");
  }

  /** Reads the stored leases in the order of their grants, counting their rows; yields between pages. */
  *load(sum: RowSum): Generator<void, void> {
    const page = this.#journal.database.prepare(
      `SELECT rowid, * FROM leases WHERE rowid > ?1 ORDER BY rowid LIMIT ${loadPageRows}`,
    );
    for (let last = 0; ;) {
      const rows = page.values(last) as [rowid: number, ...LeaseRow][];
      for (const [rowid, id, granted, remaining, checksum] of rows) {
        const lease = new Lease(Buffer.from(id).readBigInt64BE(), granted, remaining);
        if (id.length !== 8 || checksumOf(lease) !== checksum) {
          throw new DamagedStateError(`the row of lease ${lease.id} does not match its checksum`);
        }
        sum.add(checksum);
        this.#leases.set(lease.id, lease);
        last = rowid;
      }
      if (rows.length === 0) return;
      yield;
    }
  }

  get(id: LeaseId): Lease | undefined {
    return this.#leases.get(id);
  }

  get size(): number {
    return this.#leases.size;
  }

  grant(id: LeaseId, ttlSeconds: number): void {
    const lease = new Lease(id, ttlSeconds, ttlSeconds);
    this.#leases.set(id, lease);
    this.#write(lease);
  }

  checkpoint(lease: Lease, remainingTtlSeconds: number): void {
    if (lease.remainingTtlSeconds === remainingTtlSeconds) return;
    this.#journal.position.rows.subtract(checksumOf(lease));
    lease.remainingTtlSeconds = remainingTtlSeconds;
    this.#write(lease);
  }

  /** Forgets a lease; its keys must be gone. */
  remove(lease: Lease): void {
    this.#journal.write(64);
    this.#remove.run(idBytes(lease.id));
    this.#journal.position.rows.subtract(checksumOf(lease));
    this.#leases.delete(lease.id);
  }

  #write(lease: Lease): void {
    this.#journal.write(64);
    const checksum = checksumOf(lease);
    this.#save.run(idBytes(lease.id), lease.grantedTtlSeconds, lease.remainingTtlSeconds, checksum);
    this.#journal.position.rows.add(checksum);
  }

  info(lease: Lease): LeaseInfo {
    return describe(lease);
  }

  /** All leases, those granted meanwhile too. */
  each(): IteratorObject<LeaseInfo, undefined> {
    return this.#leases.values().map(describe);
  }

  /** All leases, in the order of their grants. */
  list(): LeaseInfo[] {
    return Array.from(this.#leases.values(), describe);
  }
}

function describe(lease: Lease): LeaseInfo {
  const { id, grantedTtlSeconds, remainingTtlSeconds } = lease;
  return {
    id,
    grantedTtlSeconds,
    remainingTtlSeconds,
    get keys() {
      return [...lease.keys].sort();
    },
  };
}

function idBytes(id: LeaseId): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(id);
  return bytes;
}

function checksumOf(lease: Lease): number {
  return rowChecksum(idBytes(lease.id), lease.grantedTtlSeconds, lease.remainingTtlSeconds);
}
