/** The newest revisions, kept in memory within bounds so that readers who are a little late need no history. */
import type { Revision } from "../ids";
import { tailBytesMax, tailRevisionsMax } from "./bounds";
import type { RevisionEvents } from "./revision-events";

export class Tail {
  /** Slots below `#head` are empty. */
  #entries: (RevisionEvents | undefined)[] = [];
  #head = 0;
  #bytes = 0;
  #from: Revision;

  constructor(from: Revision) {
    this.#from = from;
  }

  /** Every change from this revision on is held. */
  get from(): Revision {
    return this.#from;
  }

  /** Revisions held. */
  get size(): number {
    return this.#entries.length - this.#head;
  }

  /** The newest revision with changes that is held. */
  get newest(): RevisionEvents | undefined {
    return this.#entries[this.#entries.length - 1];
  }

  /** Forgets everything; what is pushed next starts at `from` or later. */
  restart(from: Revision): void {
    this.#entries = [];
    this.#head = 0;
    this.#bytes = 0;
    this.#from = from;
  }

  push(entry: RevisionEvents): void {
    this.#entries.push(entry);
    this.#bytes += entry.bytes;
    while (this.#entries.length - this.#head > tailRevisionsMax || this.#bytes > tailBytesMax) this.#drop();
    if (this.#head > 1_024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  #drop(): void {
    const dropped = this.#entries[this.#head]!;
    this.#entries[this.#head] = undefined;
    this.#head++;
    this.#bytes -= dropped.bytes;
    this.#from = dropped.revision + 1;
    if (this.#head === this.#entries.length) {
      this.#entries = [];
      this.#head = 0;
    }
  }

  /** What is held from `from` on, within the bounds but at least one revision, oldest first. */
  read(from: Revision, revisionsMax: number, bytesMax: number): readonly RevisionEvents[] {
    let low = this.#head;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#entries[middle]!.revision < from) low = middle + 1;
      else high = middle;
    }
    let end = low;
    let bytes = 0;
    while (end < this.#entries.length && end - low < revisionsMax && bytes <= bytesMax) {
      bytes += this.#entries[end]!.bytes;
      end++;
    }
    return this.#entries.slice(low, end) as RevisionEvents[];
  }
}
