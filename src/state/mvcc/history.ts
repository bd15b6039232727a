/** The past, as watchers read it: whole revisions, from rows in the order in which they were written. */
import { refuse } from "../../errors";
import type { Revision } from "../../ids";
import type { Change, History, RevisionChanges } from "../types";
import { parseRecord, RecordFields } from "./record";
import type { RevisionRow } from "./revision-rows";
import type { MvccStore } from "./store";

const pageRows = 256;
/** Places in the rows that readers are expected to come back to. */
const bookmarksMax = 64;

export class MvccHistory implements History {
  /** Revision → the last row before it, for readers that go on where they stopped. */
  readonly #bookmarks = new Map<Revision, number>();

  constructor(
    readonly store: MvccStore,
    /** Revisions below it may have lost rows. */
    readonly sweptRevision: () => Revision,
  ) {}

  get revision(): Revision {
    return this.store.revision;
  }
  get compactedRevision(): Revision {
    return this.store.compactedRevision;
  }

  changes(
    from: Revision,
    to: Revision,
    revisionsMax: number,
    bytesMax: number,
  ): { readonly revisions: readonly RevisionChanges[]; readonly next: Revision } {
    if (from < this.sweptRevision()) throw refuse("compacted");
    const last = Math.min(to, this.store.revision);
    const revisions: RevisionChanges[] = [];
    if (from > last) return { revisions, next: from };
    let row = this.#before(from);
    let bytes = 0;
    let changes: Change[] = [];
    for (;;) {
      const page = row === undefined ? [] : this.store.rows.page(row, pageRows);
      for (const found of page) {
        const open = changes[0]?.revision;
        if (open !== undefined && open !== found.main) {
          revisions.push({ revision: open, changes });
          changes = [];
          if (revisions.length >= revisionsMax || bytes >= bytesMax) {
            this.#mark(open + 1, found.sequence - 1);
            return { revisions, next: open + 1 };
          }
        }
        if (found.main > last) return { revisions, next: last + 1 };
        changes.push(toChange(found));
        bytes += found.record.length;
        row = found.sequence;
      }
      if (page.length === 0 || row === this.store.journal.position.nextSequence - 1) break;
    }
    if (changes.length > 0) revisions.push({ revision: changes[0]!.revision, changes });
    if (row !== undefined && last === this.store.revision) this.#mark(last + 1, row);
    return { revisions, next: last + 1 };
  }

  before(key: string, revision: Revision): Uint8Array | undefined {
    if (revision - 1 < this.store.compactedRevision) return undefined;
    return this.store.record(key, revision - 1);
  }

  /** A row number such that the rows of `from` and later lie behind it; undefined when there are none. */
  #before(from: Revision): number | undefined {
    const marked = this.#bookmarks.get(from);
    if (marked !== undefined) {
      this.#bookmarks.delete(from);
      return marked;
    }
    const first = this.store.rows.firstFrom(from);
    return first === undefined ? undefined : first - 1;
  }

  #mark(next: Revision, row: number): void {
    this.#bookmarks.delete(next);
    this.#bookmarks.set(next, row);
    if (this.#bookmarks.size > bookmarksMax) this.#bookmarks.delete(this.#bookmarks.keys().next().value!);
  }
}

const fields = new RecordFields();

function toChange({ main, sub, record }: RevisionRow): Change {
  parseRecord(record, fields);
  const { version, keyStart, keyEnd } = fields;
  const key = Buffer.prototype.latin1Slice.call(record, keyStart, keyEnd);
  return {
    type: version === 0 ? "delete" : "put",
    key,
    revision: main,
    sub,
    created: version === 1,
    record,
  };
}
