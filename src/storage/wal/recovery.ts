/**
 * Reads a log back after a restart, and tells a tail that was never synced (cut it) from damage (refuse).
 * The rule: whatever lies below a position that an intact frame calls synced was on disk once.
 */
import type { HardState } from "../../consensus/types";
import type { LogIndex, Term } from "../../ids";
import type { Disk, DiskFile } from "../../member/ports";
import { EntryIndex } from "./entry-index";
import { LogDamagedError, LogVersionError } from "./errors";
import {
  entryOf,
  formatVersion,
  frameAlignment,
  type FrameHeader,
  frameHeaderBytes,
  frameIsIntact,
  frameMagic,
  FrameType,
  hardStateOf,
  readFrameHeader,
  readRecord,
  readSegmentStart,
  RecordType,
  segmentStartBytes,
  snapshotOf,
  viewOf,
} from "./format";
import { type Segment, segmentName, segmentSequence } from "./segment";
import type { LogBatch, LogIdentity } from "./types";

/** A place between two frames of the newest segment, and what the log held there. */
export interface Boundary {
  /** In the log as a whole, and in the segment's file. */
  readonly position: number;
  readonly offset: number;
  readonly chain: bigint;
  readonly hardState: HardState;
  readonly snapshot: LogBatch["snapshot"];
  readonly lastIndex: LogIndex;
  readonly lastTerm: Term;
  /** The frame that ends here; none at the start of a segment. */
  readonly frame: { readonly type: number; readonly offset: number; readonly bytes: number } | undefined;
}

export interface Scan {
  readonly identity: LogIdentity;
  readonly index: EntryIndex;
  readonly hardState: HardState;
  readonly snapshot: LogBatch["snapshot"];
  /** The last intact frame's chain and life. */
  readonly chain: bigint;
  readonly life: number;
  /** Where the last intact frame ends in the log as a whole. */
  readonly end: number;
  /** Up to where the log is known to be on disk, and the intact frames of which that is not known. */
  readonly certain: Boundary;
  readonly uncertain: readonly Boundary[];
  /** Chain of the first frame of the newest segment, to which its slot is tied. */
  readonly startChain: bigint;
  /** What follows the last intact frame in its file, if not only zeros: bytes up to the last that is not. */
  readonly garbageBytes: number;
  /** Files of segments that a cut, stopped half-way, meant to remove; oldest first. */
  readonly obsolete: readonly string[];
  /** A file that was prepared as the next segment, or that a power cut kept from becoming it. */
  readonly spare: { readonly path: string; readonly garbageBytes: number } | undefined;
}

const windowBytes = 1024 ** 2;
const zeros = new Uint8Array(windowBytes);

/** Reads a file through a window, so that small frames cost no read each and large files no memory. */
class WindowReader {
  #window = new Uint8Array(0);
  #view = viewOf(this.#window);
  #from = 0;
  readonly size: number;

  constructor(
    readonly file: DiskFile,
    readonly path: string,
  ) {
    this.size = file.size();
  }

  /** Up to `length` bytes at `offset`, as a view that is never overwritten. */
  bytes(offset: number, length: number): Uint8Array {
    const wanted = Math.min(length, this.size - offset);
    if (offset < this.#from || offset + wanted > this.#from + this.#window.length) {
      this.#window = this.file.read(offset, Math.max(windowBytes, wanted)) as Uint8Array<ArrayBuffer>;
      this.#view = viewOf(this.#window);
      this.#from = offset;
    }
    return this.#window.subarray(offset - this.#from, offset - this.#from + wanted);
  }

