/** Concurrent writers that note down what they were told, and the reading back of what the store then holds. */
import { GrpcCode } from "../../src/errors";
import { KV, Lease, Watch } from "../../src/proto/gen/etcd/rpc_pb";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RequestOpSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../src/rng";
import { ConnectionLost, GrpcClient, type Reply } from "../tools/grpc-client";
import { valueOf, violations, finalState, type HistoryEvent, type Operation } from "./history";

const utf8 = (text: string): Uint8Array => Buffer.from(text);
type OpInit = MessageInitShape<typeof RequestOpSchema>;

/** Codes with which etcd says that a request certainly had no effect. */
const definite: ReadonlySet<number> = new Set([
  GrpcCode.invalidArgument,
  GrpcCode.notFound,
  GrpcCode.outOfRange,
  GrpcCode.failedPrecondition,
  GrpcCode.resourceExhausted,
]);

/** All that was ever sent to one store. */
export class Load {
  readonly operations: Operation[] = [];
  /** The newest revision anybody was told of. */
  knownRevision = 1;
  /** Reads that went back in time. */
  readonly staleReads: string[] = [];
  /** Refusals by text. */
  readonly refusals = new Map<string, number>();
  #nextId = 1;

  get acknowledged(): number {
    return this.operations.reduce((sum, { outcome }) => sum + (outcome.kind === "acknowledged" ? 1 : 0), 0);
  }

  get unknown(): number {
    return this.operations.reduce((sum, { outcome }) => sum + (outcome.kind === "unknown" ? 1 : 0), 0);
  }

  #draw(rng: SeededRng, writer: number, valueBytes: number): { operation: Operation; ops: OpInit[] } {
    const id = this.#nextId++;
    const writes = new Map<string, string | undefined>();
    const ops: OpInit[] = [];
    const put = (): void => {
      const key = `w/${writer}/${rng.below(24)}`;
      if (writes.has(key)) return;
      const value = valueOf(id, "x".repeat(rng.below(valueBytes)));
      writes.set(key, value);
      ops.push({ request: { case: "requestPut", value: { key: utf8(key), value: utf8(value) } } });
    };
    put();
    if (rng.below(4) === 0) {
      for (let more = rng.below(3); more >= 0; more--) put();
    }
    const operation: Operation = { id, writes, floor: this.knownRevision, outcome: { kind: "unknown" } };
    this.operations.push(operation);
    return { operation, ops };
  }

  #note(
    operation: Operation,
    reply: Reply<typeof KV.method.txn.output> | Reply<typeof KV.method.put.output>,
  ): void {
    if (reply.ok) {
      const revision = Number(reply.message.header?.revision ?? 0n);
      operation.outcome = { kind: "acknowledged", revision };
      if (revision > this.knownRevision) this.knownRevision = revision;
      return;
    }
    this.refusals.set(reply.text, (this.refusals.get(reply.text) ?? 0) + 1);
    if (definite.has(reply.code)) operation.outcome = { kind: "refused" };
  }

  async #write(client: GrpcClient, rng: SeededRng, writer: number, valueBytes: number): Promise<void> {
    const { operation, ops } = this.#draw(rng, writer, valueBytes);
    const [first] = ops;
    if (ops.length === 1 && first?.request?.case === "requestPut") {
      this.#note(operation, await client.unary(KV.method.put, first.request.value));
    } else this.#note(operation, await client.unary(KV.method.txn, { success: ops }));
  }

  async #read(client: GrpcClient, rng: SeededRng, writer: number): Promise<void> {
    const floor = this.knownRevision;
    const reply = await client.unary(KV.method.range, { key: utf8(`w/${writer}/${rng.below(24)}`) });
    if (!reply.ok) return;
    const revision = Number(reply.message.header?.revision ?? 0n);
    if (revision < floor) this.staleReads.push(`a read at revision ${revision} after ${floor} was known`);
    if (revision > this.knownRevision) this.knownRevision = revision;
  }

  /**
   * Writers that go on until `stop` says so or their connection breaks. Each has one request in flight at a time and
   * keys of its own.
   */
  async run(
    url: string,
    options: { writers: number; seed: number; stop: () => boolean; valueBytes?: number },
  ): Promise<void> {
    const clients = [new GrpcClient(url), new GrpcClient(url)];
    const writers = Array.from({ length: options.writers }, async (_, writer) => {
      const client = clients[writer % clients.length];
      if (client === undefined) throw new Error("no client");
      const rng = new SeededRng(options.seed * 1000 + writer);
      try {
        while (!options.stop()) {
          if (rng.below(8) === 0) await this.#read(client, rng, writer);
          else await this.#write(client, rng, writer, options.valueBytes ?? 400);
        }
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
      }
    });
    await Promise.all(writers);
    for (const client of clients) client.close();
  }

  /** Compares all that the store holds with all that was said; the list of what is wrong. */
  async check(url: string): Promise<string[]> {
    const client = new GrpcClient(url);
    try {
      const all = await client.call(KV.method.range, { key: utf8("\0"), rangeEnd: utf8("\0") });
      const revision = Number(all.header?.revision ?? 0n);
      const found = [...this.staleReads];
      if (revision < this.knownRevision)
        found.push(`the store is at ${revision}, known was ${this.knownRevision}`);
      this.knownRevision = Math.max(this.knownRevision, revision);
      const events = await readHistory(client, 1, revision);
      found.push(...violations(this.operations, events, revision));
      const state = finalState(events);
      if (state.size !== all.kvs.length)
        found.push(`${all.kvs.length} keys, the history leads to ${state.size}`);
      for (const kv of all.kvs) {
        const key = Buffer.from(kv.key).toString();
        if (state.get(key) !== Buffer.from(kv.value).toString())
          found.push(`${key} is not what its history says`);
      }
      return found;
    } finally {
      client.close();
    }
  }
}

