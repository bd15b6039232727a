/** Where each live entry lies and which term it has: one number per entry, and one pair per term. */
import { assert } from "../../assert";
import type { LogIndex, Term } from "../../ids";
import type { Segment } from "./segment";

interface TermRun {
  readonly from: LogIndex;
  readonly term: Term;
}

export class EntryIndex {
  readonly segments: Segment[] = [];
  /** Terms by the first index that has them; ascending. */
  #runs: TermRun[] = [];
  #start: { index: LogIndex; term: Term };
  lastIndex: LogIndex;

  constructor(start: { readonly index: LogIndex; readonly term: Term }) {
    this.#start = start;
    this.lastIndex = start.index;
  }

  /** The position just before the first live entry. */
  get start(): { readonly index: LogIndex; readonly term: Term } {
    return this.#start;
  }

  get lastTerm(): Term {
    return this.#runs.at(-1)?.term ?? this.#start.term;
  }

  /** The term of a live entry, or of the position before the first. */
  term(index: LogIndex): Term | undefined {
    if (index === this.#start.index) return this.#start.term;
    if (index < this.#start.index || index > this.lastIndex) return undefined;
    let low = 0;
    let high = this.#runs.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#runs[middle]!.from <= index) low = middle;
      else high = middle - 1;
    }
    return this.#runs[low]?.term;
  }

  /** Whether a snapshot leaves the entries alone: they begin behind it, or agree with it (Raft paper, section 7). */
  keepsEntries(index: LogIndex, term: Term): boolean {
    return index <= this.#start.index || this.term(index) === term;
  }

  /** Forgets all entries: the log goes on behind a snapshot whose record lies in `segment`. */
  reset(segment: Segment, index: LogIndex, term: Term): void {
    segment.lowestIndex = Math.min(segment.lowestIndex, index + 1);
    for (const segment of this.segments) segment.offsets = [];
    this.#runs = [];
    this.#start = { index, term };
    this.lastIndex = index;
  }

  /** Records an entry at the log's end, or in place of the entries from its index on. */
  put(segment: Segment, index: LogIndex, term: Term, offset: number): void {
    if (index <= this.lastIndex) this.#truncate(index);
    assert(
      index === this.lastIndex + 1,
      () => `entry ${index} does not continue a log that ends at ${this.lastIndex}`,
    );
    if (segment.offsets.length === 0) segment.firstIndex = index;
    if (index < segment.lowestIndex) segment.lowestIndex = index;
    segment.offsets.push(offset);
    if (term !== this.lastTerm || this.#runs.length === 0) this.#runs.push({ from: index, term });
    this.lastIndex = index;
  }

  #truncate(from: LogIndex): void {
    assert(from > this.#start.index, () => `entry ${from} lies before the log's start ${this.#start.index}`);
    for (let i = this.segments.length - 1; i >= 0; i--) {
      const segment = this.segments[i]!;
      if (segment.offsets.length === 0) continue;
      if (segment.firstIndex + segment.offsets.length <= from) break;
      segment.offsets.length = Math.max(0, from - segment.firstIndex);
    }
    while ((this.#runs.at(-1)?.from ?? 0) >= from) this.#runs.pop();
    this.lastIndex = from - 1;
  }

  /** The segment that holds a live entry. */
  segmentOf(index: LogIndex): Segment {
    for (let i = this.segments.length - 1; i >= 0; i--) {
      const segment = this.segments[i]!;
      if (segment.offsets.length > 0 && segment.firstIndex <= index) return segment;
    }
    assert(false, `entry ${index} is in no segment`);
  }

  /**
   * How many of the oldest segments hold nothing above `index`, and nothing that a later segment's history
   * needs: a segment may come first when no later one rewrote anything at or below its base.
   */
  removable(index: LogIndex): number {
    let lowestAfter = Number.POSITIVE_INFINITY;
    let count = 0;
    // From the newest down: the first candidate that fits is the one that frees most.
    for (let first = this.segments.length - 1; first > 0; first--) {
      const segment = this.segments[first]!;
      lowestAfter = Math.min(lowestAfter, segment.lowestIndex);
      if (segment.baseIndex <= index && lowestAfter > segment.baseIndex) {
        count = first;
        break;
      }
    }
    return count;
  }

  /** Lets the oldest segments go, as many as {@link removable} said; the log then starts at the next one's base. */
  removeOldest(count: number): Segment[] {
    const removed = this.segments.splice(0, count);
    const next = this.segments[0];
    assert(next !== undefined, "the last segment of a log cannot be removed");
    if (next.baseIndex <= this.#start.index) return removed;
    this.#start = { index: next.baseIndex, term: next.baseTerm };
    let dropped = 0;
    while (dropped + 1 < this.#runs.length && this.#runs[dropped + 1]!.from <= next.baseIndex + 1) dropped++;
    this.#runs.splice(0, next.baseIndex >= this.lastIndex ? this.#runs.length : dropped);
    return removed;
  }
}
