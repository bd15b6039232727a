/**
 * gRPC's length-prefixed messages: one flag byte, four length bytes, the message. DATA frames of HTTP/2 cut them
 * anywhere, or carry several.
 */
import { GrpcCode, StoreError } from "../../errors";
import { readUint32, writeUint32 } from "../http2/protocol";

export const prefixBytes = 5;

/** Refuses a prefix in the words of grpc-go, which etcd's clients know. */
function checkPrefix(flag: number, length: number, messageBytesMax: number): void {
  if (flag === 1) {
    // Another encoding than identity was already refused when the headers came.
    throw new StoreError(GrpcCode.internal, "grpc: compressed flag set with identity or empty encoding");
  }
  if (flag !== 0) {
    throw new StoreError(GrpcCode.internal, `grpc: received unexpected payload format ${flag}`);
  }
  if (length > messageBytesMax) {
    throw new StoreError(
      GrpcCode.resourceExhausted,
      `grpc: received message larger than max (${length} vs. ${messageBytesMax})`,
    );
  }
}

/**
 * Where the message that begins at `start` ends, its prefix included, or -1 when it is not whole by `end` and a
 * {@link FrameReader} must take it. Throws the StoreError that ends the call when the prefix is refused.
 */
export function messageEnd(bytes: Uint8Array, start: number, end: number, messageBytesMax: number): number {
  if (end - start < prefixBytes) return -1;
  const length = readUint32(bytes, start + 1);
  checkPrefix(bytes[start]!, length, messageBytesMax);
  const last = start + prefixBytes + length;
  return last <= end ? last : -1;
}

/** Collects messages that come in pieces. Holds a copy of what it was given: a length alone reserves nothing. */
export class FrameReader {
  readonly #messageBytesMax: number;
  #buffer: Buffer = none;
  #start = 0;
  #end = 0;

  constructor(messageBytesMax: number) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Bytes that wait for the rest of their message. */
  get heldBytes(): number {
    return this.#end - this.#start;
  }

  push(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#buffer.length) this.#grow(this.heldBytes + chunk.length);
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next whole message, or undefined. Throws the StoreError that ends the call when a prefix is refused. */
  next(): Uint8Array | undefined {
    const start = this.#start;
    const end = messageEnd(this.#buffer, start, this.#end, this.#messageBytesMax);
    if (end < 0) return undefined;
    this.#start = end;
    if (end < this.#end) return Buffer.from(this.#buffer.subarray(start + prefixBytes, end));
    // The last one takes the buffer along.
    const message = this.#buffer.subarray(start + prefixBytes, end);
    this.#buffer = none;
    this.#start = 0;
    this.#end = 0;
    return message;
  }

  #grow(bytes: number): void {
    const held = this.heldBytes;
    // Exactly what a message needs once half of it is there, so that its end wastes nothing.
    const wanted = held >= prefixBytes ? prefixBytes + readUint32(this.#buffer, this.#start + 1) : 0;
    const doubled = 2 * bytes;
    const grown = Buffer.allocUnsafeSlow(wanted >= bytes && wanted < doubled ? wanted : doubled);
    this.#buffer.copy(grown, 0, this.#start, this.#end);
    this.#buffer = grown;
    this.#start = 0;
    this.#end = held;
  }
}

const none = Buffer.alloc(0);

/** One frame in one piece: a copy of the chunks behind their prefix. For messages of modest size. */
export function frame(chunks: readonly Uint8Array[], totalBytes: number): Buffer {
  const framed = Buffer.allocUnsafe(prefixBytes + totalBytes);
  framed[0] = 0;
  writeUint32(framed, 1, totalBytes);
  let offset = prefixBytes;
  for (const chunk of chunks) {
    framed.set(chunk, offset);
    offset += chunk.length;
  }
  return framed;
}
