/**
 * Physical compaction. Rows lie in the order in which they were written, so every row makes the row before it of
 * the same key superfluous: sweeping over the rows up to the compacted revision finds all that may go, and costs
 * as much as was written since the last compaction, however many keys there are.
 */
import type { Revision } from "../../ids";
import { DamagedStateError } from "../damage";
import { parseRecord, RecordFields } from "./record";
import type { MvccStore } from "./store";

const pageRows = 128;
/** A step ends after so many bytes of rows, however few they are. */
const stepBytesMax = 2 * 1024 ** 2;

export interface SweepStep {
  /** Nothing is left to remove. */
  readonly done: boolean;
  /** A pin holds the rest back. */
  readonly waiting: boolean;
  /** Rows removed. */
  readonly removed: number;
}

/** Kept of each key: the newest version at or below the revision unless it is an older tombstone, and all above. */
export class Sweep {
  readonly #fields = new RecordFields();
  /** Revisions below it may have lost rows. */
  #reached: Revision;

  constructor(readonly store: MvccStore) {
    // What an earlier run had removed at most.
    this.#reached = store.compactedRevision;
  }

  get reached(): Revision {
    return this.#reached;
  }

  get pending(): boolean {
    const { position } = this.store.journal;
    return position.sweptRevision < position.compactedRevision;
  }

  /** Looks at up to `rowsMax` rows and removes what they make superfluous. */
  step(rowsMax: number): SweepStep {
    const { journal, rows, pins } = this.store;
    const { position } = journal;
    if (!this.pending) return { done: true, waiting: false, removed: 0 };
    const target = Math.min(position.compactedRevision, pins.oldest);
    if (target <= position.sweptRevision) return { done: false, waiting: true, removed: 0 };
    if (target > this.#reached) this.#reached = target;
    journal.write(0);
    const before = position.rows.count;
    let bytes = 0;
    for (let left = rowsMax; left > 0 && bytes < stepBytesMax;) {
      const page = rows.page(position.sweptSequence, Math.min(left, pageRows));
      let ended = page.length === 0;
      for (const { sequence, main, record } of page) {
        if (main > target) {
          ended = true;
          break;
        }
        this.#sweep(sequence, main, record, target);
        position.sweptSequence = sequence;
        bytes += record.length;
      }
      if (ended) {
        // A tombstone at the revision itself stays until the next sweep, which must see its row again.
        const again = rows.firstFrom(target);
        if (again !== undefined) position.sweptSequence = again - 1;
        position.sweptRevision = target;
        const waiting = target < position.compactedRevision;
        return { done: !waiting, waiting, removed: before - position.rows.count };
      }
      left -= page.length;
    }
    return { done: false, waiting: false, removed: before - position.rows.count };
  }

  #sweep(sequence: number, main: Revision, record: Uint8Array, target: Revision): void {
    const { index, rows } = this.store;
    const { keyStart, keyEnd, version } = parseRecord(record, this.#fields);
    const key = Buffer.prototype.latin1Slice.call(record, keyStart, keyEnd);
    const entry = index.find(key);
    if (entry === undefined) throw new DamagedStateError(`row ${sequence} belongs to no key`);
    while (Math.abs(entry.oldestSequence) < sequence) {
      rows.remove(Math.abs(entry.oldestSequence));
      entry.dropOldest();
    }
    if (version === 0 && main < target) {
      rows.remove(sequence);
      if (entry.retained > 1) entry.dropOldest();
      else index.remove();
    }
  }
}
