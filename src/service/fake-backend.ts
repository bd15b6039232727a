/** A KV store in memory with a hub, and calls that tests can cancel, for the tests of the services. */
import { create } from "@bufbuild/protobuf";
import { assert } from "../assert";
import { compareBytes, fromBinaryString, toBinaryString } from "../bytes";
import { refuse } from "../errors";
import type { LeaseId } from "../ids";
import type { KeyValue } from "../proto/gen/etcd/kv_pb";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import { Watch } from "../proto/gen/etcd/rpc_pb";
import type {
  DeleteRangeRequest,
  DeleteRangeResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse,
} from "../proto/gen/etcd/rpc_pb";
import {
  DeleteRangeResponseSchema,
  LeaseGrantResponseSchema,
  RangeRequest_SortOrder as SortOrder,
  RangeResponseSchema,
  ResponseHeaderSchema,
  ResponseOpSchema,
  TxnResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { Answer, Call, ServerStream } from "../transport/call";
import { WatchHub } from "../watch/hub";
import { ModelStore, testHeader } from "../watch/test-support";
import type { KvBackend, WatchBackend } from "./backend";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";

/** A call whose caller can leave. */
export class FakeCall implements Call {
  readonly method = Watch.method.watch;
  readonly door = "grpc";
  readonly deadlineAtMs = undefined;
  canceled = false;
  readonly #listeners: (() => void)[] = [];

  metadata(): string | undefined {
    return undefined;
  }

  onCancel(listener: () => void): void {
    if (this.canceled) listener();
    else this.#listeners.push(listener);
  }

  cancel(): void {
    this.canceled = true;
    for (const listener of this.#listeners.splice(0)) listener();
  }
}

/** Lets everything that is ready to run do so. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** The one client's side of a stream: requests are pushed, answers collected within a capacity. */
export class FakeStream<Input extends DescMessage, Output extends DescMessage> implements ServerStream<
  Input,
  Output
> {
  readonly sent: Answer<Output>[] = [];
  readonly #queue: MessageShape<Input>[] = [];
  #halfClosed = false;
  #wake: (() => void) | undefined;
  #drained: (() => void)[] = [];
  room: number;

  constructor(readonly capacity = Infinity) {
    this.room = capacity;
  }

  push(request: MessageShape<Input>): void {
    this.#queue.push(request);
    this.#wake?.();
  }

  halfClose(): void {
    this.#halfClosed = true;
    this.#wake?.();
  }

  /** The client reads everything. */
  drain(): void {
    this.room = this.capacity;
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Requests that the service did not take yet. */
  get unread(): number {
    return this.#queue.length;
  }

  get requests(): AsyncIterable<MessageShape<Input>> {
    return this.#read();
  }

  async *#read() {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) yield next;
      else if (this.#halfClosed) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  send(message: Answer<Output>): boolean {
    assert(this.room > 0, "sent to a stream that had refused");
    this.sent.push(message);
    return --this.room > 0;
  }

  drained(): Promise<void> {
    if (this.room > 0) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }
}

/** Everything that the services depend on. */
export class FakeBackend implements KvBackend, WatchBackend {
  readonly store = new ModelStore();
  readonly hub = new WatchHub({ history: this.store, header: testHeader, wake: () => this.#wake() });
  readonly #live = new Map<string, KeyValue>();
  readonly #leases = new Set<LeaseId>();
  readonly #stopListeners = new Set<() => void>();
  #lastLease = 0x1000n;
  stopping = false;
  /** Runs before each operation; a test may throw or change the store in it. */
  before: (operation: string) => void = () => {};

  monotonicMs(): number {
    return 0;
  }

  onStop(listener: () => void): () => void {
    if (this.stopping) listener();
    else this.#stopListeners.add(listener);
    return () => this.#stopListeners.delete(listener);
  }

  stop(): void {
    this.stopping = true;
    for (const listener of this.#stopListeners) listener();
  }

  get listeners(): number {
    return this.#stopListeners.size;
  }

  get keys(): string[] {
    return [...this.#live.keys()].sort();
  }

  /** Makes a lease known. */
  lease(id: LeaseId): LeaseId {
    this.#leases.add(id);
    return id;
  }

  put(key: string, value: string, lease: LeaseId = 0n): void {
    if (lease !== 0n && !this.#leases.has(lease)) throw refuse("leaseNotFound");
    const changes = this.store.write([key, value]);
    assert(changes !== undefined, "a put changes");
    const old = this.#live.get(key);
    this.#live.set(
      key,
      create(KeyValueSchema, {
        key: fromBinaryString(key),
        value: Buffer.from(value),
        createRevision: old?.createRevision ?? BigInt(changes.revision),
        modRevision: BigInt(changes.revision),
        version: (old?.version ?? 0n) + 1n,
        lease,
      }),
    );
    this.hub.publish(changes);
    this.hub.flush();
  }

  remove(key: string): bigint {
    const changes = this.store.write([key, null]);
    if (changes === undefined) return 0n;
    this.#live.delete(key);
    this.hub.publish(changes);
    this.hub.flush();
    return 1n;
  }

  revoke(lease: LeaseId): void {
    this.#leases.delete(lease);
    for (const [key, kv] of this.#live) if (kv.lease === lease) this.remove(key);
  }

  async range(request: RangeRequest): Promise<RangeResponse> {
    await this.#enter("range");
    return this.#range(request);
  }

  async deleteRange(request: DeleteRangeRequest): Promise<DeleteRangeResponse> {
    await this.#enter("deleteRange");
    if (request.key.length === 0) throw refuse("emptyKey");
    const deleted = this.remove(toBinaryString(request.key));
    return create(DeleteRangeResponseSchema, { header: this.#header(), deleted });
  }

  async txn(request: TxnRequest): Promise<TxnResponse> {
    await this.#enter("txn");
    const compare = request.compare[0]!;
    if (compare.key.length === 0) throw refuse("emptyKey");
    const revision = this.#live.get(toBinaryString(compare.key))?.createRevision ?? 0n;
    const succeeded = revision === compare.targetUnion.value;
    const responses = (succeeded ? request.success : request.failure).map(({ request: op }) => {
      switch (op.case) {
        case "requestPut":
          this.put(toBinaryString(op.value.key), Buffer.from(op.value.value).toString(), op.value.lease);
          return create(ResponseOpSchema, {});
        case "requestDeleteRange":
          this.remove(toBinaryString(op.value.key));
          return create(ResponseOpSchema, {});
        case "requestRange":
          return create(ResponseOpSchema, {
            response: { case: "responseRange", value: this.#range(op.value) },
          });
        default:
          throw new Error("not in these programs");
      }
    });
    return create(TxnResponseSchema, { header: this.#header(), succeeded, responses });
  }

  async leaseGrant(request: LeaseGrantRequest): Promise<LeaseGrantResponse> {
    await this.#enter("leaseGrant");
    const ID = this.lease(++this.#lastLease);
    return create(LeaseGrantResponseSchema, { header: this.#header(), ID, TTL: request.TTL });
  }

  async #enter(operation: string): Promise<void> {
    await Promise.resolve();
    this.before(operation);
  }

  #header() {
    return create(ResponseHeaderSchema, { revision: BigInt(this.store.revision), memberId: 7n });
  }

  #range(request: RangeRequest): RangeResponse {
    const inRange = (key: Uint8Array) =>
      request.rangeEnd.length === 0
        ? compareBytes(key, request.key) === 0
        : compareBytes(key, request.key) >= 0 && compareBytes(key, request.rangeEnd) < 0;
    const up = request.sortOrder === SortOrder.DESCEND ? -1 : 1;
    const kvs = [...this.#live.values()]
      .filter(({ key }) => inRange(key))
      .filter(
        ({ createRevision }) =>
          request.maxCreateRevision === 0n || createRevision <= request.maxCreateRevision,
      )
      .sort((a, b) => up * Number(a.createRevision - b.createRevision));
    return create(RangeResponseSchema, {
      header: this.#header(),
      kvs: request.limit > 0n ? kvs.slice(0, Number(request.limit)) : kvs,
      count: BigInt(kvs.length),
    });
  }

  #wake(): void {
    setImmediate(() => {
      while (this.hub.work()) {
        // Until nobody is behind.
      }
    });
  }
}
