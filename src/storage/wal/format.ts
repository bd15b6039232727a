/**
 * How bytes lie in a segment file. A file is a sequence of frames; each frame is one write and holds records.
 * README.md draws it. All numbers are little-endian.
 */
import { assert } from "../../assert";
import type { Entry, EntryKind, HardState } from "../../consensus/types";
import type { MemberId } from "../../ids";
import { open, sealInto, sealOverheadBytes } from "../seal";
import type { LogBatch, LogIdentity } from "./types";

export const formatVersion = 1;

export const FrameType = { start: 1, batch: 2, marker: 3, slot: 4 } as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

/** What stands in front of each frame's body. */
export interface FrameHeader {
  readonly version: number;
  readonly type: number;
  readonly bodyLength: number;
  /** Which opening of the log wrote it: 1 for its creation. */
  readonly life: number;
  /** Where the frame begins, counted over all segments since the log began. */
  readonly position: number;
  /** Everything below this position was on disk when the frame was written. */
  readonly synced: number;
  readonly previousChain: bigint;
  readonly bodyChecksum: bigint;
  readonly chain: bigint;
}

/** "KLOG" */
export const frameMagic = 0x474f4c4b;
export const frameHeaderBytes = 64;
/** Frames begin at multiples of this, so that a search for them can take steps. */
export const frameAlignment = 8;
const chainedHeaderBytes = 48;
const checkedHeaderBytes = 56;

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function setCounter(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

function getCounter(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
}

/*
 * The checksum that ties a frame to all frames before it covers its place, its claims, its body's checksum and
 * the previous frame's chain. A frame that is stale, misplaced or from another log has another past and never
 * fits. (The previous chain is hashed as data: the runtime's xxHash3 uses only 32 bits of a seed.)
 */

export interface FrameFields {
  readonly type: FrameType;
  readonly life: number;
  readonly position: number;
  readonly synced: number;
  readonly previousChain: bigint;
}

/**
 * Completes a frame whose body stands behind the room for its header, padded to the alignment; returns the
 * chain that the next frame continues.
 */
export function sealFrame(frame: Uint8Array, view: DataView, fields: FrameFields): bigint {
  assert(frame.length % frameAlignment === 0, "a frame has a length that is no multiple of its alignment");
  view.setUint32(0, frameMagic, true);
  view.setUint8(4, formatVersion);
  view.setUint8(5, fields.type);
  view.setUint16(6, 0, true);
  view.setUint32(8, frame.length - frameHeaderBytes, true);
  view.setUint32(12, fields.life, true);
  setCounter(view, 16, fields.position);
  setCounter(view, 24, fields.synced);
  view.setBigUint64(32, fields.previousChain, true);
  view.setBigUint64(40, Bun.hash.xxHash3(frame.subarray(frameHeaderBytes)), true);
  const chain = Bun.hash.xxHash3(frame.subarray(0, chainedHeaderBytes));
  view.setBigUint64(48, chain, true);
  view.setUint32(56, Bun.hash.crc32(frame.subarray(0, checkedHeaderBytes)), true);
  view.setUint32(60, 0, true);
  return chain;
}

/** The header that stands at `offset`, or undefined when the bytes there are none. */
export function readFrameHeader(bytes: Uint8Array, view: DataView, offset: number): FrameHeader | undefined {
  if (bytes.length - offset < frameHeaderBytes) return undefined;
  if (view.getUint32(offset, true) !== frameMagic) return undefined;
  const check = Bun.hash.crc32(bytes.subarray(offset, offset + checkedHeaderBytes));
  if (check !== view.getUint32(offset + 56, true)) return undefined;
  return {
    version: view.getUint8(offset + 4),
    type: view.getUint8(offset + 5),
    bodyLength: view.getUint32(offset + 8, true),
    life: view.getUint32(offset + 12, true),
    position: getCounter(view, offset + 16),
    synced: getCounter(view, offset + 24),
    previousChain: view.getBigUint64(offset + 32, true),
    bodyChecksum: view.getBigUint64(offset + 40, true),
    chain: view.getBigUint64(offset + 48, true),
  };
}

/** Whether a frame, header and body, is what was written. */
export function frameIsIntact(frame: Uint8Array, header: FrameHeader): boolean {
  return (
    frame.length === frameHeaderBytes + header.bodyLength &&
    Bun.hash.xxHash3(frame.subarray(0, chainedHeaderBytes)) === header.chain &&
    Bun.hash.xxHash3(frame.subarray(frameHeaderBytes)) === header.bodyChecksum
  );
}

export const RecordType = { command: 1, configuration: 2, hardState: 3, snapshot: 4 } as const;

/** What stands in front of each record's payload: checksum, length, type, term, index. */
export const recordHeaderBytes = 28;
const recordTypeOfKind: Record<EntryKind, number> = {
  command: RecordType.command,
  configuration: RecordType.configuration,
};

/** One record as it lies in a body; `payload` is a view. */
export interface LogRecord {
  readonly type: number;
  readonly term: number;
  readonly index: number;
  readonly payload: Uint8Array;
  /** Header and payload, in bytes. */
  readonly length: number;
}

/** A growing buffer that one frame after the other is built in. */
export class FrameBuilder {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  length = frameHeaderBytes;
  readonly #shrinkAboveBytes: number;

  constructor(initialBytes = 256 * 1024, shrinkAboveBytes = 8 * 1024 ** 2) {
    this.#bytes = new Uint8Array(initialBytes);
    this.#view = viewOf(this.#bytes);
    this.#shrinkAboveBytes = shrinkAboveBytes;
  }

  get isEmpty(): boolean {
    return this.length === frameHeaderBytes;
  }

  /** Starts the next frame; gives an outsized buffer back. */
  clear(): void {
    this.length = frameHeaderBytes;
    if (this.#bytes.length <= this.#shrinkAboveBytes) return;
    this.#bytes = new Uint8Array(this.#shrinkAboveBytes);
    this.#view = viewOf(this.#bytes);
  }

  /** Takes back everything behind `length`, which was the builder's length before. */
  truncate(length: number): void {
    this.length = length;
  }

  #reserve(more: number): void {
    const needed = this.length + more + frameAlignment;
    if (needed <= this.#bytes.length) return;
    assert(needed < 2 ** 31, "a frame of the log exceeds 2 GiB");
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
    this.#view = viewOf(grown);
  }

  #finishRecord(start: number, type: number, term: number, index: number, end: number): void {
    const view = this.#view;
    view.setUint32(start + 4, end - start - recordHeaderBytes, true);
    view.setUint32(start + 8, type, true);
    setCounter(view, start + 12, term);
    setCounter(view, start + 20, index);
    view.setUint32(start, Bun.hash.crc32(this.#bytes.subarray(start + 4, end)), true);
    this.length = end;
  }

  /** Appends an entry; returns where its record begins in the frame. */
  entry(entry: Entry): number {
    const start = this.length;
    this.#reserve(recordHeaderBytes + entry.data.length + sealOverheadBytes);
    const end = sealInto(this.#bytes, start + recordHeaderBytes, entry.data);
    this.#finishRecord(start, recordTypeOfKind[entry.kind], entry.term, entry.index, end);
    return start;
  }

  hardState(state: HardState): void {
    const start = this.length;
    this.#reserve(recordHeaderBytes + 8);
    this.#view.setBigUint64(start + recordHeaderBytes, state.vote, true);
    this.#finishRecord(start, RecordType.hardState, state.term, state.commit, start + recordHeaderBytes + 8);
  }

  snapshot(snapshot: NonNullable<LogBatch["snapshot"]>): void {
    const { voters, learners } = snapshot.configuration;
    const start = this.length;
    const payloadBytes = 12 + 8 * (voters.length + learners.length) + snapshot.digest.length;
    this.#reserve(recordHeaderBytes + payloadBytes);
    const view = this.#view;
    let at = start + recordHeaderBytes;
    view.setUint32(at, voters.length, true);
    view.setUint32(at + 4, learners.length, true);
    view.setUint32(at + 8, snapshot.digest.length, true);
    at += 12;
    for (const id of [...voters, ...learners]) {
      view.setBigUint64(at, id, true);
      at += 8;
    }
    this.#bytes.set(snapshot.digest, at);
    this.#finishRecord(
      start,
      RecordType.snapshot,
      snapshot.term,
      snapshot.index,
      at + snapshot.digest.length,
    );
  }

  /** The fixed part of a segment's first frame; records with the state at that point follow it. */
  start(segment: SegmentStart): void {
    assert(this.isEmpty, "a segment's description is not first in its frame");
    this.#reserve(segmentStartBytes);
    const view = this.#view;
    const at = this.length;
    view.setBigUint64(at, segment.identity.clusterId, true);
    view.setBigUint64(at + 8, segment.identity.memberId, true);
    setCounter(view, at + 16, segment.sequence);
    setCounter(view, at + 24, segment.baseIndex);
    setCounter(view, at + 32, segment.baseTerm);
    setCounter(view, at + 40, segment.allocatedBytes);
    this.length += segmentStartBytes;
  }

  /** Bytes of the frame so far, for reading back what is not written yet. */
  bytes(offset: number, length: number): Uint8Array {
    return this.#bytes.slice(offset, Math.min(offset + length, this.length));
  }

  /** Pads and completes the frame; the bytes stay valid until the next change of the builder. */
  finish(fields: FrameFields): { readonly frame: Uint8Array; readonly chain: bigint } {
    this.#reserve(frameAlignment);
    while (this.length % frameAlignment !== 0) this.#bytes[this.length++] = 0;
    const frame = this.#bytes.subarray(0, this.length);
    return { frame, chain: sealFrame(frame, this.#view, fields) };
  }
}

/** What the first frame of a segment says besides its records. */
export interface SegmentStart {
  readonly identity: LogIdentity;
  readonly sequence: number;
  /** The last entry of the log before this segment. */
  readonly baseIndex: number;
  readonly baseTerm: number;
  /** The size that the file was given before anything was written to it; it never has a smaller one. */
  readonly allocatedBytes: number;
}

export const segmentStartBytes = 48;

export function readSegmentStart(body: Uint8Array): SegmentStart {
  assert(body.length >= segmentStartBytes, "a segment's first frame is too short");
  const view = viewOf(body);
  return {
    identity: { clusterId: view.getBigUint64(0, true), memberId: view.getBigUint64(8, true) },
    sequence: getCounter(view, 16),
    baseIndex: getCounter(view, 24),
    baseTerm: getCounter(view, 32),
    allocatedBytes: getCounter(view, 40),
  };
}

/** The record at `offset`, when all of it is there and its checksum fits. */
export function readRecord(bytes: Uint8Array, view: DataView, offset: number): LogRecord | undefined {
  const room = bytes.length - offset;
  if (room < recordHeaderBytes) return undefined;
  const length = recordHeaderBytes + view.getUint32(offset + 4, true);
  if (length > room) return undefined;
  if (Bun.hash.crc32(bytes.subarray(offset + 4, offset + length)) !== view.getUint32(offset, true)) {
    return undefined;
  }
  return {
    type: view.getUint32(offset + 8, true),
    term: getCounter(view, offset + 12),
    index: getCounter(view, offset + 20),
    payload: bytes.subarray(offset + recordHeaderBytes, offset + length),
    length,
  };
}

/** The length of a record from its header alone, unchecked. */
export function recordLength(view: DataView, offset: number): number {
  return recordHeaderBytes + view.getUint32(offset + 4, true);
}

/** Whether the record is an entry, and the entry: its data is a view of the record's bytes. */
export function entryOf(record: LogRecord): Entry | undefined {
  if (record.type !== RecordType.command && record.type !== RecordType.configuration) return undefined;
  return {
    term: record.term,
    index: record.index,
    kind: record.type === RecordType.command ? "command" : "configuration",
    data: open(record.payload),
  };
}

export function hardStateOf(record: LogRecord): HardState {
  return { term: record.term, vote: viewOf(record.payload).getBigUint64(0, true), commit: record.index };
}

export function snapshotOf(record: LogRecord): NonNullable<LogBatch["snapshot"]> {
  const view = viewOf(record.payload);
  const voterCount = view.getUint32(0, true);
  const learnerCount = view.getUint32(4, true);
  const ids = (from: number, count: number): MemberId[] =>
    Array.from({ length: count }, (_, i) => view.getBigUint64(12 + 8 * (from + i), true));
  const digestAt = 12 + 8 * (voterCount + learnerCount);
  return {
    index: record.index,
    term: record.term,
    configuration: { voters: ids(0, voterCount), learners: ids(voterCount, learnerCount) },
    digest: record.payload.slice(digestAt, digestAt + view.getUint32(8, true)),
  };
}
