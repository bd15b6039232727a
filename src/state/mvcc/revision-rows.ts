/** The rows of the revisions table: appended once, read by sequence number, removed by compaction. */
import type { Statement } from "bun:sqlite";
import type { Revision } from "../../ids";
import { open, plainKeyId, seal, sealOverheadBytes } from "../../storage/seal";
import { DamagedStateError } from "../damage";
import type { Journal } from "../position";
import { rowChecksum } from "../row-sum";
import { RecordCache } from "./record-cache";

/** A stored version. The record of a tombstone has only key and mod revision. */
export interface RevisionRow {
  readonly sequence: number;
  readonly main: Revision;
  readonly sub: number;
  readonly record: Uint8Array;
}

type RowValues = [sequence: number, main: number, sub: number, checksum: number, sealed: Uint8Array];

const columns = "sequence, main, sub, checksum, record";
/** Rows that one statement of many looks up; each further one in it is cheaper than a statement of its own. */
const batchRows = 32;
/** Rows of many are read at once up to so many bytes, since one may have a megabyte and another a hundred bytes. */
const pageBytesMax = 1024 ** 2;

export class RevisionRows {
  readonly #journal: Journal;
  readonly #cache = new RecordCache();
  #longestBytes = 0;
  readonly #append: Statement;
  readonly #one: Statement;
  readonly #many: Statement;
  readonly #page: Statement;
  readonly #pageBytes: Statement;
  readonly #next: Statement;
  readonly #length: Statement;
  readonly #remove: Statement;

