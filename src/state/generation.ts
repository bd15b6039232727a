/**
 * Everything that hangs on one database: the state machine works on one generation, and gets another when a snapshot
 * from the leader replaces its state.
 */
import type { Database } from "bun:sqlite";
import { ClusterTable } from "./cluster-table";
import { DamagedStateError } from "./damage";
import { KeptResults } from "./kept-results";
import { LeaseTable } from "./lease/lease-table";
import { MvccHistory } from "./mvcc/history";
import { MvccStore } from "./mvcc/store";
import { Sweep } from "./mvcc/sweep";
import { Journal } from "./position";
import { RowSum } from "./row-sum";
import { TimeMarks } from "./time-marks";
import type { History } from "./types";

export class Generation {
  readonly journal: Journal;
  readonly leases: LeaseTable;
  readonly cluster: ClusterTable;
  readonly kept: KeptResults;
  readonly times: TimeMarks;
  readonly store: MvccStore;
  readonly sweep: Sweep;
  readonly history: History;
  #pageBytes = 0;

  constructor(readonly database: Database) {
    this.journal = new Journal(database);
    this.leases = new LeaseTable(this.journal);
    this.cluster = new ClusterTable(this.journal);
    this.kept = new KeptResults(this.journal);
    this.times = new TimeMarks(this.journal);
    this.store = new MvccStore(this.journal, this.leases);
    const sweep = new Sweep(this.store);
    this.sweep = sweep;
    this.history = new MvccHistory(this.store, () => sweep.reached);
  }

  /** Size of a page of the database, which never changes. */
  get pageBytes(): number {
    this.#pageBytes ||= this.pragma("page_size");
    return this.#pageBytes;
  }

  /** What a pragma of SQLite that answers a number says. */
  pragma(name: "page_size" | "page_count" | "freelist_count"): number {
    const row = this.database.query<unknown, []>(`PRAGMA ${name}`).values()[0];
    return Number(row?.[0] ?? 0);
  }

  /** Reads all rows in slices of a few milliseconds, checking each, their number and their sum. */
  *load(): Generator<void, void> {
    const found = new RowSum();
    yield* this.leases.load(found);
    this.cluster.load(found);
    yield* this.kept.load(found);
    yield* this.times.load(found);
    yield* this.store.load(found);
    const { rows } = this.journal.position;
    if (found.count !== rows.count) {
      throw new DamagedStateError(`${found.count} rows were found where ${rows.count} were written`);
    }
    if (!found.equals(rows)) throw new DamagedStateError("its rows are not those that were written");
  }
}

/** A state that is being read from its database, to take the place of another. */
export class LoadingState {
  readonly generation: Generation;
  readonly #steps: Generator<void, void>;
  #done = false;

  /** @throws {DamagedStateError} as {@link step} does. */
  constructor(database: Database) {
    this.generation = new Generation(database);
    this.#steps = this.generation.load();
  }

  get done(): boolean {
    return this.#done;
  }

  /**
   * Reads for one slice; true when all is read.
   * @throws {DamagedStateError} that says what is wrong.
   */
  step(): boolean {
    this.#done ||= this.#steps.next().done === true;
    return this.#done;
  }
}

/** A state that was replaced. Reads that began on it may finish; nothing is written to it any more. */
export class RetiredState {
  readonly #generation: Generation;

  constructor(generation: Generation) {
    this.#generation = generation;
  }

  /** Reads that are under way at a pinned revision. */
  get readers(): number {
    return this.#generation.store.pins.count;
  }

  /** Closes its database. Reads that are still under way fail with a refusal at their next slice. */
  close(): void {
    const { journal, database } = this.#generation;
    journal.retire();
    database.close();
  }
}
