/**
 * Checksums of rows and of all rows together. A row's checksum finds changed bytes; the count and the sum of all
 * checksums, which move in the transaction that moves the applied index, find rows that vanished or came back.
 */

const scratch = new Float64Array(4);
const scratchBytes = new Uint8Array(scratch.buffer);

/** The checksum of a row: its numbers (at most four), then its bytes. */
export function rowChecksum(bytes: Uint8Array, a: number, b = 0, c = 0, d = 0): number {
  scratch[0] = a;
  scratch[1] = b;
  scratch[2] = c;
  scratch[3] = d;
  return Bun.hash.crc32(bytes, Bun.hash.crc32(scratchBytes));
}

/** Count and sum of the rows of a database; adding and removing a row cancel out exactly. */
export class RowSum {
  count = 0;
  sum = 0;
  /** A second lane, so that two changes are unlikely to cancel out in both. */
  mix = 0;

  add(checksum: number): void {
    this.count++;
    this.sum = (this.sum + checksum) >>> 0;
    this.mix = (this.mix + scramble(checksum)) >>> 0;
  }

  subtract(checksum: number): void {
    this.count--;
    this.sum = (this.sum - checksum) >>> 0;
    this.mix = (this.mix - scramble(checksum)) >>> 0;
  }

  equals(other: RowSum): boolean {
    return this.count === other.count && this.sum === other.sum && this.mix === other.mix;
  }
}

function scramble(checksum: number): number {
  let bits = checksum;
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d);
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b);
  return (bits ^ (bits >>> 16)) >>> 0;
}
