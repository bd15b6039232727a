/** etcd's HashKV: a CRC-32C that any member with the same history computes, whatever it has removed so far. */
import { crc32c } from "../../checksum";
import type { Revision } from "../../ids";
import type { HashAnswer, SlicedHash } from "../results";
import { parseRecord, RecordFields, storedTombstone } from "./record";
import type { MvccStore } from "./store";

/** The name of the bucket in which etcd keeps revisions; the hash begins with it. */
const bucketName = Buffer.from("key");

/** A slice ends after so many bytes, however few rows they are: about five milliseconds. */
const sliceBytesMax = 4 * 1024 ** 2;
const pageRows = 256;

export class HashRun implements SlicedHash {
  readonly #compacted: Revision;
  readonly #revision: Revision;
  /** Of compacted revisions, only versions that a reader at this revision sees count; undefined: not found out yet. */
  #seenAt: Revision | undefined;
  /** Up to here no key lives at the hashed revision. */
  #deadTo = "";
  #crc = crc32c(bucketName);
  #row = 0;
  /** etcd's revision key: main and sub, big-endian, and a mark on tombstones. */
  readonly #revisionKey = Buffer.alloc(18, "_");
  readonly #fields = new RecordFields();

  constructor(
    readonly store: MvccStore,
    readonly upTo: Revision,
    readonly onClose: () => void,
  ) {
    this.#compacted = store.compactedRevision;
    this.#revision = store.revision;
    this.#revisionKey[17] = 0x74;
  }

  /** etcd's rule has a corner: while nothing lives at the hashed revision, all that compaction kept counts. */
  #findSeenAt(keysMax: number): Revision | undefined {
    let found = false;
    let visited = 0;
    let last = "";
    this.store.index.walk(this.#deadTo, undefined, (key, entry) => {
      found = entry.sequenceAt(this.upTo) > 0;
      last = key;
      return !found && ++visited < keysMax;
    });
    if (found) return this.upTo;
    if (visited < keysMax) return this.#compacted;
    this.#deadTo = `${last}\0`;
    return undefined;
  }

  close(): void {
    this.onClose();
  }

  next(rowsMax: number): HashAnswer | undefined {
    this.#seenAt ??= this.#findSeenAt(rowsMax);
    if (this.#seenAt === undefined) return undefined;
    let bytes = 0;
    for (let left = rowsMax; left > 0 && bytes < sliceBytesMax;) {
      const page = this.store.rows.page(this.#row, Math.min(left, pageRows));
      for (const { sequence, main, sub, record } of page) {
        if (main > this.upTo) return this.#answer();
        this.#row = sequence;
        this.#add(this.#seenAt, sequence, main, sub, record);
        bytes += record.length;
      }
      if (page.length === 0) return this.#answer();
      left -= page.length;
    }
    return undefined;
  }

  #add(seenAt: Revision, sequence: number, main: Revision, sub: number, record: Uint8Array): void {
    const fields = parseRecord(record, this.#fields);
    if (main <= this.#compacted) {
      const key = Buffer.prototype.latin1Slice.call(record, fields.keyStart, fields.keyEnd);
      if (this.store.index.find(key)?.sequenceAt(seenAt) !== sequence) return;
    }
    const dead = fields.version === 0;
    const key = this.#revisionKey;
    key.writeUInt32BE(Math.floor(main / 2 ** 32), 0);
    key.writeUInt32BE(main >>> 0, 4);
    key.writeUInt32BE(Math.floor(sub / 2 ** 32), 9);
    key.writeUInt32BE(sub >>> 0, 13);
    this.#crc = crc32c(dead ? key : key.subarray(0, 17), this.#crc);
    this.#crc = crc32c(dead ? storedTombstone(record) : record, this.#crc);
  }

  #answer(): HashAnswer {
    this.onClose();
    return {
      hash: this.#crc,
      compactRevision: this.#compacted,
      hashRevision: this.upTo,
      revision: this.#revision,
    };
  }
}
