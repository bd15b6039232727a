/** The log at work: batches become frames, frames share syncs, segments follow one another and are cut. */
import { assert } from "../../assert";
import type { Entry, HardState } from "../../consensus/types";
import type { LogIndex, Term } from "../../ids";
import type { Disk } from "../../member/ports";
import type { EntryIndex } from "./entry-index";
import {
  fullError,
  isFull,
  LogClosedError,
  LogDamagedError,
  LogFailedError,
  type LogFullError,
} from "./errors";
import {
  entryOf,
  FrameBuilder,
  frameAlignment,
  type FrameFields,
  frameHeaderBytes,
  FrameType,
  readRecord,
  recordHeaderBytes,
  recordLength,
  viewOf,
} from "./format";
import { removeInOrder } from "./repair";
import { type Segment, segmentName, startRoomBytes } from "./segment";
import type { DurableLog, LogBatch, LogIdentity, LogObserver } from "./types";

/** How much is read from disk at a time when entries are asked for. */
const readChunkBytes = 256 * 1024;
/** Kept free at the end of a segment, so that its last frames can be marked as synced, now and at a restart. */
const markerRoomBytes = 2 * frameHeaderBytes;

/** Starts for which the room that is kept for them lasts. */
const startsWithRoom = 8;

/** What the log needs of its owner. */
export interface LogOptions {
  readonly directory: string;
  readonly disk: Disk;
  readonly observer?: LogObserver | undefined;
}

/** What is known about a log before the first append of this life. */
export interface LogState {
  readonly identity: LogIdentity;
  readonly index: EntryIndex;
  readonly hardState: HardState;
  readonly snapshot: LogBatch["snapshot"];
  readonly chain: bigint;
  readonly startChain: bigint;
  readonly life: number;
  readonly end: number;
  readonly synced: number;
}

/** Batches that wait for the same write and sync. What they say about the log counts once it is written. */
interface PendingFrame {
  readonly done: PromiseWithResolvers<void>;
  /** The entries that will be live: their index runs on from here. Offsets count from the frame's start. */
  firstIndex: LogIndex;
  readonly offsets: number[];
  readonly terms: Term[];
  /** The lowest index that an entry of the frame has, superseded within the frame or not: a replay meets it. */
  lowestIndex: LogIndex;
  /** Set when a snapshot replaces all that came before. */
  base: { readonly index: LogIndex; readonly term: Term } | undefined;
  hardState: HardState | undefined;
  snapshot: LogBatch["snapshot"];
}

function newPendingFrame(): PendingFrame {
  const done = Promise.withResolvers<void>();
  return {
    done,
    firstIndex: 0,
    offsets: [],
    terms: [],
    lowestIndex: Number.POSITIVE_INFINITY,
    base: undefined,
    hardState: undefined,
    snapshot: undefined,
  };
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / frameAlignment) * frameAlignment;
}

export class SegmentedLog implements DurableLog {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #segmentBytes: number;
  readonly #startRoomBytes: number;
  /** Up to where, in the log as a whole, frames are the first of this life. */
  readonly #startEnd: number;
  readonly #observer: LogObserver;
  readonly #identity: LogIdentity;
  readonly #index: EntryIndex;
  readonly #life: number;
  #hardState: HardState;
  #snapshot: LogBatch["snapshot"];
  #chain: bigint;
  #startChain: bigint;
  /** Where the next frame goes, and what is on disk for sure, in the log as a whole. */
  #end: number;
  #synced: number;

  readonly #builder = new FrameBuilder();
  readonly #small = new FrameBuilder(1024);
  #pending: PendingFrame | undefined;
  /** The frame that is being synced. */
  #flying: PendingFrame | undefined;
  #pumping: Promise<void> | undefined;
  #spare: Segment["file"] | undefined;
  #prepareAgainAt = 0;
  #failed: LogFailedError | undefined;
  #full: LogFullError | undefined;
  #closed = false;

