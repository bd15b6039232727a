/**
 * A map by lease id in many small ones: a map that grows moves all that it has, which at a million leases takes
 * 100 ms at once.
 */
import type { LeaseId } from "../ids";

const shards = 256;

export class LeaseShards<Value> {
  readonly #shards = Array.from({ length: shards }, () => new Map<LeaseId, Value>());
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: LeaseId): Value | undefined {
    return this.#of(id).get(id);
  }

  has(id: LeaseId): boolean {
    return this.#of(id).has(id);
  }

  set(id: LeaseId, value: Value): void {
    const shard = this.#of(id);
    const before = shard.size;
    shard.set(id, value);
    this.#size += shard.size - before;
  }

  delete(id: LeaseId): void {
    if (this.#of(id).delete(id)) this.#size--;
  }

  clear(): void {
    for (const shard of this.#shards) shard.clear();
    this.#size = 0;
  }

  #of(id: LeaseId): Map<LeaseId, Value> {
    return this.#shards[Number(BigInt.asUintN(8, id))]!;
  }
}
