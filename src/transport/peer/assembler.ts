/** Puts the messages of one stream together, wherever the network cut them. */
import type { MemberId } from "../../ids";
import type { PeerMessage } from "../../member/peer-message";
import { Malformed } from "./bytes";
import { decodeMessage, messageLength, prefixBytes, refersToBytes } from "./codec";

/** A message in pieces begins with a buffer of this size; a length alone reserves nothing. */
const firstBufferBytes = 64 * 1024;

export class MessageAssembler {
  /** The start of a message whose rest has not come, its prefix included. */
  #partial: Buffer | undefined;
  #partialBytes = 0;

  constructor(
    private readonly from: MemberId,
    private readonly to: MemberId,
    private readonly bytesMax: number,
    private readonly sink: (message: PeerMessage) => void,
  ) {}

  /** Bytes that are held until the rest of their message comes. */
  get heldBytes(): number {
    return this.#partial?.length ?? 0;
  }

  /**
   * Hands on every message that ends in `bytes[start, end)`. Throws {@link Malformed}, after which nothing of this
   * stream can be trusted.
   */
  read(bytes: Buffer, start: number, end: number): void {
    let at = start;
    if (this.#partial !== undefined) {
      at = this.#complete(bytes, at, end);
      if (at < 0) return;
    }
    while (end - at >= prefixBytes) {
      const body = at + prefixBytes;
      const next = body + messageLength(bytes, at, this.bytesMax);
      if (next > end) break;
      verify(bytes, at, next);
      if (refersToBytes(bytes, body)) {
        // What is kept of it must not keep the whole chunk of the socket.
        const own = Buffer.allocUnsafeSlow(next - body);
        bytes.copy(own, 0, body, next);
        this.sink(decodeMessage(own, 0, own.length, this.from, this.to));
      } else {
        this.sink(decodeMessage(bytes, body, next, this.from, this.to));
      }
      at = next;
    }
    if (at < end) {
      const held = end - at;
      const whole = held < prefixBytes ? prefixBytes : prefixBytes + messageLength(bytes, at, this.bytesMax);
      this.#partial = Buffer.allocUnsafeSlow(Math.min(whole, Math.max(firstBufferBytes, held)));
      bytes.copy(this.#partial, 0, at, end);
      this.#partialBytes = held;
    }
  }

  /** Adds to the message that began earlier; answers where the next begins, or -1 when it is not complete. */
  #complete(bytes: Buffer, start: number, end: number): number {
    let at = start;
    for (;;) {
      const partial = this.#partial!;
      const have = this.#partialBytes;
      const whole = have < prefixBytes ? prefixBytes : prefixBytes + messageLength(partial, 0, this.bytesMax);
      if (have === whole) {
        this.#partial = undefined;
        verify(partial, 0, whole);
        this.sink(decodeMessage(partial, prefixBytes, whole, this.from, this.to));
        return at;
      }
      if (at === end) return -1;
      const taken = Math.min(whole - have, end - at);
      if (have + taken > partial.length) {
        const grown = Buffer.allocUnsafeSlow(Math.min(whole, Math.max(firstBufferBytes, 2 * (have + taken))));
        partial.copy(grown, 0, 0, have);
        this.#partial = grown;
      }
      bytes.copy(this.#partial!, have, at, at + taken);
      this.#partialBytes += taken;
      at += taken;
    }
  }
}

/** Compares the checksum of the message in `bytes[at, end)`, its prefix included. */
function verify(bytes: Buffer, at: number, end: number): void {
  const computed = Bun.hash.crc32(bytes.subarray(at + prefixBytes, end));
  if (computed !== bytes.readUInt32BE(at + 4)) throw new Malformed("checksum mismatch");
}