  header(offset: number): FrameHeader | undefined {
    if (offset + frameHeaderBytes > this.size) return undefined;
    this.bytes(offset, frameHeaderBytes);
    const header = readFrameHeader(this.#window, this.#view, offset - this.#from);
    if (header !== undefined && header.version > formatVersion) {
      throw new LogVersionError(
        `the log file ${this.path} has format version ${header.version} at byte ${offset}, and this build reads ` +
          `up to ${formatVersion}: start the version that wrote it, or a newer one`,
      );
    }
    return header;
  }

  /** The body of an intact frame. */
  body(offset: number, header: FrameHeader): Uint8Array | undefined {
    const frame = this.bytes(offset, frameHeaderBytes + header.bodyLength);
    return frameIsIntact(frame, header) ? frame.subarray(frameHeaderBytes) : undefined;
  }
}

/** What a search through bytes that are not a valid continuation found. */
interface Leftovers {
  /** The highest position that an intact header there calls synced. */
  readonly synced: number;
  /** How far they reach: the last byte that is not zero, counted from the start of the search. */
  readonly bytes: number;
}

function searchLeftovers(reader: WindowReader, from: number, segmentPosition: number): Leftovers {
  let synced = 0;
  let end = from;
  let skipTo = from;
  for (let at = from; at < reader.size; at += windowBytes) {
    const window = reader.file.read(at, windowBytes);
    // Preallocated space is most of what there is to search.
    if (Buffer.compare(window, zeros.subarray(0, window.length)) === 0) continue;
    for (let i = 0; i < window.length; i++) {
      if (window[i] === 0) continue;
      end = at + i + 1;
      const offset = at + i;
      if (window[i] !== (frameMagic & 0xff) || offset % frameAlignment !== 0 || offset < skipTo) continue;
      const header = reader.header(offset);
      if (header === undefined || header.position !== segmentPosition + offset) continue;
      synced = Math.max(synced, header.synced);
      // Client data inside the frame is no place to look for headers.
      skipTo = offset + frameHeaderBytes + header.bodyLength;
    }
  }
  return { synced, bytes: end - from };
}

/**
 * The oldest segment cannot begin the log, because entries before its base were rewritten later: a cut that was
 * removing it, too, was stopped half-way.
 */
class NotFirstSignal extends Error {
  override readonly name = "NotFirstSignal";
}

class Scanner {
  #index: EntryIndex | undefined;
  #identity: LogIdentity | undefined;
  #hardState: HardState = { term: 0, vote: 0n, commit: 0 };
  #snapshot: LogBatch["snapshot"];
  #chain = 0n;
  #startChain = 0n;
  #life = 0;
  #end = 0;
  #synced = 0;
  #slotSynced = 0;
  #allocatedBytes = 0;
  /** The last boundary known to be synced, and those after it. */
  #tail: Boundary[] = [];

  /** The file's first frame, when it is an intact one that begins a segment. */
  #start(reader: WindowReader): { header: FrameHeader; body: Uint8Array } | undefined {
    const header = reader.header(0);
    if (header === undefined || header.type !== FrameType.start) return undefined;
    const body = reader.body(0, header);
    return body === undefined || body.length < segmentStartBytes ? undefined : { header, body };
  }