  constructor(journal: Journal) {
    this.#journal = journal;
    const { database } = journal;
    this.#append = database.prepare("INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5)");
    const one = `SELECT ${columns} FROM revisions WHERE sequence = ?`;
    this.#one = database.prepare(one);
    this.#many = database.prepare(Array.from({ length: batchRows }, () => one).join(" UNION ALL "));
    this.#page = database.prepare(
      `SELECT ${columns} FROM revisions WHERE sequence > ?1 ORDER BY sequence LIMIT ?2`,
    );
    // The length of a record is in the row's header: its bytes are not read for it.
    this.#pageBytes = database.prepare(
      "SELECT total(bytes) FROM (SELECT length(record) AS bytes FROM revisions WHERE sequence > ?1 ORDER BY sequence LIMIT ?2)",
    );
    this.#next = database.prepare(
      "SELECT sequence, main FROM revisions WHERE sequence >= ?1 ORDER BY sequence LIMIT 1",
    );
    this.#length = database.prepare("SELECT length(record) FROM revisions WHERE sequence = ?1");
    this.#remove = database.prepare("DELETE FROM revisions WHERE sequence = ?1 RETURNING checksum");
  }

  /**
   * Stores a record; returns its sequence number. What is written is not cached: few of many writes are read soon,
   * and a record that the cache holds for a while grows old enough to be garbage for long.
   */
  append(main: Revision, sub: number, record: Uint8Array): number {
    const sealed = seal(record);
    this.#longestBytes = Math.max(this.#longestBytes, record.length);
    const sequence = this.#journal.position.nextSequence++;
    this.#journal.write(sealed.length + 16);
    this.#append.run(sequence, main, sub, this.#journal.added(sealed, sequence, main, sub), sealed);
    return sequence;
  }

  /** No record is longer than this; the longest one may be gone. */
  get longestBytes(): number {
    return this.#longestBytes;
  }

  /** The record of a row that the index knows. Shared with the cache: not to be changed. */
  read(sequence: number): Uint8Array {
    const cached = this.#cache.get(sequence);
    if (cached !== undefined) return cached;
    const record = this.#readRow(sequence);
    this.#cache.set(sequence, record);
    return record;
  }

  #readRow(sequence: number): Uint8Array {
    this.#journal.read();
    return checked(this.#one.values(sequence)[0] as RowValues | undefined, sequence);
  }

  /**
   * Of the records of rows that the index knows, in the order asked for, as many as `bytesMax` holds, and at least
   * one. Not to be changed. Beyond that they are only read together where even the longest would fit.
   */
  readSome(sequences: readonly number[], bytesMax: number): Uint8Array[] {
    const fitting = this.#longestBytes === 0 ? sequences.length : Math.floor(bytesMax / this.#longestBytes);
    if (sequences.length <= fitting) return this.readMany(sequences, false);
    const records: Uint8Array[] = [];
    let bytes = 0;
    for (const sequence of sequences) {
      const record = this.#cache.get(sequence) ?? this.#readRow(sequence);
      records.push(record);
      bytes += record.length;
      if (bytes >= bytesMax) break;
    }
    return records;
  }

  /**
   * The records of rows that the index knows, in the order asked for. Not to be changed. `keep`: cache them; what is
   * read once on the way through a large range would only drive out what is read often, and live too long.
   */
  readMany(sequences: readonly number[], keep: boolean): Uint8Array[] {
    const records: Uint8Array[] = Array.from({ length: sequences.length });
    const missing: number[] = [];
    for (let at = 0; at < sequences.length; at++) {
      const cached = this.#cache.get(sequences[at]!);
      if (cached === undefined) missing.push(at);
      else records[at] = cached;
    }
    let at = 0;
    if (missing.length >= batchRows) this.#journal.read();
    for (; at + batchRows <= missing.length; at += batchRows) {
      const places = missing.slice(at, at + batchRows);
      const rows = this.#many.values(...places.map((place) => sequences[place]!)) as RowValues[];
      for (let i = 0; i < batchRows; i++) {
        const place = places[i]!;
        const record = checked(rows[i], sequences[place]!);
        if (keep) this.#cache.set(sequences[place]!, record);
        records[place] = record;
      }
    }
    for (; at < missing.length; at++) records[missing[at]!] = this.read(sequences[missing[at]!]!);
    return records;
  }

  /** How long the record of a row that the index knows is; large ones are not read for it. */
  recordBytes(sequence: number): number {
    const cached = this.#cache.get(sequence);
    if (cached !== undefined) return cached.length;
    this.#journal.read();
    const row = this.#length.values(sequence)[0] as [number] | undefined;
    if (row === undefined) throw new DamagedStateError(`row ${sequence} is missing`);
    return row[0] - sealOverheadBytes;
  }

  /** Up to `rowsMax` rows behind `sequence`, in order; fewer when they are large, none only at the end. */
  page(sequence: number, rowsMax: number): RevisionRow[] {
    this.#journal.read();
    return this.#pageValues(sequence, rowsMax).map(fromValues);
  }

  #pageValues(sequence: number, rowsMax: number): RowValues[] {
    let rows = rowsMax;
    while (rows > 1 && (this.#pageBytes.values(sequence, rows) as [[number]])[0][0] > pageBytesMax)
      rows >>= 1;
    return this.#page.values(sequence, rows) as RowValues[];
  }

  /**
   * All rows, in order, checked; for the rebuild of the index. The record reaches from `start` to the end of the
   * bytes: making a view of each row's bytes would cost a fifth of the whole start.
   */
  *all(): Generator<RevisionRow & { readonly start: number; readonly checksum: number }> {
    for (let last = 0; ;) {
      const rows = this.#pageValues(last, 1000);
      for (const row of rows) {
        const [sequence, main, sub, checksum, sealed] = row;
        verify(row, sequence);
        const plain = sealed[0] === plainKeyId;
        const record = plain ? sealed : open(sealed);
        this.#longestBytes = Math.max(this.#longestBytes, sealed.length);
        yield { sequence, main, sub, checksum, record, start: plain ? sealOverheadBytes : 0 };
        last = sequence;
      }
      if (rows.length === 0) return;
    }
  }

  /** The first row whose main revision is at least `main`; undefined when there is none. */
  firstFrom(main: Revision): number | undefined {
    this.#journal.read();
    // Sequence and main rise together, so this is a binary search; sequences may have gaps.
    let low = 1;
    let high = this.#journal.position.nextSequence;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const row = this.#next.values(middle)[0] as [number, number] | undefined;
      if (row === undefined || row[0] >= high) high = middle;
      else if (row[1] < main) low = row[0] + 1;
      else high = middle;
    }
    const found = this.#next.values(low)[0] as [number, number] | undefined;
    return found?.[0];
  }

  /** Removes a row for good. */
  remove(sequence: number): void {
    this.#journal.write(64);
    const row = this.#remove.values(sequence)[0] as [number] | undefined;
    if (row === undefined) throw new DamagedStateError(`row ${sequence} is missing`);
    this.#journal.position.rows.subtract(row[0]);
  }
}

function fromValues(row: RowValues): RevisionRow {
  return { sequence: row[0], main: row[1], sub: row[2], record: checked(row, row[0]) };
}

/** The record in a row, once its checksum and number have been seen to fit. */
function checked(row: RowValues | undefined, expected: number): Uint8Array {
  if (row === undefined) throw new DamagedStateError(`row ${expected} is missing`);
  verify(row, expected);
  return openOwn(row[4]);
}

/** Up to this size the runtime keeps bytes within the collected heap. */
const heapBytesMax = 1_000;

/**
 * As {@link open}; small records come as bytes of their own. A view would make the runtime move what it views out of the
 * collected heap: over a range of 100 MB that is a fifth more CPU, and pauses of the collector of 14 to 18 ms instead of
 * 5 to 9.
 */
function openOwn(sealed: Uint8Array): Uint8Array {
  return sealed.length <= heapBytesMax && sealed[0] === plainKeyId
    ? sealed.slice(sealOverheadBytes)
    : open(sealed);
}

function verify([sequence, main, sub, checksum, sealed]: RowValues, expected: number): void {
  if (sequence !== expected || rowChecksum(sealed, sequence, main, sub) !== checksum) {
    throw new DamagedStateError(`row ${expected} does not match its checksum`);
  }
}
