/** Just enough protobuf to read an answer's fields without building objects for what is only compared. */
import { concatBytes, toBinaryString } from "../../src/bytes";
import type { EncodedMessage } from "../../src/transport/call";

const noPieces: readonly Uint8Array[] = [];

/** A message's fields by number: the last number of each, and all pieces of bytes in order. */
export class Fields {
  readonly #numbers: (number | bigint | undefined)[] = [];
  readonly #pieces: (Uint8Array[] | undefined)[] = [];

  constructor(bytes: Uint8Array) {
    const end = bytes.length;
    for (let at = 0; at < end;) {
      let tag = bytes[at++]!;
      if (tag > 0x7f) {
        if (at === end || bytes[at]! > 0x7f) throw new Error("no message here has such a field");
        tag = (tag & 0x7f) | (bytes[at++]! << 7);
      }
      const field = tag >> 3;
      const from = at;
      while (at < end && bytes[at]! > 0x7f) at++;
      if (at++ >= end) throw new Error("a varint is cut off");
      const value = varint(bytes, from, at);
      if ((tag & 7) === 0) {
        this.#numbers[field] = value;
        continue;
      }
      if ((tag & 7) !== 2) throw new Error(`wire type ${tag & 7} was not expected`);
      const length = Number(value);
      if (at + length > end) throw new Error("a field is cut off");
      (this.#pieces[field] ??= []).push(bytes.subarray(at, at + length));
      at += length;
    }
  }

  number(field: number): number {
    const value = this.#numbers[field] ?? 0;
    return typeof value === "number" ? value : Number(BigInt.asIntN(64, value));
  }

  bigint(field: number): bigint {
    return BigInt.asIntN(64, BigInt(this.#numbers[field] ?? 0));
  }

  pieces(field: number): readonly Uint8Array[] {
    return this.#pieces[field] ?? noPieces;
  }

  /** Whether there is this field, of bytes, and no other. */
  hasOnly(field: number): boolean {
    return (
      this.#numbers.length === 0 &&
      this.#pieces.length === field + 1 &&
      Object.keys(this.#pieces).length === 1
    );
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
  const header = fields.pieces(1)[0];
  if (header === undefined) throw new Error("an answer has no header");
  return new Fields(header).number(3);
}

/** Bytes as the model keeps them. */
export const latin1 = toBinaryString;
