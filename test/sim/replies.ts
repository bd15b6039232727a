/** Just enough protobuf to read an answer's fields without building objects for what is only compared. */
import { concatBytes } from "../../src/bytes";
import type { EncodedMessage } from "../../src/transport/call";

/** A message's fields by number: the last number of each, and all pieces of bytes in order. */
export class Fields {
  readonly #numbers: (bigint | undefined)[] = [];
  readonly #pieces: (Uint8Array[] | undefined)[] = [];

  constructor(bytes: Uint8Array) {
    let at = 0;
    const varint = (): bigint => {
      let value = 0n;
      let small = 0;
      let shift = 0;
      for (;;) {
        const byte = bytes[at++];
        if (byte === undefined) throw new Error("a varint is cut off");
        // Almost all numbers fit into 28 bits, and bigints are slow.
        if (shift < 28) small |= (byte & 0x7f) << shift;
        else value |= BigInt(byte & 0x7f) << BigInt(shift);
        if (byte < 0x80) return BigInt.asUintN(64, value | BigInt(small));
        shift += 7;
      }
    };
    while (at < bytes.length) {
      const tag = Number(varint());
      const field = tag >> 3;
      switch (tag & 7) {
        case 0:
          this.#numbers[field] = varint();
          break;
        case 2: {
          const length = Number(varint());
          if (at + length > bytes.length) throw new Error("a field is cut off");
          (this.#pieces[field] ??= []).push(bytes.subarray(at, at + length));
          at += length;
          break;
        }
        default:
          throw new Error(`wire type ${tag & 7} was not expected`);
      }
    }
  }

  number(field: number): number {
    return Number(BigInt.asIntN(64, this.#numbers[field] ?? 0n));
  }

  bigint(field: number): bigint {
    return BigInt.asIntN(64, this.#numbers[field] ?? 0n);
  }

  pieces(field: number): readonly Uint8Array[] {
    return this.#pieces[field] ?? [];
  }
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
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
