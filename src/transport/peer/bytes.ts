/** Writing and strictly reading the small binary forms of this folder. Numbers are varints, 64-bit ids are fixed. */

/** Whoever sent this does not speak the protocol; its stream ends. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

/** Appends to a buffer that grows. What was written stays until `end` is set back. */
export class ByteWriter {
  bytes: Buffer;
  end = 0;

  constructor(initialBytes = 1024) {
    this.bytes = Buffer.allocUnsafeSlow(initialBytes);
  }

  /** Makes room for so many further bytes. */
  reserve(bytes: number): void {
    if (this.end + bytes <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.bytes.length, this.end + bytes));
    this.bytes.copy(grown, 0, 0, this.end);
    this.bytes = grown;
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.end++] = value;
  }

  boolean(value: boolean): void {
    this.byte(value ? 1 : 0);
  }

  /** A number from 0 to 2^53 - 1. */
  varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no counter`);
    this.reserve(8);
    const bytes = this.bytes;
    let rest = value;
    while (rest >= 0x80) {
      bytes[this.end++] = (rest % 0x80) | 0x80;
      // Shifts work on 32 bits only.
      rest = rest < 2 ** 31 ? rest >>> 7 : Math.floor(rest / 0x80);
    }
    bytes[this.end++] = rest;
  }

  /** 64 bits, unsigned. */
  fixed64(value: bigint): void {
    this.reserve(8);
    this.bytes.writeBigUInt64LE(value, this.end);
    this.end += 8;
  }

  /** Length and bytes. */
  block(block: Uint8Array): void {
    this.varint(block.length);
    this.reserve(block.length);
    this.bytes.set(block, this.end);
    this.end += block.length;
  }
}

/** Reads one message in `bytes[at, end)`. Each method throws {@link Malformed} for what the writer does not write. */
export class ByteReader {
  constructor(
    readonly bytes: Buffer,
    public at: number,
    readonly end: number,
  ) {}

  byte(): number {
    if (this.at >= this.end) throw new Malformed("message too short");
    return this.bytes[this.at++]!;
  }

  boolean(): boolean {
    const value = this.byte();
    if (value > 1) throw new Malformed("neither true nor false");
    return value === 1;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (byte === 0 && scale > 1) throw new Malformed("a number is longer than it need be");
        if (value > Number.MAX_SAFE_INTEGER) throw new Malformed("a number is too large");
        return value;
      }
      scale *= 0x80;
      if (scale > 2 ** 49) throw new Malformed("a number is too long");
    }
  }

  fixed64(): bigint {
    if (this.end - this.at < 8) throw new Malformed("message too short");
    const value = this.bytes.readBigUInt64LE(this.at);
    this.at += 8;
    return value;
  }

  /** A count of things that take at least `bytesEach`, which therefore must be there. */
  count(bytesEach: number): number {
    const count = this.varint();
    if (count * bytesEach > this.end - this.at) throw new Malformed("message too short");
    return count;
  }

  /** Length and bytes; a view, not a copy. */
  block(): Uint8Array {
    const length = this.count(1);
    const start = this.bytes.byteOffset + this.at;
    this.at += length;
    return new Uint8Array(this.bytes.buffer, start, length);
  }

  /** Everything must have been read. */
  finish(): void {
    if (this.at !== this.end) throw new Malformed("message too long");
  }
}
