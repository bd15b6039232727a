/** Just enough protobuf to read an answer's fields without building objects for what is only compared. */
import { concatBytes, toBinaryString } from "../../src/bytes";
import type { EncodedMessage } from "../../src/transport/call";

/** A message's fields by number: the last number of each, and all pieces of bytes in order. Read when asked for. */
export class Fields {
  readonly #bytes: Uint8Array;
  /** Of each field: its number, whether it is bytes, and where its value is. */
  readonly #found: number[] = [];

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    for (let at = start; at < end;) {
      let tag = bytes[at++]!;
      if (tag > 0x7f) {
        if (at >= end || bytes[at]! > 0x7f) throw new Error("no message here has such a field");
        tag = (tag & 0x7f) | (bytes[at++]! << 7);
      }
      const from = at;
      while (at < end && bytes[at]! > 0x7f) at++;
      if (at++ >= end) throw new Error("a varint is cut off");
      if ((tag & 7) === 0) {
        this.#found.push(tag, from, at);
        continue;
      }
      if ((tag & 7) !== 2) throw new Error(`wire type ${tag & 7} was not expected`);
      const to = at + Number(varint(bytes, from, at));
      if (to > end) throw new Error("a field is cut off");
      this.#found.push(tag, at, to);
      at = to;
    }
  }

  #last(tag: number): number {
    const found = this.#found;
    for (let at = found.length - 3; at >= 0; at -= 3) if (found[at] === tag) return at;
    return -1;
  }

  #varint(field: number): number | bigint {
    const at = this.#last(field << 3);
    return at === -1 ? 0 : varint(this.#bytes, this.#found[at + 1]!, this.#found[at + 2]!);
  }

  number(field: number): number {
    const value = this.#varint(field);
    return typeof value === "number" ? value : Number(BigInt.asIntN(64, value));
  }

  bigint(field: number): bigint {
    return BigInt.asIntN(64, BigInt(this.#varint(field)));
  }

  pieces(field: number): Uint8Array[] {
    const found = this.#found;
    const tag = (field << 3) | 2;
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < found.length; at += 3)
      if (found[at] === tag) pieces.push(this.#bytes.subarray(found[at + 1]!, found[at + 2]!));
    return pieces;
  }

  /** The last piece of a field. */
  piece(field: number): Uint8Array | undefined {
    const at = this.#last((field << 3) | 2);
    return at === -1 ? undefined : this.#bytes.subarray(this.#found[at + 1]!, this.#found[at + 2]!);
  }

  /** The message in a field. */
  message(field: number): Fields | undefined {
    const at = this.#last((field << 3) | 2);
    return at === -1 ? undefined : new Fields(this.#bytes, this.#found[at + 1]!, this.#found[at + 2]!);
  }

  /** Whether there are such fields of bytes, and no others. */
  hasOnly(field: number): boolean {
    const found = this.#found;
    for (let at = 0; at < found.length; at += 3) if (found[at] !== ((field << 3) | 2)) return false;
    return found.length > 0;
  }
}

/** Almost all numbers fit into 49 bits, and bigints are slow. */
function varint(bytes: Uint8Array, from: number, to: number): number | bigint {
  if (to - from <= 7) {
    let value = 0;
    for (let at = to - 1; at >= from; at--) value = value * 128 + (bytes[at]! & 0x7f);
    return value;
  }
  let value = 0n;
  for (let at = to - 1; at >= from; at--) value = (value << 7n) | BigInt(bytes[at]! & 0x7f);
  return BigInt.asUintN(64, value);
}

export function fieldsOf(message: EncodedMessage): Fields {
  const { chunks } = message;
  return new Fields(chunks.length === 1 ? chunks[0]! : concatBytes(chunks));
}

/** The header's revision; every response has its header in field 1. */
export function revisionOf(fields: Fields): number {
  const header = fields.message(1);
  if (header === undefined) throw new Error("an answer has no header");
  return header.number(3);
}

/** Bytes as the model keeps them. */
export const latin1 = toBinaryString;