/** All changes from one revision to another, as a watcher gets them. */
export async function readHistory(client: GrpcClient, from: number, to: number): Promise<HistoryEvent[]> {
  const events: HistoryEvent[] = [];
  if (to < Math.max(from, 2)) return events;
  const watch = client.stream(Watch.method.watch);
  watch.send({
    requestUnion: {
      case: "createRequest",
      value: { key: utf8("\0"), rangeEnd: utf8("\0"), startRevision: BigInt(from) },
    },
  });
  let newest = 0;
  while (newest < to) {
    const response = await watch.next(30_000);
    if (response.canceled) throw new Error(`watch from ${from} was cancelled: ${response.cancelReason}`);
    for (const { kv, type } of response.events) {
      newest = Number(kv?.modRevision ?? 0n);
      const value = type === 0 ? Buffer.from(kv?.value ?? []).toString() : undefined;
      events.push({ revision: newest, key: Buffer.from(kv?.key ?? []).toString(), value });
    }
  }
  watch.cancel();
  return events;
}

/** A lease with one key under it, both acknowledged. */
export interface LeasedKey {
  readonly id: bigint;
  readonly key: string;
  readonly ttlSeconds: bigint;
}

/** Grants a lease and puts a key under it; the put is one of the load's operations. */
export async function leaseKey(load: Load, url: string, id: bigint): Promise<LeasedKey> {
  const client = new GrpcClient(url);
  try {
    const ttlSeconds = 900n + id;
    await client.call(Lease.method.leaseGrant, { ID: id, TTL: ttlSeconds });
    const key = `leased/${id}`;
    const value = valueOf(-Number(id), "leased");
    const operation: Operation = {
      id: -Number(id),
      writes: new Map([[key, value]]),
      floor: load.knownRevision,
      outcome: { kind: "unknown" },
    };
    load.operations.push(operation);
    const answer = await client.call(KV.method.put, { key: utf8(key), value: utf8(value), lease: id });
    const revision = Number(answer.header?.revision ?? 0n);
    operation.outcome = { kind: "acknowledged", revision };
    load.knownRevision = Math.max(load.knownRevision, revision);
    return { id, key, ttlSeconds };
  } finally {
    client.close();
  }
}

/** What is wrong with leases that were acknowledged. */
export async function checkLeases(url: string, leases: readonly LeasedKey[]): Promise<string[]> {
  const client = new GrpcClient(url);
  const found: string[] = [];
  for (const { id, key, ttlSeconds } of leases) {
    const answer = await client.call(Lease.method.leaseTimeToLive, { ID: id, keys: true });
    const keys = answer.keys.map((bytes) => Buffer.from(bytes).toString());
    if (answer.grantedTTL !== ttlSeconds)
      found.push(`lease ${id} was granted ${ttlSeconds} s, now ${answer.grantedTTL} s`);
    if (keys.length !== 1 || keys[0] !== key)
      found.push(`lease ${id} holds ${JSON.stringify(keys)} instead of ${key}`);
  }
  client.close();
  return found;
}
