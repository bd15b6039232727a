/** Multi-version keys: the index in memory, the rows in SQLite, and the one revision that may be written now. */
import { assert } from "../../assert";
import { fromBinaryString } from "../../bytes";
import type { Revision } from "../../ids";
import { DamagedStateError } from "../damage";
import type { Lease, LeaseTable } from "../lease/lease-table";
import type { Journal } from "../position";
import type { RowSum } from "../row-sum";
import type { Change, RevisionChanges } from "../types";
import { KeyEntry } from "./key-entry";
import { KeyIndex } from "./key-index";
import type { KeyRange } from "./key-range";
import { Pins } from "./pins";
import { encodeRecord, encodeTombstone, parseRecord, RecordFields } from "./record";
import { RevisionRows } from "./revision-rows";

/** Rows that the rebuild of the index reads in one slice. */
const loadSliceRows = 500;
/** Of large rows fewer: this many bytes also take about two milliseconds. */
const loadSliceBytes = 1024 ** 2;

/** A version of a key as comparisons and filters see it. */
export interface VersionView {
  readonly sequence: number;
  readonly create: Revision;
  readonly mod: Revision;
  readonly version: number;
  readonly lease: bigint;
}

export class MvccStore {
  readonly index = new KeyIndex();
  readonly rows: RevisionRows;
  readonly pins = new Pins();
  /** What the open write has changed so far. */
  #changes: Change[] = [];

  constructor(
    readonly journal: Journal,
    readonly leases: LeaseTable,
  ) {
    this.rows = new RevisionRows(journal);
  }

  /** The newest revision that readers may see. */
  get revision(): Revision {
    return this.journal.position.revision;
  }
  get compactedRevision(): Revision {
    return this.journal.position.compactedRevision;
  }
  /** What the open write sees as newest: its own revision once it has changed something (etcd-wire 8.1). */
  get writingRevision(): Revision {
    return this.#changes.length > 0 ? this.revision + 1 : this.revision;
  }
  /** Changes of the open write. */
  get changed(): number {
    return this.#changes.length;
  }

  /** Rebuilds the index from the rows, checking each one; yields every 2 ms or so. */
  *load(sum: RowSum): Generator<void, void> {
    const { position } = this.journal;
    const fields = new RecordFields();
    let previousMain = 0;
    let previousSub = -1;
    let rows = 0;
    let bytes = 0;
    for (const { sequence, main, sub, record, start, checksum } of this.rows.all()) {
      const ordered = main > previousMain || (main === previousMain && sub > previousSub);
      if (!ordered || main > position.revision || sequence >= position.nextSequence) {
        throw new DamagedStateError(`row ${sequence} (revision ${main}.${sub}) is out of order`);
      }
      previousMain = main;
      previousSub = sub;
      sum.add(checksum);
      parseRecord(record, fields, start);
      if (fields.mod !== main) throw new DamagedStateError(`row ${sequence} holds another revision`);
      const key = Buffer.prototype.latin1Slice.call(record, fields.keyStart, fields.keyEnd);
      const lease = fields.lease === 0n ? undefined : this.leases.get(fields.lease);
      const place = fields.version === 0 ? -sequence : sequence;
      this.#place(this.index.find(key), key, place, main, fields.create, fields.version, lease);
      rows++;
      bytes += record.length;
      if (rows < loadSliceRows && bytes < loadSliceBytes) continue;
      rows = 0;
      bytes = 0;
      yield;
    }
  }

  /** Puts a version into the index, at the place where it was just looked for, and moves its lease. */
  #place(
    entry: KeyEntry | undefined,
    key: string,
    sequence: number,
    main: Revision,
    create: Revision,
    version: number,
    lease: Lease | undefined,
  ): void {
    if (entry === undefined) {
      this.index.insert(key, new KeyEntry(main, sequence, create, version, lease));
    } else {
      const alive = sequence > 0;
      if (entry.live !== alive) this.index.adjustLive(alive ? 1 : -1);
      if (entry.lease !== undefined && entry.lease !== lease) entry.lease.keys.delete(key);
      entry.supersede(main, sequence, create, version, lease);
    }
    lease?.keys.add(key);
  }

  /** The entry of a key that exists for a reader at `revision`; undefined when it does not. */
  view(entry: KeyEntry | undefined, revision: Revision): VersionView | undefined {
    const sequence = entry === undefined ? 0 : entry.sequenceAt(revision);
    if (entry === undefined || sequence === 0) return undefined;
    if (entry.main <= revision) {
      const { main, create, version, lease } = entry;
      return { sequence, create, mod: main, version, lease: lease === undefined ? 0n : lease.id };
    }
    const { create, mod, version, lease } = parseRecord(this.rows.read(sequence));
    return { sequence, create, mod, version, lease };
  }

  /** The record of a key for a reader at `revision`. */
  record(key: string, revision: Revision): Uint8Array | undefined {
    const sequence = this.index.find(key)?.sequenceAt(revision) ?? 0;
    return sequence === 0 ? undefined : this.rows.read(sequence);
  }

  /** Up to `keysMax` keys of a range that live now, in order, from `from` on. */
  liveKeys(range: KeyRange, from: string, keysMax: number): { keys: string[]; entries: KeyEntry[] } {
    const keys: string[] = [];
    const entries: KeyEntry[] = [];
    this.index.walkLive(from, range.high, (key, entry) => {
      if (entry.live) {
        keys.push(key);
        entries.push(entry);
      }
      return keys.length < keysMax;
    });
    return { keys, entries };
  }

  /** Writes a new version of a key into the open revision; answers its number, 1 when the key is new. */
  put(key: string, keyBytes: Uint8Array, value: Uint8Array, lease: Lease | undefined): number {
    const entry = this.index.find(key);
    const main = this.revision + 1;
    const sub = this.#changes.length;
    const live = entry !== undefined && entry.live;
    const create = live ? entry.create : main;
    const version = live ? entry.version + 1 : 1;
    const record = encodeRecord(keyBytes, create, main, version, value, lease?.encodedId);
    const sequence = this.rows.append(main, sub, record);
    this.#place(entry, key, sequence, main, create, version, lease);
    this.#changes.push({ type: "put", key, revision: main, sub, created: version === 1, record });
    return version;
  }

  /** Writes a tombstone for a live key into the open revision. */
  delete(key: string): void {
    const main = this.revision + 1;
    const sub = this.#changes.length;
    const record = encodeTombstone(fromBinaryString(key), main);
    const sequence = this.rows.append(main, sub, record);
    this.#place(this.index.find(key), key, -sequence, main, 0, 0, undefined);
    this.#changes.push({ type: "delete", key, revision: main, sub, created: false, record });
  }

  /** Ends the open write: readers see all of it from now on. Undefined when it changed nothing. */
  publish(): RevisionChanges | undefined {
    if (this.#changes.length === 0) return undefined;
    const changes = this.#changes;
    this.#changes = [];
    const revision = ++this.journal.position.revision;
    assert(Number.isSafeInteger(revision), "revisions are used up");
    return { revision, changes };
  }
}
