/**
 * When revisions were written. Revisions carry no time in etcd; here the first write of each second leaves a mark, in
 * the proposer's time. Marks only rise, whatever clocks do, so that time can be searched by.
 */
import type { Statement } from "bun:sqlite";
import type { Revision } from "../ids";
import { DamagedStateError } from "./damage";
import type { Journal } from "./position";
import { type RowSum, rowChecksum } from "./row-sum";

/** The least time between two marks. */
const markIntervalMs = 1_000;
/** Marks that fell behind compaction and are removed at each new one, so that no entry has to remove them all. */
const pruneMax = 8;
const loadPageRows = 5_000;
const noBytes = new Uint8Array(0);

export class TimeMarks {
  readonly #journal: Journal;
  readonly #add: Statement;
  readonly #remove: Statement;
  readonly #oldest: Statement;
  readonly #byRevision: Statement;
  readonly #byTime: Statement;
  readonly #next: Statement;
  #lastRevision: Revision = 0;
  #lastMs = 0;

  constructor(journal: Journal) {
    this.#journal = journal;
    const { database } = journal;
    this.#add = database.prepare("INSERT INTO time_marks VALUES (?1, ?2, ?3)");
    this.#remove = database.prepare("DELETE FROM time_marks WHERE revision = ?1 RETURNING checksum");
    this.#oldest = database.prepare("SELECT revision FROM time_marks ORDER BY revision LIMIT ?1");
    this.#byRevision = database.prepare(
      "SELECT revision, time_ms FROM time_marks WHERE revision <= ?1 ORDER BY revision DESC LIMIT 1",
    );
    this.#byTime = database.prepare(
      "SELECT revision, time_ms FROM time_marks WHERE time_ms <= ?1 ORDER BY time_ms DESC LIMIT 1",
    );
    this.#next = database.prepare(
      "SELECT revision FROM time_marks WHERE revision > ?1 ORDER BY revision LIMIT 1",
    );
  }

  /** Reads the stored marks, checking and counting them; yields between pages. */
  *load(sum: RowSum): Generator<void, void> {
    const page = this.#journal.database.prepare(
      `SELECT revision, time_ms, checksum FROM time_marks WHERE revision > ?1 ORDER BY revision LIMIT ${loadPageRows}`,
    );
    for (;;) {
      const rows = page.values(this.#lastRevision) as [number, number, number][];
      for (const [revision, timeMs, checksum] of rows) {
        if (checksumOf(revision, timeMs) !== checksum || timeMs <= this.#lastMs) {
          throw new DamagedStateError(`the time of revision ${revision} is not what was written`);
        }
        sum.add(checksum);
        this.#lastRevision = revision;
        this.#lastMs = timeMs;
      }
      if (rows.length < loadPageRows) return;
      yield;
    }
  }

  /** The newest time that any mark has: log time never goes behind it. */
  get lastMs(): number {
    return this.#lastMs;
  }

  /** A revision was written by an entry that was proposed at this time. */
  written(revision: Revision, proposedAtMs: number, compactedRevision: Revision): void {
    if (proposedAtMs < this.#lastMs + markIntervalMs) return;
    this.#journal.write(32);
    this.#add.run(revision, proposedAtMs, this.#journal.added(noBytes, revision, proposedAtMs));
    this.#lastRevision = revision;
    this.#lastMs = proposedAtMs;
    this.#prune(compactedRevision);
  }

  /** The newest mark at or below the compacted revision stays: it is that revision's time. */
  #prune(compactedRevision: Revision): void {
    if (compactedRevision < 1) return;
    const oldest = this.#oldest.values(pruneMax + 1) as [number][];
    for (let at = 0; at + 1 < oldest.length && oldest[at + 1]![0] <= compactedRevision; at++) {
      const removed = this.#remove.values(oldest[at]![0])[0] as [number] | undefined;
      if (removed === undefined)
        throw new DamagedStateError(`the time of revision ${oldest[at]![0]} is missing`);
      this.#journal.position.rows.subtract(removed[0]);
    }
  }

  /** When a revision was written, to a second; undefined when no mark is that old. */
  timeOf(revision: Revision): number | undefined {
    if (revision >= this.#lastRevision) return this.#lastRevision === 0 ? undefined : this.#lastMs;
    this.#journal.read();
    return (this.#byRevision.values(revision)[0] as [number, number] | undefined)?.[1];
  }

  /**
   * The newest revision that was written by a time, to a second; `newest` is the store's. Undefined when the time lies
   * before every mark.
   */
  revisionAt(timeMs: number, newest: Revision): Revision | undefined {
    this.#journal.read();
    const mark = this.#byTime.values(timeMs)[0] as [Revision, number] | undefined;
    if (mark === undefined) return undefined;
    const [revision, markedMs] = mark;
    // What followed within the mark's second may lie before or behind the time.
    if (timeMs < markedMs + markIntervalMs) return revision;
    const next = this.#next.values(revision)[0] as [Revision] | undefined;
    return next === undefined ? newest : next[0] - 1;
  }
}

function checksumOf(revision: Revision, timeMs: number): number {
  return rowChecksum(noBytes, revision, timeMs);
}
