/** Cuts what one side sends into frames, wherever the network cut it before. */
import { ConnectionError } from "./connection-error";
import { errorCode, frameBytesDefault, frameHeaderBytes, preface } from "./protocol";

export interface FrameSink {
  /** One whole frame in `bytes[at, end)`, its nine header bytes included; false = read no further. */
  frame(bytes: Uint8Array, at: number, end: number): boolean;
}

const prefaceBytes = Buffer.from(preface, "latin1");

export class FrameCutter {
  #prefaceSeen: number;
  /** The start of a frame whose rest has not come. */
  #partial: Buffer | undefined;
  #partialBytes = 0;

  /** `from`: who sends what is cut. Only clients begin with the preface. */
  constructor(from: "client" | "server" = "client") {
    this.#prefaceSeen = from === "client" ? 0 : prefaceBytes.length;
  }

  /** Hands on every frame that ends in this chunk. Throws for a wrong preface and for a frame that is too large. */
  read(chunk: Buffer, sink: FrameSink): void {
    let at = 0;
    while (this.#prefaceSeen < prefaceBytes.length) {
      if (at === chunk.length) return;
      if (chunk[at++] !== prefaceBytes[this.#prefaceSeen++]) {
        throw new ConnectionError(errorCode.protocolError, "no HTTP/2 preface");
      }
    }
    if (this.#partial !== undefined) {
      at = this.#complete(chunk, at, sink);
      if (at < 0) return;
    }
    const end = chunk.length;
    while (end - at >= frameHeaderBytes) {
      const next = at + frameHeaderBytes + payloadBytes(chunk, at);
      if (next > end) break;
      if (!sink.frame(chunk, at, next)) return;
      at = next;
    }
    if (at < end) {
      this.#partial = Buffer.from(chunk.subarray(at));
      this.#partialBytes = end - at;
    }
  }

  /** Forgets what was held. */
  close(): void {
    this.#partial = undefined;
  }

  /** Adds to the frame that began earlier; answers where the next begins, or -1 when there is nothing more to do. */
  #complete(chunk: Buffer, start: number, sink: FrameSink): number {
    let at = start;
    for (;;) {
      let partial = this.#partial!;
      const have = this.#partialBytes;
      const whole = have < frameHeaderBytes ? frameHeaderBytes : frameHeaderBytes + payloadBytes(partial, 0);
      if (have === whole) {
        this.#partial = undefined;
        return sink.frame(partial, 0, whole) ? at : -1;
      }
      if (at === chunk.length) return -1;
      const taken = Math.min(whole - have, chunk.length - at);
      if (have + taken > partial.length) {
        // A length alone reserves nothing.
        const grown = Buffer.allocUnsafeSlow(Math.min(whole, Math.max(64, 2 * (have + taken))));
        partial.copy(grown, 0, 0, have);
        this.#partial = partial = grown;
      }
      chunk.copy(partial, have, at, at + taken);
      this.#partialBytes += taken;
      at += taken;
    }
  }
}

function payloadBytes(bytes: Uint8Array, at: number): number {
  const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
  if (length > frameBytesDefault) throw new ConnectionError(errorCode.frameSizeError, "frame too large");
  return length;
}
