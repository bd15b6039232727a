/** A header block that comes in several frames. */
import { ConnectionError } from "./connection-error";
import { errorCode, frameBytesDefault } from "./protocol";

/** More frames of one block are a flood. */
const framesMax = 128;

export class HeaderBlock {
  readonly #parts: Buffer[] = [];
  readonly #bytesMax: number;
  #bytes = 0;

  /** `listBytesMax` bounds what the headers may come to, and so, with some room, their encoding. */
  constructor(
    readonly id: number,
    readonly flags: number,
    listBytesMax: number,
  ) {
    this.#bytesMax = listBytesMax + frameBytesDefault;
  }

  /** Keeps a copy. Throws when it becomes too much. */
  add(bytes: Uint8Array, start: number, end: number): void {
    this.#parts.push(Buffer.from(bytes.subarray(start, end)));
    this.#bytes += end - start;
    if (this.#parts.length > framesMax || this.#bytes > this.#bytesMax) {
      throw new ConnectionError(errorCode.enhanceYourCalm, "header block too large");
    }
  }

  whole(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
