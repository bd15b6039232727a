/** WebSocket frames as a server reads and writes them (RFC 6455, section 5). */

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Control frames carry no more than this. */
const controlBytesMax = 125;

/** A control frame, or as much of a data frame as has come. */
export interface Frame {
  readonly opcode: number;
  /** The end of a message. */
  readonly final: boolean;
  readonly payload: Buffer;
}

/** The client broke the protocol; the close code says how. */
export class FrameError extends Error {
  override readonly name = "FrameError";

  constructor(
    readonly closeCode: number,
    message: string,
  ) {
    super(message);
  }
}

/** A data frame of which a part has come. */
interface OpenFrame {
  readonly opcode: number;
  readonly final: boolean;
  readonly mask: Buffer;
  /** Payload bytes that were handed on. */
  taken: number;
  readonly length: number;
}

/**
 * Cuts a client's bytes into frames. What a message carries is handed on as it comes: how much of it may wait is the
 * receiver's to say, so that here nothing is kept but the few bytes of a head or a control frame.
 */
export class FrameReader {
  #held: Buffer = Buffer.alloc(0);
  #open: OpenFrame | undefined;

  constructor(readonly payloadBytesMax: number) {}

  /** Bytes that are kept until more come. */
  get heldBytes(): number {
    return this.#held.length;
  }

  /** What is complete now. Throws a FrameError. */
  *push(chunk: Buffer): Generator<Frame> {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    for (;;) {
      const frame = this.#open === undefined ? this.#next() : this.#more(this.#open);
      if (frame === undefined) return;
      yield frame;
    }
  }

  #next(): Frame | undefined {
    const held = this.#held;
    if (held.length < 2) return undefined;
    const [first, second] = [held[0]!, held[1]!];
    const opcode = first & 0x0f;
    const final = (first & 0x80) !== 0;
    const control = opcode >= Opcode.close;
    if ((first & 0x70) !== 0) throw new FrameError(1002, "no extension was agreed on");
    if ((second & 0x80) === 0) throw new FrameError(1002, "a client has to mask its frames");
    if (opcode > Opcode.pong || (opcode > Opcode.binary && !control)) {
      throw new FrameError(1002, "an unknown kind of frame");
    }
    let length = second & 0x7f;
    if (control && (length > controlBytesMax || !final)) {
      throw new FrameError(1002, "a control frame has to be short and whole");
    }
    let at = 2;
    if (length === 126) {
      if (held.length < 4) return undefined;
      length = held.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (held.length < 10) return undefined;
      length = Number(held.readBigUInt64BE(2));
      at = 10;
    }
    if (length > this.payloadBytesMax) throw new FrameError(1009, "the message is too large");
    if (held.length < at + 4 + (control ? length : 0)) return undefined;
    const open: OpenFrame = {
      opcode,
      final,
      mask: Buffer.from(held.subarray(at, at + 4)),
      taken: 0,
      length,
    };
    this.#held = held.subarray(at + 4);
    return this.#more(open);
  }

  /** The next piece of a frame; undefined when nothing of it is there. */
  #more(open: OpenFrame): Frame | undefined {
    const { opcode, mask, taken, length } = open;
    const bytes = Math.min(this.#held.length, length - taken);
    this.#open = taken + bytes === length ? undefined : open;
    if (bytes === 0 && this.#open !== undefined) return undefined;
    const payload = Buffer.from(this.#held.subarray(0, bytes));
    for (let index = 0; index < bytes; index++) payload[index]! ^= mask[(taken + index) & 3]!;
    open.taken = taken + bytes;
    this.#held = this.#held.subarray(bytes);
    return { opcode, final: open.final && this.#open === undefined, payload };
  }
}

/** A whole frame of the server, which masks nothing. */
export function encodeFrame(opcode: number, payload: Uint8Array): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  if (length < 126) head[1] = length;
  else if (length < 65_536) {
    head[1] = 126;
    head.writeUInt16BE(length, 2);
  } else {
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, payload]);
}
