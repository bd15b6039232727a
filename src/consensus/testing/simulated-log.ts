/** What a disk holds of one member's log: it obeys every batch and loses nothing by itself. */
import { assert } from "../../assert";
import type { LogIndex, Term } from "../../ids";
import type { Entry, HardState, SnapshotPosition } from "../types";

export class SimulatedLog {
  start: { index: LogIndex; term: Term };
  hardState: HardState;
  /** From start.index + 1 on. */
  entries: Entry[] = [];

  constructor(start: { index: LogIndex; term: Term }, hardState: HardState) {
    this.start = start;
    this.hardState = hardState;
  }

  get lastIndex(): LogIndex {
    return this.start.index + this.entries.length;
  }

  term(index: LogIndex): Term | undefined {
    return index === this.start.index ? this.start.term : this.entries[index - this.start.index - 1]?.term;
  }

  entry(index: LogIndex): Entry | undefined {
    return this.entries[index - this.start.index - 1];
  }

  write(entries: readonly Entry[], hardState: HardState | undefined): void {
    const first = entries[0];
    if (first !== undefined) {
      const keep = first.index - this.start.index - 1;
      assert(keep >= 0 && keep <= this.entries.length, `entries from ${first.index} leave a gap`);
      this.entries.length = keep;
      for (const entry of entries) this.entries.push(entry);
    }
    if (hardState !== undefined) this.hardState = hardState;
  }

  install(position: SnapshotPosition): void {
    this.start = { index: position.index, term: position.term };
    this.entries = [];
  }

  /** Entries in [low, high), about `bytesMax` bytes of them but at least one. */
  read(low: LogIndex, high: LogIndex, bytesMax: number): Entry[] {
    if (low <= this.start.index) return [];
    const entries: Entry[] = [];
    let bytes = 0;
    for (let index = low; index < high; index++) {
      const entry = this.entry(index);
      if (entry === undefined) break;
      bytes += entry.data.length + 32;
      if (entries.length > 0 && bytes > bytesMax) break;
      entries.push(entry);
    }
    return entries;
  }

  cut(index: LogIndex): void {
    const term = this.term(index);
    assert(term !== undefined && index >= this.start.index, `cannot cut at ${index}`);
    this.entries = this.entries.slice(index - this.start.index);
    this.start = { index, term };
  }

  clone(): SimulatedLog {
    const copy = new SimulatedLog({ ...this.start }, this.hardState);
    copy.entries = [...this.entries];
    return copy;
  }
}
