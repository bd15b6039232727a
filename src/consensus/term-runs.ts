/** The terms of all log positions, as runs: a log has few terms, so this stays small however long the log is. */
import type { LogIndex, Term } from "../ids";
import { assert } from "../assert";
import type { Entry } from "./types";

interface Run {
  /** First index of the run; it ends where the next begins. */
  first: LogIndex;
  readonly term: Term;
}

export class TermRuns {
  #runs: Run[] = [];

  /** Extends the known positions at their end. */
  append(index: LogIndex, term: Term): void {
    const last = this.#runs[this.#runs.length - 1];
    if (last !== undefined && last.term === term) return;
    assert(
      last === undefined || last.term < term,
      () => `term ${term} at ${index} follows term ${last?.term}`,
    );
    this.#runs.push({ first: index, term });
  }

  /** Extends them at their beginning, when `entries` end just before it; otherwise does nothing. */
  prepend(entries: readonly Entry[]): void {
    const known = this.#runs[0];
    const newest = entries[entries.length - 1];
    if (known === undefined || newest === undefined || newest.index !== known.first - 1) return;
    for (let i = entries.length - 1; i >= 0; i--) {
      const { index, term } = entries[i]!;
      const first = this.#runs[0]!;
      if (first.term === term) first.first = index;
      else this.#runs.unshift({ first: index, term });
    }
  }

  /** Forgets `index` and everything after it. */
  truncateFrom(index: LogIndex): void {
    while (this.#runs.length > 0 && this.#runs[this.#runs.length - 1]!.first >= index) this.#runs.pop();
  }

  /** Forgets everything up to and including `index`. */
  dropThrough(index: LogIndex): void {
    while (this.#runs.length > 1 && this.#runs[1]!.first <= index + 1) this.#runs.shift();
    const first = this.#runs[0];
    if (first !== undefined && first.first <= index) first.first = index + 1;
  }

  clear(): void {
    this.#runs = [];
  }

  /** The term at `index`, which must not lie beyond the log's end; undefined before the known positions. */
  at(index: LogIndex): Term | undefined {
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const run = this.#runs[i]!;
      if (run.first <= index) return run.term;
    }
    return undefined;
  }

  /**
   * The largest position up to `index` whose term is at most `term`. Before the known positions the answer is
   * the position just before them, or `index` when that is smaller.
   */
  lastAtMost(index: LogIndex, term: Term): LogIndex {
    let end = index;
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const run = this.#runs[i]!;
      if (run.first > index) continue;
      if (run.term <= term) return end;
      end = run.first - 1;
    }
    return end;
  }
}
