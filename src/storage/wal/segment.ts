/** One segment file of the log, and where in it the live entries lie. */
import type { LogIndex, Term } from "../../ids";
import type { DiskFile } from "../../member/ports";

export interface Segment {
  readonly sequence: number;
  readonly path: string;
  readonly file: DiskFile;
  /** Where its first byte lies in the log as a whole. */
  readonly position: number;
  /** The last entry before this segment. */
  readonly baseIndex: LogIndex;
  readonly baseTerm: Term;
  /** The lowest index that was written here; entries from there on in older segments are dead. */
  lowestIndex: LogIndex;
  /** Where the slot is that says, without being a link of the chain, what is synced: behind the first frame. */
  readonly slotAt: number;
  /** Bytes in use. */
  used: number;
  /** Bytes the file has. */
  allocated: number;
  /** Where in the file the live entries' records begin, from `firstIndex` on. Ascending. */
  firstIndex: LogIndex;
  offsets: number[];
}

const extension = ".wal";
const startRoomBytesMax = 32 * 1024;

/**
 * Bytes at the end of a segment that only the first frames of a life may use: what a member has to write down
 * before it can do anything after a start, its vote and the first entries of a term. So a start on a full disk still
 * leads to a member that reads, deletes and compacts.
 */
export function startRoomBytes(segmentBytes: number): number {
  return Math.min(startRoomBytesMax, segmentBytes >> 6);
}

/** The name of a segment file, so that names sort like sequences. */
export function segmentName(sequence: number): string {
  return sequence.toString(16).padStart(16, "0") + extension;
}

/** The inverse of {@link segmentName}; undefined for other files. */
export function segmentSequence(name: string): number | undefined {
  return /^[0-9a-f]{16}\.wal$/.test(name) ? Number.parseInt(name.slice(0, -extension.length), 16) : undefined;
}
