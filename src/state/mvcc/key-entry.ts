/** What the index holds of one key: where each retained version of it lies. */
import type { Revision } from "../../ids";
import type { Lease } from "../lease/lease-table";

/**
 * The newest version is held in fields; older ones, oldest first, in one flat array of numbers, so that a key
 * with one version costs no array and a further version 16 bytes. A version is its main revision and the
 * sequence number of its row; a tombstone's sequence is negative.
 */
export class KeyEntry {
  /** [start, main, sequence, main, sequence, …]; pairs before position `start` were dropped. */
  #older: number[] | undefined = undefined;

  constructor(
    /** Revision of the newest version. */
    public main: Revision,
    /** Row of the newest version; negative when it is a tombstone. */
    public sequence: number,
    /** Of the newest version; 0 for a tombstone. */
    public create: Revision,
    /** Puts since creation; 0 for a tombstone. */
    public version: number,
    public lease: Lease | undefined,
  ) {}

  get live(): boolean {
    return this.sequence > 0;
  }

  /** Retained versions, the newest included. */
  get retained(): number {
    return this.#older === undefined ? 1 : (this.#older.length - this.#older[0]!) / 2 + 1;
  }

  /** Keeps the present version as an older one and makes room for the next. */
  supersede(
    main: Revision,
    sequence: number,
    create: Revision,
    version: number,
    lease: Lease | undefined,
  ): void {
    if (this.#older === undefined) this.#older = [1, this.main, this.sequence];
    else this.#older.push(this.main, this.sequence);
    this.main = main;
    this.sequence = sequence;
    this.create = create;
    this.version = version;
    this.lease = lease;
  }

  /** The row of the version that a reader at `revision` sees; 0 when the key did not exist then. */
  sequenceAt(revision: Revision): number {
    if (this.main <= revision) return this.sequence > 0 ? this.sequence : 0;
    const older = this.#older;
    if (older === undefined) return 0;
    // Readers are mostly close behind the newest version, so try that before searching.
    let low = older[0]!;
    let high = older.length;
    if (high - low >= 2 && older[high - 2]! <= revision) low = high - 2;
    else {
      // The last pair whose main is at most `revision`; none when low stays at the start and does not fit.
      while (high - low > 2) {
        const middle = low + (((high - low) >> 2) << 1);
        if (older[middle]! <= revision) low = middle;
        else high = middle;
      }
      if (low >= older.length || older[low]! > revision) return 0;
    }
    const sequence = older[low + 1]!;
    return sequence > 0 ? sequence : 0;
  }

  /** Retained versions below a revision, newest first: main revision and row, a tombstone's negative. */
  *below(before: Revision): Generator<readonly [main: Revision, sequence: number]> {
    if (this.main < before) yield [this.main, this.sequence];
    const older = this.#older;
    if (older === undefined) return;
    for (let at = older.length - 2; at >= older[0]!; at -= 2) {
      if (older[at]! < before) yield [older[at]!, older[at + 1]!];
    }
  }

  /** The oldest retained version's row, with a tombstone's sign; the newest version when it is the only one. */
  get oldestSequence(): number {
    return this.#older === undefined ? this.sequence : this.#older[this.#older[0]! + 1]!;
  }

  /** Forgets the oldest of several versions. */
  dropOldest(): void {
    const older = this.#older!;
    const start = older[0]! + 2;
    if (start >= older.length) this.#older = undefined;
    else if (start > 64 && start * 2 > older.length) {
      older.splice(1, start - 1);
      older[0] = 1;
    } else older[0] = start;
  }
}
