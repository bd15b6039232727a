/**
 * Header blocks of answers. The two that nearly every call has, the head and the OK trailers, are entered into the
 * client's table once and take two bytes and one afterwards; everything else is written out.
 */
import { integerBytes, tableBytesDefault } from "./hpack";
import type { Output } from "./output";
import { flag, frameBytesDefault, frameHeaderBytes, frameType, writeFrameHeader } from "./protocol";

const grpcContentType = "application/grpc";
/** Indexes of the static table. */
const statusName = 8;
const status200 = 0x88;
const contentTypeName = 31;
/** The newest entry of the client's table, and the one before. */
const newest = 0x80 | 62;
const second = 0x80 | 63;

function literal(nameIndex: number, name: string, value: string, pattern = 0, prefixBits = 4): Buffer {
  const text = Buffer.from(value, "latin1");
  return Buffer.concat([
    integerBytes(pattern, prefixBits, nameIndex),
    ...(nameIndex === 0 ? [integerBytes(0, 7, name.length), Buffer.from(name, "latin1")] : []),
    integerBytes(0, 7, text.length),
    text,
  ]);
}

const headEntering = Buffer.concat([
  Buffer.of(status200),
  literal(contentTypeName, "content-type", grpcContentType, 0x40, 6),
]);
const headWrittenOut = Buffer.concat([
  Buffer.of(status200),
  literal(contentTypeName, "content-type", grpcContentType),
]);
const headSecond = Buffer.of(status200, second);
const headNewest = Buffer.of(status200, newest);
const okEntering = literal(0, "grpc-status", "0", 0x40, 6);
const okWrittenOut = literal(0, "grpc-status", "0");
const okNewest = Buffer.of(newest);
const tableIsZero = Buffer.of(0x20);

/** The longest of the blocks above, with its frame. */
const commonFrameBytesMax = 64;

/** Writes the header frames of one connection's answers, in the order in which they leave. */
export class AnswerHeaders {
  readonly #output: Output;
  /** 0: the client's table is empty; 1: it holds the content type; 2: and the OK status, as the newest. */
  #entered = 0;
  #mayEnter = true;
  #sizeUpdateDue = false;

  constructor(output: Output) {
    this.#output = output;
  }

  /** The client said how large its table is (SETTINGS_HEADER_TABLE_SIZE). */
  tableBytes(bytes: number): void {
    if (bytes >= tableBytesDefault || !this.#mayEnter) return;
    this.#mayEnter = false;
    // A smaller table must be confirmed by the next block (RFC 7541, 4.2); none at all always fits.
    this.#sizeUpdateDue = true;
  }

  /** The head of an answer: status 200 and the content type. */
  head(id: number, contentType: string): void {
    if (contentType !== grpcContentType) {
      this.written(
        id,
        [
          [":status", "200"],
          ["content-type", contentType],
        ],
        false,
      );
    } else if (!this.#mayEnter) this.#common(id, headWrittenOut, flag.endHeaders);
    else if (this.#entered === 2) this.#common(id, headSecond, flag.endHeaders);
    else if (this.#entered === 1) this.#common(id, headNewest, flag.endHeaders);
    else {
      this.#entered = 1;
      this.#common(id, headEntering, flag.endHeaders);
    }
  }

  /** Trailers with status OK, which end the stream. */
  okTrailers(id: number): void {
    const flags = flag.endHeaders | flag.endStream;
    if (!this.#mayEnter || this.#entered === 0) this.#common(id, okWrittenOut, flags);
    else if (this.#entered === 2) this.#common(id, okNewest, flags);
    else {
      this.#entered = 2;
      this.#common(id, okEntering, flags);
    }
  }

  /** Any other block, cut into frames that every client takes. */
  written(id: number, fields: readonly (readonly [name: string, value: string])[], endStream: boolean): void {
    const parts = fields.map(([name, value]) =>
      name === ":status" && value === "200"
        ? Buffer.of(status200)
        : literal(
            name === ":status" ? statusName : name === "content-type" ? contentTypeName : 0,
            name,
            value,
          ),
    );
    if (this.#sizeUpdateDue) {
      this.#sizeUpdateDue = false;
      parts.unshift(tableIsZero);
    }
    const block = Buffer.concat(parts);
    let at = 0;
    do {
      const bytes = Math.min(block.length - at, frameBytesDefault);
      const flags =
        (at + bytes === block.length ? flag.endHeaders : 0) | (at === 0 && endStream ? flag.endStream : 0);
      this.#output.frame(bytes, at === 0 ? frameType.headers : frameType.continuation, flags, id);
      this.#output.append(block.subarray(at, at + bytes));
      at += bytes;
    } while (at < block.length);
  }

  #common(id: number, block: Buffer, flags: number): void {
    const output = this.#output;
    output.reserve(commonFrameBytesMax);
    const target = output.buffer;
    const prefixBytes = this.#sizeUpdateDue ? 1 : 0;
    this.#sizeUpdateDue = false;
    writeFrameHeader(target, output.end, prefixBytes + block.length, frameType.headers, flags, id);
    let at = output.end + frameHeaderBytes;
    if (prefixBytes === 1) target[at++] = tableIsZero[0]!;
    for (let i = 0; i < block.length; i++) target[at++] = block[i]!;
    output.end = at;
  }
}