  scan(directory: string, disk: Disk, sequences: readonly number[]): Scan {
    const opened: DiskFile[] = [];
    try {
      const files = sequences.map((sequence, i) => {
        const path = `${directory}/${segmentName(sequence)}`;
        if (sequence !== sequences[0]! + i) {
          const missing = `${directory}/${segmentName(sequences[0]! + i)}`;
          throw new LogDamagedError(missing, 0, "the file is missing, but later ones are there");
        }
        const file = disk.open(path, "open");
        opened.push(file);
        const reader = new WindowReader(file, path);
        return { sequence, reader, start: this.#start(reader) };
      });
      const spare = files.at(-1)!.start === undefined && files.length > 1 ? files.pop()!.reader : undefined;
      for (const [i, { sequence, reader, start }] of files.entries()) {
        if (start === undefined) {
          throw new LogDamagedError(reader.path, 0, "its first frame is not what was written");
        }
        this.#begin(reader, sequence, start.header, start.body);
        // A restart may have written the end of a segment anew into the next one: that counts.
        this.#walk(reader, files[i + 1]?.start?.header.position ?? Number.POSITIVE_INFINITY);
      }
      const last = files.at(-1)!.reader;
      const scan = this.#finish(last, spare);
      spare?.file.close();
      return scan;
    } catch (error) {
      for (const file of opened) file.close();
      throw error;
    }
  }

  #begin(reader: WindowReader, sequence: number, header: FrameHeader, body: Uint8Array): void {
    const start = readSegmentStart(body);
    const previous = this.#index?.segments.at(-1);
    if (start.sequence !== sequence) {
      throw new LogDamagedError(
        reader.path,
        0,
        `it holds segment ${start.sequence}, but is named like segment ${sequence}`,
      );
    }
    if (previous !== undefined && (header.position !== this.#end || header.previousChain !== this.#chain)) {
      throw new LogDamagedError(
        previous.path,
        previous.used,
        `the bytes there were on disk when ${reader.path} was begun, and are not what was written`,
      );
    }
    this.#allocatedBytes = start.allocatedBytes;
    if (this.#identity === undefined) {
      this.#identity = start.identity;
      this.#index = new EntryIndex({ index: start.baseIndex, term: start.baseTerm });
    }
    const used = frameHeaderBytes + header.bodyLength;
    const segment: Segment = {
      sequence,
      path: reader.path,
      file: reader.file,
      position: header.position,
      baseIndex: start.baseIndex,
      baseTerm: start.baseTerm,
      lowestIndex: Number.POSITIVE_INFINITY,
      slotAt: used,
      used,
      allocated: reader.size,
      firstIndex: 0,
      offsets: [],
    };
    this.#index!.segments.push(segment);
    this.#readState(body);
    this.#tail = [this.#boundary(header.position, 0, header.previousChain, start.baseIndex, start.baseTerm)];
    this.#accept(header, used);
    this.#startChain = header.chain;
    // The slot behind the first frame is rewritten in place, so it is no link of the chain.
    const slot = reader.header(used);
    if (
      slot?.type === FrameType.slot &&
      slot.position === header.position + used &&
      slot.previousChain === header.chain
    ) {
      this.#slotSynced = slot.synced;
    }
    segment.used += frameHeaderBytes;
    this.#end += frameHeaderBytes;
    this.#advance({ type: FrameType.start, offset: 0, bytes: used });
  }

  #boundary(
    position: number,
    offset: number,
    chain: bigint,
    lastIndex: LogIndex,
    lastTerm: Term,
    frame?: Boundary["frame"],
  ): Boundary {
    return {
      position,
      offset,
      chain,
      hardState: this.#hardState,
      snapshot: this.#snapshot,
      lastIndex,
      lastTerm,
      frame,
    };
  }