  constructor(options: LogOptions, segmentBytes: number, state: LogState) {
    this.#disk = options.disk;
    this.#directory = options.directory;
    this.#observer = options.observer ?? {};
    this.#segmentBytes = segmentBytes;
    this.#startRoomBytes = startRoomBytes(segmentBytes);
    this.#startEnd = state.end + this.#startRoomBytes / startsWithRoom;
    this.#identity = state.identity;
    this.#index = state.index;
    this.#hardState = state.hardState;
    this.#snapshot = state.snapshot;
    this.#chain = state.chain;
    this.#startChain = state.startChain;
    this.#life = state.life;
    this.#end = state.end;
    this.#synced = state.synced;
  }

  get firstIndex(): LogIndex {
    return (this.#pending?.base ?? this.#index.start).index + 1;
  }

  get lastIndex(): LogIndex {
    const pending = this.#pending;
    if (pending === undefined) return this.#index.lastIndex;
    if (pending.offsets.length > 0) return pending.firstIndex + pending.offsets.length - 1;
    return pending.base?.index ?? this.#index.lastIndex;
  }

  get sizeBytes(): number {
    return this.#end - this.#index.segments[0]!.position;
  }

  get #active(): Segment {
    return this.#index.segments.at(-1)!;
  }

  append(batch: LogBatch): Promise<void> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    if (this.#closed) return Promise.reject(new LogClosedError("the log is closed"));
    const { entries, hardState, snapshot } = batch;
    if (entries.length === 0 && hardState === undefined && snapshot === undefined) {
      return (this.#pending ?? this.#flying)?.done.promise ?? Promise.resolve();
    }
    const refusal = this.#misfit(batch);
    if (refusal !== undefined) return Promise.reject(refusal);

    const pending = (this.#pending ??= newPendingFrame());
    if (snapshot !== undefined) this.#appendSnapshot(pending, snapshot);
    for (const entry of entries) this.#appendEntry(pending, entry);
    if (hardState !== undefined) {
      this.#builder.hardState(hardState);
      pending.hardState = hardState;
    }
    this.#pumping ??= this.#pump();
    return pending.done.promise;
  }

  /** A batch that leaves a gap is a mistake of ours, unless the batch before it found the disk full. */
  #misfit({ entries, hardState, snapshot }: LogBatch): LogFullError | undefined {
    const start = Math.max(snapshot?.index ?? 0, this.firstIndex - 1);
    let last = Math.max(this.lastIndex, snapshot?.index ?? 0);
    const first = entries[0];
    if (first !== undefined) {
      if (first.index > last + 1 && this.#full !== undefined) return this.#full;
      assert(
        first.index > start && first.index <= last + 1,
        () => `entry ${first.index} does not fit a log that begins behind ${start} and ends at ${last}`,
      );
      last = entries.at(-1)!.index;
      assert(last === first.index + entries.length - 1, "the entries of a batch have gaps");
    }
    if (hardState !== undefined && hardState.commit > last) {
      if (this.#full !== undefined) return this.#full;
      assert(false, `commit ${hardState.commit} is beyond the log's end ${last}`);
    }
    return undefined;
  }

  #appendSnapshot(pending: PendingFrame, snapshot: NonNullable<LogBatch["snapshot"]>): void {
    this.#builder.snapshot(snapshot);
    pending.snapshot = snapshot;
    const keeps = snapshot.index <= this.firstIndex - 1 || this.term(snapshot.index) === snapshot.term;
    if (keeps) return;
    pending.base = { index: snapshot.index, term: snapshot.term };
    pending.offsets.length = 0;
    pending.terms.length = 0;
  }

  #appendEntry(pending: PendingFrame, entry: Entry): void {
    const offset = this.#builder.entry(entry);
    const count = pending.offsets.length;
    if (count === 0 || entry.index <= pending.firstIndex) {
      pending.firstIndex = entry.index;
      pending.offsets.length = 0;
      pending.terms.length = 0;
    } else if (entry.index < pending.firstIndex + count) {
      pending.offsets.length = entry.index - pending.firstIndex;
      pending.terms.length = pending.offsets.length;
    }
    if (entry.index < pending.lowestIndex) pending.lowestIndex = entry.index;
    pending.offsets.push(offset);
    pending.terms.push(entry.term);
  }

  /** Writes and syncs one frame after the other until none waits. Runs at most once at a time. */
  async #pump(): Promise<void> {
    // Whatever else is appended in this turn of the event loop's microtasks shares the first write.
    await undefined;
    while (this.#pending !== undefined && this.#failed === undefined) {
      try {
        if (this.#needsNewSegment(this.#builder.length)) await this.#roll();
        if (this.#pending === undefined) break;
        this.#writePending();
      } catch (error) {
        if (isFull(error)) {
          this.#refusePending(fullError(error));
          // What came before may have had no marker, because this frame was to vouch for it.
          this.#writeMarker();
          continue;
        }
        this.#fail(error);
        break;
      }
      if (!(await this.#sync())) break;
      const flying = this.#flying;
      // A cut may have failed meanwhile; then those who waited were told so already.
      if (flying === undefined) break;
      this.#flying = undefined;
      flying.done.resolve();
      if (this.#pending === undefined) this.#writeMarker();
      await this.#prepareAhead();
    }
    this.#pumping = undefined;
  }

  #needsNewSegment(frameBytes: number): boolean {
    const { used, allocated, slotAt } = this.#active;
    if (used === slotAt + frameHeaderBytes) return false;
    const keptBytes = this.#end + frameBytes <= this.#startEnd ? 0 : this.#startRoomBytes;
    return roundUp(used + frameBytes) + markerRoomBytes + keptBytes > Math.max(this.#segmentBytes, allocated);
  }

  #fields(type: FrameFields["type"], position: number): FrameFields {
    return { type, life: this.#life, position, synced: this.#synced, previousChain: this.#chain };
  }

  /** Writes the frame that was built into the system's cache; the log counts it from here on. */
  #writePending(): void {
    const pending = this.#pending!;
    const segment = this.#active;
    const { frame, chain } = this.#builder.finish(this.#fields(FrameType.batch, this.#end));
    this.#makeRoom(segment, segment.used + frame.length + markerRoomBytes);
    segment.file.write(segment.used, frame);

    const index = this.#index;
    segment.lowestIndex = Math.min(segment.lowestIndex, pending.lowestIndex);
    if (pending.base !== undefined) index.reset(segment, pending.base.index, pending.base.term);
    for (let i = 0; i < pending.offsets.length; i++) {
      index.put(segment, pending.firstIndex + i, pending.terms[i]!, segment.used + pending.offsets[i]!);
    }
    if (pending.hardState !== undefined) this.#hardState = pending.hardState;
    if (pending.snapshot !== undefined) this.#snapshot = pending.snapshot;
    segment.used += frame.length;
    this.#end += frame.length;
    this.#chain = chain;
    this.#flying = pending;
    this.#pending = undefined;
    this.#full = undefined;
    this.#builder.clear();
  }

  #makeRoom(segment: Segment, bytes: number): void {
    if (bytes <= segment.allocated) return;
    segment.file.allocate(bytes);
    segment.allocated = bytes;
  }

  /** Syncs the active segment; false, and the end of this log, when that fails. */
  async #sync(): Promise<boolean> {
    const target = this.#end;
    const started = this.#observer.monotonicMs?.() ?? 0;
    try {
      await this.#active.file.sync();
    } catch (error) {
      this.#fail(error);
      return false;
    }
    const bytes = target - this.#synced;
    this.#synced = target;
    this.#observer.synced?.((this.#observer.monotonicMs?.() ?? 0) - started, bytes);
    return true;
  }

  /** Nothing waits, so the next frame may be long in coming: says now that the end is on disk. */
  #writeMarker(): void {
    const segment = this.#active;
    if (this.#synced !== this.#end || segment.used + frameHeaderBytes > segment.allocated) return;
    this.#small.clear();
    const { frame, chain } = this.#small.finish(this.#fields(FrameType.marker, this.#end));
    try {
      segment.file.write(segment.used, frame);
    } catch (error) {
      // Without the marker only the ability to tell rot from a torn tail is lost.
      if (!isFull(error)) this.#fail(error);
      return;
    }
    segment.used += frame.length;
    this.#end += frame.length;
    this.#chain = chain;
  }

  /** Goes on in the next file. All that was written to the present one is on disk first. */
  async #roll(): Promise<void> {
    if (this.#spare === undefined) await this.#prepare();
    if (this.#synced !== this.#end && !(await this.#sync())) throw this.#failed;
    const index = this.#index;
    const sequence = this.#active.sequence + 1;
    const builder = this.#small;
    builder.clear();
    builder.start({
      identity: this.#identity,
      sequence,
      baseIndex: index.lastIndex,
      baseTerm: index.lastTerm,
      allocatedBytes: this.#segmentBytes,
    });
    builder.hardState(this.#hardState);
    if (this.#snapshot !== undefined) builder.snapshot(this.#snapshot);
    const { frame, chain } = builder.finish(this.#fields(FrameType.start, this.#end));
    this.#spare!.write(0, frame);
    const used = frame.length + frameHeaderBytes;
    index.segments.push({
      sequence,
      path: `${this.#directory}/${segmentName(sequence)}`,
      file: this.#spare!,
      position: this.#end,
      baseIndex: index.lastIndex,
      baseTerm: index.lastTerm,
      lowestIndex: Number.POSITIVE_INFINITY,
      slotAt: frame.length,
      used,
      allocated: Math.max(this.#segmentBytes, used),
      firstIndex: 0,
      offsets: [],
    });
    this.#spare = undefined;
    this.#prepareAgainAt = 0;
    this.#end += used;
    this.#chain = chain;
    this.#startChain = chain;
  }

  /** Makes the file of the next segment, so that a full disk is met here and not under a write. */
  async #prepare(): Promise<void> {
    const path = `${this.#directory}/${segmentName(this.#active.sequence + 1)}`;
    const file = this.#disk.open(path, "create");
    try {
      file.allocate(this.#segmentBytes);
      await file.sync();
      await this.#disk.syncDirectoryLater(this.#directory);
    } catch (error) {
      file.close();
      if (isFull(error)) this.#disk.remove(path);
      throw error;
    }
    this.#spare = file;
  }

  async #prepareAhead(): Promise<void> {
    const { used } = this.#active;
    if (this.#spare !== undefined || used < this.#segmentBytes / 2 || used < this.#prepareAgainAt) return;
    try {
      await this.#prepare();
    } catch (error) {
      if (!isFull(error)) return this.#fail(error);
      this.#prepareAgainAt = used + this.#segmentBytes / 16;
      this.#observer.preparationFailed?.(fullError(error));
    }
  }

  #refusePending(error: LogFullError): void {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#builder.clear();
    this.#full = error;
    pending?.done.reject(error);
  }

  /** Ends the use of this log: nobody knows what is on disk until the next start looks. */
  #fail(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const failed = new LogFailedError(`writing the log failed, so the process has to end: ${reason}`, {
      cause,
    });
    this.#failed ??= failed;
    for (const frame of [this.#flying, this.#pending]) frame?.done.reject(this.#failed);
    this.#flying = undefined;
    this.#pending = undefined;
    this.#builder.clear();
  }

  term(index: LogIndex): Term | undefined {
    const pending = this.#pending;
    if (pending !== undefined) {
      const { base, firstIndex, offsets, terms } = pending;
      if (offsets.length > 0 && index >= firstIndex) return terms[index - firstIndex];
      if (base !== undefined) return index === base.index ? base.term : undefined;
    }
    return this.#index.term(index);
  }

  read(low: LogIndex, high: LogIndex, bytesMax: number): Entry[] {
    const end = Math.min(high, this.lastIndex + 1);
    assert(
      low >= this.firstIndex,
      () => `entry ${low} was asked for, but the log begins at ${this.firstIndex}`,
    );
    const entries: Entry[] = [];
    let total = 0;
    let segment: Segment | undefined;
    let chunk = { from: 0, bytes: new Uint8Array(0), view: viewOf(new Uint8Array(0)) };
    const pendingFrom =
      this.#pending !== undefined && this.#pending.offsets.length > 0
        ? this.#pending.firstIndex
        : Number.POSITIVE_INFINITY;
    for (let index = low; index < end && (total < bytesMax || entries.length === 0); index++) {
      if (index >= pendingFrom) {
        const entry = this.#readPending(index);
        entries.push(entry);
        total += entry.data.length;
        continue;
      }
      const holder = this.#index.segmentOf(index);
      const offset = holder.offsets[index - holder.firstIndex]!;
      const load = (length: number) => {
        const bytes = holder.file.read(
          offset,
          Math.min(length, holder.used - offset),
        ) as Uint8Array<ArrayBuffer>;
        chunk = { from: offset, bytes, view: viewOf(bytes) };
        segment = holder;
      };
      const has = (length: number) =>
        segment === holder && offset >= chunk.from && offset + length <= chunk.from + chunk.bytes.length;
      if (!has(recordHeaderBytes)) {
        load(Math.min(readChunkBytes, Math.max(4096, bytesMax - total)));
      }
      if (chunk.bytes.length - (offset - chunk.from) >= recordHeaderBytes) {
        const length = recordLength(chunk.view, offset - chunk.from);
        if (!has(length)) load(length);
      }
      const record = readRecord(chunk.bytes, chunk.view, offset - chunk.from);
      const entry = record && entryOf(record);
      if (entry === undefined || entry.index !== index || entry.term !== this.#index.term(index)) {
        throw new LogDamagedError(holder.path, offset, `entry ${index} is not there as it was written`);
      }
      entries.push(entry);
      total += entry.data.length;
    }
    return entries;
  }

  /** An entry that has not reached its file yet. */
  #readPending(index: LogIndex): Entry {
    const { firstIndex, offsets } = this.#pending!;
    const at = index - firstIndex;
    const from = offsets[at]!;
    const header = this.#builder.bytes(from, recordHeaderBytes);
    const bytes = this.#builder.bytes(from, recordLength(viewOf(header), 0));
    const record = readRecord(bytes, viewOf(bytes), 0);
    const entry = record && entryOf(record);
    assert(entry?.index === index, () => `entry ${index} is not in the buffer as it was put there`);
    return entry;
  }

  /** The newest entries that fit into so many bytes. */
  tail(bytesMax: number): Entry[] {
    let first = this.lastIndex + 1;
    let total = 0;
    while (first >= this.firstIndex + 1) {
      const segment = this.#index.segmentOf(first - 1);
      const at = first - 1 - segment.firstIndex;
      // Up to the next record, or the file's used end: never less than the entry takes.
      total += (segment.offsets[at + 1] ?? segment.used) - segment.offsets[at]!;
      if (total > bytesMax) break;
      first--;
    }
    return first > this.lastIndex ? [] : this.read(first, this.lastIndex + 1, Number.POSITIVE_INFINITY);
  }

  async cut(index: LogIndex): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    assert(index <= this.lastIndex, () => `the log ends at ${this.lastIndex} and cannot be cut at ${index}`);
    if (this.#snapshot !== undefined && this.#snapshot.index <= index) this.#snapshot = undefined;
    const count = this.#index.removable(index);
    // What the next segment repeats of these must be on disk before they go.
    if (count === 0 || this.#index.segments[count]!.position >= this.#synced) return;
    const removed = this.#index.removeOldest(count);
    for (const { file } of removed) file.close();
    try {
      await removeInOrder(
        this.#directory,
        this.#disk,
        removed.map(({ path }) => path),
      );
    } catch (error) {
      this.#fail(error);
      throw this.#failed;
    }
  }

  /** Writes down, where a restart looks first, that all there is is on disk. */
  async claimSynced(): Promise<void> {
    const segment = this.#active;
    if (this.#synced === this.#end) this.#writeMarker();
    if (this.#synced !== this.#end && !(await this.#sync())) throw this.#failed;
    const { slotAt } = segment;
    this.#small.clear();
    const { frame } = this.#small.finish({
      type: FrameType.slot,
      life: this.#life,
      position: segment.position + slotAt,
      synced: this.#synced,
      previousChain: this.#startChain,
    });
    try {
      segment.file.write(slotAt, frame);
      await segment.file.sync();
    } catch (error) {
      this.#fail(error);
      throw this.#failed;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while (this.#pumping !== undefined) await this.#pumping;
    try {
      if (this.#failed === undefined) await this.claimSynced();
    } finally {
      for (const { file } of this.#index.segments) file.close();
      this.#spare?.close();
    }
  }
}
