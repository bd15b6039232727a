/**
 * What one connection sends: frames are appended to one buffer, which leaves with one write at the end of the turn.
 * A connection that sends nothing holds no buffer.
 */
import type { Duplex } from "node:stream";
import { atEndOfTurn, type TurnEnded } from "./end-of-turn";
import { frameBytesDefault, frameHeaderBytes, frameType, writeFrameHeader } from "./protocol";

const bufferBytes = 64 * 1024;
/** Buffers that wait for a connection that has something to send. */
const pooledMax = 64;
const pool: Buffer[] = [];
const none: Buffer = Buffer.alloc(0);

/** A connection's answers in memory, and per turn, while everybody reads what is sent. */
const highWaterBytes = 256 * 1024;
/** The same while the budget is used up: everybody still moves, nobody holds much. */
const highWaterBytesWhenShort = 16 * 1024;

/** Bytes that were given to sockets which do not take them at once, over all connections. */
export class OutputBudget {
  inFlight = 0;
  constructor(readonly bytesMax: number) {}

  /** How much one connection may hold. */
  highWaterBytes(): number {
    return this.inFlight < this.bytesMax ? highWaterBytes : highWaterBytesWhenShort;
  }
}

export class Output {
  buffer: Buffer = none;
  /** Where the next byte goes. */
  end = 0;
  /** The socket holds as much as it should. */
  blocked = false;
  /** Bytes of DATA since the last end of a turn. */
  turnBytes = 0;
  /** The last DATA frame that may still grow; 0 = none. */
  #dataId = 0;
  #dataAt = 0;
  #dataBytes = 0;
  #due = false;
  #handedOver = 0;
  #ended = false;

  constructor(
    readonly socket: Duplex,
    readonly budget: OutputBudget,
    readonly owner: TurnEnded,
  ) {}

  /** Whether another DATA frame may be put into the buffer now. */
  hasRoom(): boolean {
    const highWater = this.budget.highWaterBytes();
    return this.end < highWater && this.turnBytes < highWater;
  }

  /** Asks for the owner's `turnEnded`. */
  schedule(): void {
    if (this.#due) return;
    this.#due = true;
    atEndOfTurn(this.owner);
  }

  /** Makes room for so many bytes, which then leave at the end of the turn. */
  reserve(bytes: number): void {
    if (!this.#due) this.schedule();
    if (this.end + bytes > this.buffer.length) this.#grow(bytes);
  }

  /** Writes a frame's header and makes room for the payload, which the caller writes at `end` and counts. */
  frame(payloadBytes: number, type: number, flags: number, id: number): void {
    this.reserve(frameHeaderBytes + payloadBytes);
    writeFrameHeader(this.buffer, this.end, payloadBytes, type, flags, id);
    this.end += frameHeaderBytes;
  }

  /**
   * Makes room for DATA of a stream, which the caller writes at `end` and counts: in the DATA frame that this stream
   * has at the very end of the buffer, or in a new one.
   */
  data(id: number, payloadBytes: number): void {
    this.reserve(frameHeaderBytes + payloadBytes);
    const whole = this.#dataBytes + payloadBytes;
    if (
      this.#dataId === id &&
      this.#dataAt + frameHeaderBytes + this.#dataBytes === this.end &&
      whole <= frameBytesDefault
    ) {
      writeFrameHeader(this.buffer, this.#dataAt, whole, frameType.data, 0, id);
      this.#dataBytes = whole;
      return;
    }
    this.#dataId = id;
    this.#dataAt = this.end;
    this.#dataBytes = payloadBytes;
    writeFrameHeader(this.buffer, this.end, payloadBytes, frameType.data, 0, id);
    this.end += frameHeaderBytes;
  }

  append(bytes: Uint8Array): void {
    this.buffer.set(bytes, this.end);
    this.end += bytes.length;
  }

  /** To be called by the owner when its turn ends. */
  turnEnded(): void {
    this.#due = false;
    this.turnBytes = 0;
  }

  /** Gives the buffer to the socket, unless it is blocked. */
  flush(): void {
    if (this.end === 0 || this.blocked) return;
    this.#write();
    if (this.end === 0) this.#release();
  }

  /** The last flush: everything goes to the socket, then its end. Calls back when all has left. */
  finish(done: () => void): void {
    if (this.#ended) return;
    if (this.end > 0) this.#write();
    this.#ended = true;
    this.socket.end(done);
  }

  /** The socket emptied its queue. */
  drained(): void {
    this.blocked = false;
    this.budget.inFlight -= this.#handedOver;
    this.#handedOver = 0;
  }

  /** The socket is gone. */
  close(): void {
    this.#ended = true;
    this.drained();
    this.blocked = true;
    this.end = 0;
    this.#release();
  }

  #write(): void {
    const socket = this.socket;
    const bytes = this.buffer.subarray(0, this.end);
    this.end = 0;
    this.#dataId = 0;
    if (this.#ended || socket.destroyed) return;
    const more = socket.write(bytes);
    const waiting = socket.writableLength;
    // What the socket has not taken yet belongs to it.
    if (waiting > 0) this.buffer = none;
    // A write that was refused is followed by "drain", unless all has left already.
    if (waiting > 0 && !more) {
      this.blocked = true;
      this.budget.inFlight += waiting - this.#handedOver;
      this.#handedOver = waiting;
    }
  }

  #grow(bytes: number): void {
    this.flush();
    if (this.end + bytes <= this.buffer.length) return;
    if (this.end === 0 && bytes <= bufferBytes) {
      this.#release();
      this.buffer = pool.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
      return;
    }
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.buffer.length, this.end + bytes));
    this.buffer.copy(grown, 0, 0, this.end);
    this.#release();
    this.buffer = grown;
  }

  #release(): void {
    if (this.buffer.length === bufferBytes && pool.length < pooledMax) pool.push(this.buffer);
    this.buffer = none;
  }
}
