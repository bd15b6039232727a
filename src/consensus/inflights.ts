/** Append messages on their way to one follower: bounded in number and in bytes. */
import type { LogIndex } from "../ids";

export class Inflights {
  readonly #messagesMax: number;
  readonly #bytesMax: number;
  /** A ring: last index and size of each message, oldest at `#head`. Grows up to the bound as needed. */
  #indexes: LogIndex[] = [];
  #sizes: number[] = [];
  #head = 0;
  #count = 0;
  #bytes = 0;

  constructor(messagesMax: number, bytesMax: number) {
    this.#messagesMax = messagesMax;
    this.#bytesMax = bytesMax;
  }

  get count(): number {
    return this.#count;
  }
  get bytes(): number {
    return this.#bytes;
  }
  /** One message may cross the byte bound, none may start beyond it. */
  get full(): boolean {
    return this.#count >= this.#messagesMax || this.#bytes >= this.#bytesMax;
  }

  add(lastIndex: LogIndex, bytes: number): void {
    if (this.#count === this.#indexes.length) this.#grow();
    const at = (this.#head + this.#count) % this.#indexes.length;
    this.#indexes[at] = lastIndex;
    this.#sizes[at] = bytes;
    this.#count++;
    this.#bytes += bytes;
  }

  /** The follower acknowledged everything up to `index`. */
  freeTo(index: LogIndex): void {
    while (this.#count > 0 && this.#indexes[this.#head]! <= index) {
      this.#bytes -= this.#sizes[this.#head]!;
      this.#head = (this.#head + 1) % this.#indexes.length;
      this.#count--;
    }
  }

  clear(): void {
    this.#indexes = [];
    this.#sizes = [];
    this.#head = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  #grow(): void {
    const size = Math.max(8, this.#indexes.length * 2);
    const indexes: LogIndex[] = Array.from({ length: size }, () => 0);
    const sizes: number[] = Array.from({ length: size }, () => 0);
    for (let i = 0; i < this.#count; i++) {
      const from = (this.#head + i) % this.#indexes.length;
      indexes[i] = this.#indexes[from]!;
      sizes[i] = this.#sizes[from]!;
    }
    this.#indexes = indexes;
    this.#sizes = sizes;
    this.#head = 0;
  }
}
