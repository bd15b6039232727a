/**
 * The replicated log as the core sees it: the newest entries in memory, the terms of older ones, and the cursors
 *
 *     start ≤ applied ≤ delivered ≤ commit ≤ last
 *
 * where `delivered` is what was handed out to be applied. Entries leave memory, oldest first, once they are both on
 * disk and delivered and the tail outgrows its bound; afterwards they are asked for from storage.
 */
import { assert } from "../assert";
import { emptyBytes } from "../bytes";
import type { LogIndex, Term } from "../ids";
import { TermRuns } from "./term-runs";
import type { Entry, EntryKind, HardState, SnapshotPosition } from "./types";
import { Unstable } from "./unstable";

/** What an entry counts in byte bounds besides its data. */
const entryOverheadBytes = 32;

export function entryBytes(entry: Entry): number {
  return entry.data.length + entryOverheadBytes;
}

export interface LogInitial {
  readonly hardState: HardState;
  readonly start: { readonly index: LogIndex; readonly term: Term };
  readonly tail: readonly Entry[];
  readonly lastIndex: LogIndex;
  readonly applied: LogIndex;
}

const vacated: Entry = { term: 0, index: 0, kind: "command", data: emptyBytes };
const noEntries: readonly Entry[] = [];

export class Log {
  readonly unstable: Unstable;
  readonly #terms = new TermRuns();
  /** Live entries are tail[head…]; slots before `head` are vacated and removed in bulk. */
  #tail: Entry[];
  #head = 0;
  #tailFirst: LogIndex;
  #tailBytes = 0;
  readonly #tailBytesMax: number;
  #startIndex: LogIndex;
  #startTerm: Term | undefined;
  #last: LogIndex;
  #commit: LogIndex;
  #delivered: LogIndex;
  #applied: LogIndex;
  /** Unapplied configuration entries, oldest first. */
  #configurations: LogIndex[] = [];
  /** Up to here, entries that were not in the initial tail may be configuration changes. */
  readonly #unseenThrough: LogIndex;
  /** Delivery from storage: what was asked for, and what came. */
  #deliveryAskedFor: LogIndex = 0;
  #supplied: readonly Entry[] = noEntries;

  constructor(initial: LogInitial, tailBytesMax: number) {
    const { hardState, start, tail, lastIndex, applied } = initial;
    assert(start.index <= applied, `log starts at ${start.index}, after applied ${applied}`);
    assert(applied <= lastIndex, `applied ${applied} is beyond the log's end ${lastIndex}`);
    assert(hardState.commit <= lastIndex, `commit ${hardState.commit} is beyond the log's end ${lastIndex}`);
    const commit = Math.max(hardState.commit, applied);
    const tailFirst = tail[0]?.index ?? lastIndex + 1;
    assert(tailFirst + tail.length === lastIndex + 1, `tail from ${tailFirst} does not end at ${lastIndex}`);
    assert(tailFirst <= commit + 1, `tail from ${tailFirst} leaves a gap after commit ${commit}`);
    assert(
      tail.length > 0 || lastIndex === start.index,
      `the tail must hold at least the last entry, ${lastIndex}`,
    );
    assert(tailFirst > start.index, `tail from ${tailFirst} begins before the log's start ${start.index}`);
    this.#tail = [...tail];
    this.#tailFirst = tailFirst;
    this.#tailBytesMax = tailBytesMax;
    this.#startIndex = start.index;
    this.#startTerm = start.term;
    this.#last = lastIndex;
    this.#commit = commit;
    this.#delivered = applied;
    this.#applied = applied;
    this.#unseenThrough = tailFirst - 1;
    for (let i = 0; i < tail.length; i++) {
      const entry = tail[i]!;
      assert(entry.index === tailFirst + i, `tail has ${entry.index} at ${tailFirst + i}`);
      this.#terms.append(entry.index, entry.term);
      this.#tailBytes += entryBytes(entry);
      if (entry.kind === "configuration" && entry.index > applied) this.#noteConfiguration(entry.index);
    }
    this.unstable = new Unstable(lastIndex, hardState.term, hardState.vote);
  }

  get startIndex(): LogIndex {
    return this.#startIndex;
  }
  get lastIndex(): LogIndex {
    return this.#last;
  }
  get commit(): LogIndex {
    return this.#commit;
  }
  get applied(): LogIndex {
    return this.#applied;
  }
  /** First entry in memory; `lastIndex + 1` when there is none. */
  get tailFirst(): LogIndex {
    return this.#tailFirst;
  }
  get tailBytes(): number {
    return this.#tailBytes;
  }

