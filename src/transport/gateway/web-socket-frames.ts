/** WebSocket frames as a server reads and writes them (RFC 6455, section 5). */

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Control frames carry no more than this. */
const controlBytesMax = 125;

export interface Frame {
  readonly opcode: number;
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

/** Cuts a client's bytes into frames. */
export class FrameReader {
  #held: Buffer = Buffer.alloc(0);

  constructor(readonly payloadBytesMax: number) {}

  /** The frames that are complete now. Throws a FrameError. */
  *push(chunk: Buffer): Generator<Frame> {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    for (;;) {
      const frame = this.#next();
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
    if ((first & 0x70) !== 0) throw new FrameError(1002, "no extension was agreed on");
    if ((second & 0x80) === 0) throw new FrameError(1002, "a client has to mask its frames");
    if (opcode > Opcode.pong || (opcode > Opcode.binary && opcode < Opcode.close)) {
      throw new FrameError(1002, "an unknown kind of frame");
    }
    let length = second & 0x7f;
    if (opcode >= Opcode.close && (length > controlBytesMax || !final)) {
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
    if (held.length < at + 4 + length) return undefined;
    const mask = held.subarray(at, at + 4);
    const payload = Buffer.from(held.subarray(at + 4, at + 4 + length));
    for (let index = 0; index < length; index++) payload[index]! ^= mask[index & 3]!;
    this.#held = held.subarray(at + 4 + length);
    return { opcode, final, payload };
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
