/** The few pieces of the protobuf wire format that hot paths write by hand. */

/** Bytes that a non-negative integer takes as a varint. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Writes a non-negative safe integer as a varint; returns the offset behind it. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 128) {
    target[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  target[at++] = rest;
  return at;
}

/** Bytes that a 64-bit value takes as a varint; negative numbers take ten. */
export function varint64Size(value: bigint): number {
  const high = Number(BigInt.asUintN(32, value >> 32n));
  const bits = high === 0 ? 32 - Math.clz32(Number(BigInt.asUintN(32, value))) : 64 - Math.clz32(high);
  return Math.max(1, Math.ceil(bits / 7));
}

/** Writes a 64-bit value as a varint, in 32-bit arithmetic; returns the offset behind it. */
export function writeVarint64(target: Uint8Array, offset: number, value: bigint): number {
  let low = Number(BigInt.asUintN(32, value));
  let high = Number(BigInt.asUintN(32, value >> 32n));
  let at = offset;
  while (high !== 0 || low >= 128) {
    target[at++] = (low & 127) | 128;
    low = ((low >>> 7) | (high << 25)) >>> 0;
    high >>>= 7;
  }
  target[at++] = low;
  return at;
}

/** A length-delimited field: its tag byte, the length, the content. */
export function encodeField(tag: number, content: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(1 + varintSize(content.length) + content.length);
  bytes[0] = tag;
  bytes.set(content, writeVarint(bytes, 1, content.length));
  return bytes;
}
