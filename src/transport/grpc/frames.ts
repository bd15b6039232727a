/**
 * gRPC's length-prefixed messages: one flag byte, four length bytes, the message. DATA frames of HTTP/2 cut them
 * anywhere, or carry several.
 */
import { GrpcCode, StoreError } from "../../errors";

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

function readLength(bytes: Uint8Array, offset: number): number {
  return (
    bytes[offset]! * 0x1000000 + ((bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!)
  );
}

/**
 * The message when `chunk` is exactly one frame, as nearly every unary request is; otherwise undefined, and a
 * {@link FrameReader} must take it. The message shares the chunk's memory.
 */
export function wholeMessage(chunk: Uint8Array, messageBytesMax: number): Uint8Array | undefined {
  if (chunk.length < prefixBytes) return undefined;
  const length = readLength(chunk, 1);
  if (length + prefixBytes !== chunk.length) return undefined;
  checkPrefix(chunk[0]!, length, messageBytesMax);
  return chunk.subarray(prefixBytes);
}

/** Cuts a byte stream into messages. Holds what it was given and no more: a length alone reserves nothing. */
export class FrameReader {
  readonly #messageBytesMax: number;
  #chunks: Uint8Array[] = [];
  #held = 0;
  /** Total length of the frame at the front, once its prefix was read. */
  #frameBytes: number | undefined;

  constructor(messageBytesMax: number) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Bytes that wait for the rest of their message. */
  get heldBytes(): number {
    return this.#held;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#held += chunk.length;
  }

  /** The next whole message, or undefined. Throws the StoreError that ends the call when a prefix is refused. */
  next(): Uint8Array | undefined {
    if (this.#frameBytes === undefined) {
      if (this.#held < prefixBytes) return undefined;
      const head = this.#front(prefixBytes);
      const length = readLength(head, 1);
      checkPrefix(head[0]!, length, this.#messageBytesMax);
      this.#frameBytes = prefixBytes + length;
    }
    if (this.#held < this.#frameBytes) return undefined;
    const frame = this.#take(this.#frameBytes);
    this.#frameBytes = undefined;
    return frame.subarray(prefixBytes);
  }

  /** The first `count` bytes, without taking them. */
  #front(count: number): Uint8Array {
    const first = this.#chunks[0]!;
    if (first.length >= count) return first;
    // Chunks of a few bytes: join only as many as the prefix needs.
    let joined = 0;
    let bytes = 0;
    while (bytes < count) bytes += this.#chunks[joined++]!.length;
    const head = Buffer.concat(this.#chunks.slice(0, joined));
    this.#chunks.splice(0, joined, head);
    return head;
  }

  #take(count: number): Uint8Array {
    this.#held -= count;
    const first = this.#chunks[0]!;
    if (first.length === count) {
      this.#chunks.shift();
      return first;
    }
    if (first.length > count) {
      this.#chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = all.length > count ? [all.subarray(count)] : [];
    return all.subarray(0, count);
  }
}

/** The five bytes in front of a message of `length` bytes. */
export function framePrefix(length: number): Buffer {
  const prefix = Buffer.allocUnsafe(prefixBytes);
  writePrefix(prefix, length);
  return prefix;
}

function writePrefix(target: Uint8Array, length: number): void {
  target[0] = 0;
  target[1] = length >>> 24;
  target[2] = length >>> 16;
  target[3] = length >>> 8;
  target[4] = length;
}

/** One frame in one piece: a copy of the chunks behind their prefix. For messages of modest size. */
export function frame(chunks: readonly Uint8Array[], totalBytes: number): Buffer {
  const framed = Buffer.allocUnsafe(prefixBytes + totalBytes);
  writePrefix(framed, totalBytes);
  let offset = prefixBytes;
  for (const chunk of chunks) {
    framed.set(chunk, offset);
    offset += chunk.length;
  }
  return framed;
}
