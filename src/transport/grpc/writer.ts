/**
 * Puts answers onto a stream. A small one is a single write. A large one goes out in slices, the next when the
 * last has left: the runtime would otherwise join everything queued into one buffer, which stalls the loop and
 * doubles the memory.
 */
import type { ServerHttp2Stream } from "node:http2";
import { frame, framePrefix } from "./frames";

/** Up to here an answer is copied into one buffer and written at once. */
const smallBytes = 64 * 1024;
const sliceBytes = 128 * 1024;
/** Slices while the budget is used up: everybody still moves, nobody holds much. */
const sliceBytesWhenShort = 16 * 1024;

/** Bytes of large answers that were handed to HTTP/2 and have not left. */
export class ResponseBudget {
  inFlight = 0;
  constructor(readonly bytesMax: number) {}

  sliceBytes(): number {
    return this.inFlight < this.bytesMax ? sliceBytes : sliceBytesWhenShort;
  }
}

export class AnswerWriter {
  readonly #stream: ServerHttp2Stream;
  readonly #budget: ResponseBudget;
  /** Chunks of large messages, and whatever came after them. */
  #queue: Uint8Array[] = [];
  #next = 0;
  #offset = 0;
  #writing = false;
  /** Bytes of the slice that is on its way. */
  #handedOver = 0;
  #over = false;
  #listening = false;
  #waiting: (() => void)[] = [];
  #whenEmpty: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, budget: ResponseBudget) {
    this.#stream = stream;
    this.#budget = budget;
  }

  /** Queues one message; false means that the client does not keep up. */
  send(chunks: readonly Uint8Array[], totalBytes: number): boolean {
    if (this.#over) return true;
    const direct = this.#queue.length === 0 && !this.#writing;
    if (direct && totalBytes <= smallBytes) {
      if (this.#stream.write(frame(chunks, totalBytes))) return true;
      this.#listen();
      return false;
    }
    if (totalBytes <= smallBytes) {
      this.#queue.push(frame(chunks, totalBytes));
    } else {
      this.#queue.push(framePrefix(totalBytes));
      for (const chunk of chunks) if (chunk.length > 0) this.#queue.push(chunk);
    }
    this.#pump();
    return this.#queue.length === 0 && !this.#stream.writableNeedDrain;
  }

  /** Resolves when there is room again, or the stream is over. */
  drained(): Promise<void> {
    if (this.#over || (this.#queue.length === 0 && !this.#stream.writableNeedDrain)) return Promise.resolve();
    this.#listen();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Calls back when everything queued was handed on. */
  finish(done: () => void): void {
    if (this.#queue.length === 0 && !this.#writing) done();
    else this.#whenEmpty = done;
  }

  /** The stream is over: nothing more is written, and whoever waits goes on. */
  close(): void {
    this.#over = true;
    this.#queue = [];
    this.#release();
    this.#whenEmpty = undefined;
    this.#wake();
  }

  #release(): void {
    this.#budget.inFlight -= this.#handedOver;
    this.#handedOver = 0;
    this.#writing = false;
  }

  #listen(): void {
    if (this.#listening) return;
    this.#listening = true;
    this.#stream.on("drain", () => {
      if (this.#queue.length === 0) this.#wake();
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #pump(): void {
    if (this.#writing || this.#over) return;
    if (this.#queue.length === 0) {
      const done = this.#whenEmpty;
      this.#whenEmpty = undefined;
      this.#wake();
      done?.();
      return;
    }
    const slice = this.#slice(this.#budget.sliceBytes());
    this.#writing = true;
    this.#handedOver = slice.length;
    this.#budget.inFlight += slice.length;
    this.#stream.write(slice, () => {
      this.#release();
      this.#pump();
    });
  }

  /** Takes up to `bytes` off the queue: part of a long chunk as it lies, or short ones joined. */
  #slice(bytes: number): Uint8Array {
    const first = this.#queue[this.#next]!;
    const rest = first.length - this.#offset;
    if (rest >= bytes || this.#next === this.#queue.length - 1) {
      const end = Math.min(this.#offset + bytes, first.length);
      const slice = first.subarray(this.#offset, end);
      this.#offset = end;
      if (end === first.length) this.#advance();
      return slice;
    }
    const slice = Buffer.allocUnsafe(bytes);
    let filled = 0;
    while (filled < bytes && this.#queue.length > 0) {
      const chunk = this.#queue[this.#next]!;
      const end = Math.min(chunk.length, this.#offset + bytes - filled);
      slice.set(chunk.subarray(this.#offset, end), filled);
      filled += end - this.#offset;
      this.#offset = end;
      if (end === chunk.length) this.#advance();
    }
    return slice.subarray(0, filled);
  }

  #advance(): void {
    this.#offset = 0;
    this.#next++;
    if (this.#next === this.#queue.length) {
      this.#queue = [];
      this.#next = 0;
    } else if (this.#next >= 4096) {
      // Let go of what was sent; a large answer has many chunks.
      this.#queue.splice(0, this.#next);
      this.#next = 0;
    }
  }
}