  /** Notes the boundary behind a frame, and drops those that something behind them vouches for. */
  #advance(frame: NonNullable<Boundary["frame"]>): void {
    const { lastIndex, lastTerm, segments } = this.#index!;
    this.#tail.push(
      this.#boundary(this.#end, segments.at(-1)!.used, this.#chain, lastIndex, lastTerm, frame),
    );
    this.#vouch(this.#synced);
  }

  #vouch(synced: number): void {
    while (this.#tail.length > 1 && this.#tail[1]!.position <= synced) this.#tail.shift();
  }

  #accept(header: FrameHeader, frameBytes: number): void {
    this.#chain = header.chain;
    this.#life = header.life;
    this.#end = header.position + frameBytes;
    this.#synced = Math.max(this.#synced, header.synced);
  }

  /** The state that a segment's first frame repeats, so that older segments can go. */
  #readState(body: Uint8Array): void {
    const view = viewOf(body);
    for (let at = segmentStartBytes; ;) {
      const record = readRecord(body, view, at);
      if (record === undefined) break;
      if (record.type === RecordType.hardState) this.#hardState = hardStateOf(record);
      if (record.type === RecordType.snapshot) this.#snapshot = snapshotOf(record);
      at += record.length;
    }
  }

  /** Takes frames as long as each continues the one before. */
  #walk(reader: WindowReader, limit: number): void {
    const segment = this.#index!.segments.at(-1)!;
    while (this.#end < limit) {
      const header = reader.header(segment.used);
      if (
        header === undefined ||
        header.position !== this.#end ||
        header.previousChain !== this.#chain ||
        (header.type !== FrameType.batch && header.type !== FrameType.marker)
      ) {
        return;
      }
      const body = reader.body(segment.used, header);
      if (body === undefined) return;
      this.#replay(segment, body);
      const frame = { type: header.type, offset: segment.used, bytes: frameHeaderBytes + body.length };
      segment.used += frame.bytes;
      this.#accept(header, frame.bytes);
      this.#advance(frame);
    }
  }

  #replay(segment: Segment, body: Uint8Array): void {
    const view = viewOf(body);
    const index = this.#index!;
    const bodyAt = segment.used + frameHeaderBytes;
    for (let at = 0; at + frameAlignment <= body.length;) {
      const record = readRecord(body, view, at);
      if (record === undefined) {
        throw new LogDamagedError(segment.path, bodyAt + at, "a record does not match its checksum");
      }
      if (entryOf(record) !== undefined) {
        if (record.index <= index.start.index) throw new NotFirstSignal();
        index.put(segment, record.index, record.term, bodyAt + at);
      } else if (record.type === RecordType.hardState) {
        this.#hardState = hardStateOf(record);
      } else if (record.type === RecordType.snapshot) {
        this.#snapshot = snapshotOf(record);
        if (!index.keepsEntries(record.index, record.term)) index.reset(segment, record.index, record.term);
      } else {
        throw new LogDamagedError(segment.path, bodyAt + at, `a record has the unknown type ${record.type}`);
      }
      at += record.length;
    }
  }

  /** Judges what lies behind the last frame that could be taken. */
  #finish(last: WindowReader, spare: WindowReader | undefined): Scan {
    const index = this.#index!;
    const segment = index.segments.at(-1)!;
    const leftovers = searchLeftovers(last, segment.used, segment.position);
    const inSpare = spare === undefined ? undefined : searchLeftovers(spare, 0, this.#end);
    const covered = Math.max(this.#synced, this.#slotSynced, leftovers.synced, inSpare?.synced ?? 0);
    if (covered > this.#end) {
      throw new LogDamagedError(
        segment.path,
        segment.used,
        `${covered - this.#end} bytes from there on were on disk, and are not what was written`,
      );
    }
    if (last.size < this.#allocatedBytes) {
      throw new LogDamagedError(
        last.path,
        last.size,
        `the file ends there, but it was made ${this.#allocatedBytes} bytes long`,
      );
    }
    this.#vouch(covered);
    const certain = this.#tail[0]!;
    return {
      identity: this.#identity!,
      index,
      hardState: this.#hardState,
      snapshot: this.#snapshot,
      chain: this.#chain,
      startChain: this.#startChain,
      life: this.#life,
      end: this.#end,
      certain,
      uncertain: this.#tail.slice(1),
      garbageBytes: leftovers.bytes,
      obsolete: [],
      spare: spare && { path: spare.path, garbageBytes: inSpare?.bytes ?? 0 },
    };
  }
}

/**
 * Reads all segments of a log; changes nothing. The segments' files stay open.
 * @throws LogDamagedError, LogVersionError
 */
export function scanLog(directory: string, disk: Disk): Scan {
  const sequences = disk
    .list(directory)
    .flatMap((name) => segmentSequence(name) ?? [])
    .sort((a, b) => a - b);
  if (sequences.length === 0) throw new Error(`there is no log in ${directory}`);
  for (let first = 0; ; first++) {
    try {
      const scan = new Scanner().scan(directory, disk, sequences.slice(first));
      return {
        ...scan,
        obsolete: sequences.slice(0, first).map((sequence) => `${directory}/${segmentName(sequence)}`),
      };
    } catch (error) {
      if (!(error instanceof NotFirstSignal)) throw error;
      if (first === sequences.length - 1) {
        const file = `${directory}/${segmentName(sequences[first]!)}`;
        throw new LogDamagedError(file, 0, "the segments before it are missing");
      }
    }
  }
}
