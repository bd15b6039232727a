/** Many keys written piece by piece: as many in one transaction as fit, each only where nobody was faster. */
import type { Compare, RequestOp } from "../../../../proto/gen/etcd/rpc_pb";
import type { ConsoleServices } from "../../page";
import { guarded, putOp, unchanged } from "./store";

/** Well below the smallest limits that a server is run with. */
const batchKeysMax = 64;
const batchBytesMax = 512 * 1024;

/** A key to be written, and the mod revision at which that was decided; 0: it did not exist. */
export interface Write {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly base: bigint;
}

export interface BatchResult {
  readonly written: number;
  /** Keys that somebody else wrote in between; they were left alone. */
  readonly conflicts: readonly Uint8Array[];
}

/** Writes in batches; a batch that meets a conflict is written key by key. Throws StoreErrors. */
export class BatchWriter {
  #waiting: Write[] = [];
  #bytes = 0;
  #written = 0;
  readonly #conflicts: Uint8Array[] = [];

  constructor(readonly services: ConsoleServices) {}

  get written(): number {
    return this.#written;
  }

  async add(write: Write): Promise<void> {
    const bytes = write.key.length + write.value.length;
    if (this.#waiting.length >= batchKeysMax || this.#bytes + bytes > batchBytesMax) await this.flush();
    this.#waiting.push(write);
    this.#bytes += bytes;
  }

  async flush(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    if (batch.length === 0) return;
    if (await this.#put(batch)) return;
    for (const write of batch) if (!(await this.#put([write]))) this.#conflicts.push(write.key);
  }

  async #put(batch: readonly Write[]): Promise<boolean> {
    const compares: Compare[] = batch.map(({ key, base }) => unchanged(key, base));
    const puts: RequestOp[] = batch.map(({ key, value }) => putOp(key, value));
    const { succeeded } = await guarded(this.services, compares, puts);
    if (succeeded) this.#written += batch.length;
    return succeeded;
  }

  async finish(): Promise<BatchResult> {
    await this.flush();
    return { written: this.#written, conflicts: this.#conflicts };
  }
}