  get lastTerm(): Term {
    const term = this.term(this.#last);
    assert(term !== undefined, () => `term of the last entry ${this.#last} is unknown`);
    return term;
  }

  /** The term at `index`; undefined outside the log, or where it left memory before this life began. */
  term(index: LogIndex): Term | undefined {
    if (index === this.#startIndex) return this.#startTerm;
    if (index < this.#startIndex || index > this.#last) return undefined;
    return this.#terms.at(index);
  }

  /** Whether a log that ends with this entry is at least as complete as this one (paper §5.4.1). */
  isUpToDate(lastIndex: LogIndex, lastTerm: Term): boolean {
    const own = this.lastTerm;
    return lastTerm > own || (lastTerm === own && lastIndex >= this.#last);
  }

  /** The largest position up to `index` with a term of at most `term`; see {@link TermRuns.lastAtMost}. */
  lastAtMost(index: LogIndex, term: Term): LogIndex {
    return Math.max(this.#startIndex, this.#terms.lastAtMost(Math.min(index, this.#last), term));
  }

  /** Adds a new entry at the end. */
  push(term: Term, kind: EntryKind, data: Uint8Array): LogIndex {
    const index = this.#last + 1;
    this.#pushEntry({ term, index, kind, data });
    return index;
  }

  #pushEntry(entry: Entry): void {
    this.#terms.append(entry.index, entry.term);
    this.#tail.push(entry);
    this.#last = entry.index;
    this.#tailBytes += entry.data.length + entryOverheadBytes;
    if (entry.kind === "configuration") this.#noteConfiguration(entry.index);
  }

  /**
   * A second membership change proves that the first is committed: no leader proposes one before it has applied the
   * one before (R9). R10 depends on knowing that, also after a restart with an old commit index: otherwise this
   * member could campaign with majorities that are two changes old and need not overlap with today's.
   */
  #noteConfiguration(index: LogIndex): void {
    const before = this.#configurations[this.#configurations.length - 1];
    this.#configurations.push(index);
    if (before !== undefined) this.commitTo(before);
  }

  /**
   * Takes over a leader's entries after a position that matched. Entries that are there already stay; the first
   * that differs in term, and all that follow it, are replaced (paper §5.3).
   */
  merge(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.index <= this.#last) {
        const own = entry.index <= this.#startIndex ? undefined : this.term(entry.index);
        // Unknown terms lie at or below commit, where logs cannot differ.
        if (own === undefined || own === entry.term) continue;
        this.#truncateFrom(entry.index);
      }
      this.#pushEntry(entry);
    }
  }

  #truncateFrom(index: LogIndex): void {
    assert(
      index > this.#commit,
      () => `entry ${index} is committed (${this.#commit}) and cannot be replaced`,
    );
    const keep = this.#head + (index - this.#tailFirst);
    assert(
      keep >= this.#head,
      () => `entry ${index} left memory (${this.#tailFirst}) before it was committed`,
    );
    for (let i = keep; i < this.#tail.length; i++) this.#tailBytes -= entryBytes(this.#tail[i]!);
    this.#tail.length = keep;
    this.#last = index - 1;
    this.#terms.truncateFrom(index);
    this.unstable.truncateFrom(index);
    const configurations = this.#configurations;
    while (configurations.length > 0 && configurations[configurations.length - 1]! >= index)
      configurations.pop();
  }

  /** Moves the commit index forward; a lower one changes nothing (R14). */
  commitTo(index: LogIndex): void {
    if (index <= this.#commit) return;
    assert(index <= this.#last, () => `commit ${index} is beyond the log's end ${this.#last}`);
    this.#commit = index;
  }

  /** Sum of the sizes of entries in [low, high], which must be in memory. */
  bytesBetween(low: LogIndex, high: LogIndex): number {
    let bytes = 0;
    const base = this.#head - this.#tailFirst;
    for (let index = low; index <= high; index++) bytes += entryBytes(this.#tail[base + index]!);
    return bytes;
  }

  /** Entries from `low` on, cut at about `bytesMax` but at least one; undefined when `low` left memory. */
  from(low: LogIndex, bytesMax: number): readonly Entry[] | undefined {
    if (low > this.#last) return noEntries;
    if (low < this.#tailFirst) return undefined;
    const begin = this.#head + (low - this.#tailFirst);
    let end = begin + 1;
    let bytes = entryBytes(this.#tail[begin]!);
    for (; end < this.#tail.length; end++) {
      bytes += entryBytes(this.#tail[end]!);
      if (bytes > bytesMax) break;
    }
    return this.#tail.slice(begin, end);
  }

  /** Entries that were not handed out for persisting yet. */
  unpersisted(): readonly Entry[] {
    const { handed } = this.unstable;
    return handed === this.#last ? noEntries : this.#tail.slice(this.#head + (handed + 1 - this.#tailFirst));
  }

  /**
   * Up to where entries may be applied: committed and in the own log. Waiting for the own disk keeps the state
   * from getting ahead of the log, which a restart would have to take for damage.
   */
  get #deliverable(): LogIndex {
    return Math.min(this.#commit, this.unstable.persisted);
  }

  /** Whether `deliver` or `wantedForDelivery` has something to say. */
  get hasDelivery(): boolean {
    const next = this.#delivered + 1;
    if (next > this.#deliverable) return false;
    return next >= this.#tailFirst || this.#supplied.length > 0 || this.#deliveryAskedFor !== next;
  }

  /** The next committed entries to apply. */
  deliver(): readonly Entry[] {
    const next = this.#delivered + 1;
    const limit = this.#deliverable;
    if (next > limit) return noEntries;
    let entries: readonly Entry[];
    if (next >= this.#tailFirst) {
      const base = this.#head - this.#tailFirst;
      entries = this.#tail.slice(base + next, base + limit + 1);
    } else {
      entries = this.#supplied;
      this.#supplied = noEntries;
    }
    const newest = entries[entries.length - 1];
    if (newest !== undefined) {
      assert(entries[0]!.index === next, () => `delivery begins at ${entries[0]!.index}, not at ${next}`);
      this.#delivered = newest.index;
    }
    return entries;
  }

  /** The range that delivery needs from storage, once per range. */
  wantedForDelivery(): { low: LogIndex; high: LogIndex } | undefined {
    const low = this.#delivered + 1;
    if (low > this.#deliverable || low >= this.#tailFirst) return undefined;
    if (this.#deliveryAskedFor === low) return undefined;
    this.#deliveryAskedFor = low;
    return { low, high: Math.min(this.#deliverable + 1, this.#tailFirst) };
  }

  /** Takes note of entries read from storage: their terms, and delivery if it waits for them. */
  supply(low: LogIndex, entries: readonly Entry[]): void {
    this.#terms.prepend(entries);
    if (this.#deliveryAskedFor !== low || this.#delivered + 1 !== low || low >= this.#tailFirst) return;
    assert(entries.length > 0, () => `committed entry ${low} is gone from storage before it was applied`);
    assert(entries[0]!.index === low, () => `storage answered ${entries[0]!.index} for ${low}`);
    const limit = this.#deliverable;
    this.#supplied =
      entries[entries.length - 1]!.index <= limit ? entries : entries.slice(0, limit + 1 - low);
    this.#deliveryAskedFor = 0;
  }

  /** Whether entries read earlier can still be trusted: none was overwritten in this life. */
  agreesWith(entries: readonly Entry[]): boolean {
    for (const entry of entries) {
      if (entry.index > this.#last) return false;
      if (entry.index <= this.#startIndex) continue;
      const term = this.#terms.at(entry.index);
      if (term !== undefined && term !== entry.term) return false;
    }
    return true;
  }

  appliedTo(index: LogIndex): void {
    if (index <= this.#applied) return;
    assert(index <= this.#delivered, () => `applied ${index} was not handed out (${this.#delivered})`);
    this.#applied = index;
    while (this.#configurations.length > 0 && this.#configurations[0]! <= index) this.#configurations.shift();
  }

  /** Whether a committed membership change may still wait to be applied (R10). */
  get hasUnappliedConfiguration(): boolean {
    if (this.#applied < Math.min(this.#unseenThrough, this.#commit)) return true;
    return this.#configurations.length > 0 && this.#configurations[0]! <= this.#commit;
  }

  /** Lets the oldest entries go when the tail is over its bound. */
  trim(): void {
    if (this.#tailBytes <= this.#tailBytesMax) return;
    const limit = Math.min(this.unstable.persisted, this.#delivered);
    while (this.#tailBytes > this.#tailBytesMax && this.#tailFirst <= limit) this.#dropFirst();
    this.#removeVacated();
  }

  #dropFirst(): void {
    this.#tailBytes -= entryBytes(this.#tail[this.#head]!);
    this.#tail[this.#head] = vacated;
    this.#head++;
    this.#tailFirst++;
  }

  #removeVacated(): void {
    if (this.#head < 1024 || this.#head * 2 < this.#tail.length) return;
    this.#tail = this.#tail.slice(this.#head);
    this.#head = 0;
  }

  /** The log was cut up to and including `index`. */
  compactTo(index: LogIndex, term: Term | undefined): void {
    if (index <= this.#startIndex) return;
    assert(index <= this.#applied, `cut at ${index} is beyond applied ${this.#applied}`);
    this.#startTerm = this.term(index) ?? term;
    this.#startIndex = index;
    while (this.#tailFirst <= index && this.#head < this.#tail.length) this.#dropFirst();
    this.#removeVacated();
    this.#terms.dropThrough(index);
    if (index === this.#last) this.#terms.clear();
  }

  /** A snapshot took the place of everything. */
  resetTo(position: SnapshotPosition): void {
    assert(position.index > this.#commit, `snapshot ${position.index} is not beyond commit ${this.#commit}`);
    this.#tail = [];
    this.#head = 0;
    this.#tailFirst = position.index + 1;
    this.#tailBytes = 0;
    this.#terms.clear();
    this.#configurations = [];
    this.#supplied = noEntries;
    this.#deliveryAskedFor = 0;
    this.#startIndex = position.index;
    this.#startTerm = position.term;
    this.#last = position.index;
    this.#commit = position.index;
    this.#delivered = position.index;
    this.#applied = position.index;
    this.unstable.resetTo(position.index);
  }

  /**
   * The commit index that may be written down: of entries that are on disk already. So a batch that reaches the
   * disk in part can never leave a log that ends before its commit index.
   */
  get durableCommit(): LogIndex {
    return this.#deliverable;
  }
}
