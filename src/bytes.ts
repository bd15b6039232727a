/** Byte strings: keys are compared bytewise, and held as latin1 strings where they are map or tree keys. */

export const emptyBytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** A string with one character per byte. Such strings compare with `<` exactly like the bytes do. */
export function toBinaryString(bytes: Uint8Array): string {
  // Called on the bytes themselves: wrapping them in a Buffer first would double the cost.
  return Buffer.prototype.latin1Slice.call(bytes, 0, bytes.length);
}

/** The inverse of {@link toBinaryString}. */
export function fromBinaryString(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** Bytewise lexicographic order: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

/**
 * The end of the half-open range that holds every key with this prefix, by etcd's rule: the last byte below
 * 0xff is incremented and the rest cut. An empty or all-0xff prefix gives one zero byte, "to the end".
 */
export function prefixRangeEnd(prefix: Uint8Array): Uint8Array {
  for (let i = prefix.length - 1; i >= 0; i--) {
    const byte = prefix[i]!;
    if (byte === 0xff) continue;
    // A copy in any case: Buffer's own slice would share the caller's bytes.
    const end = new Uint8Array(prefix.subarray(0, i + 1));
    end[i] = byte + 1;
    return end;
  }
  return new Uint8Array(1);
}

/** Joins chunks into one array; the single-chunk case copies nothing. */
export function concatBytes(chunks: readonly Uint8Array[]): Uint8Array {
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}
