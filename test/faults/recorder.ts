/** Clients that note down every request and every answer, with times of one clock, for the checkers of `test/check`. */
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { once } from "node:events";
import { GrpcCode } from "../../src/errors";
import { KV, Lease } from "../../src/proto/gen/etcd/rpc_pb";
import type { Operation, OperationKind } from "../check/history";
import { revisionOf } from "../check/describe";
import { ConnectionLost, GrpcClient, type Reply, type Status } from "../tools/grpc-client";

/** What a failure reply means for whoever asks whether the request had an effect. */
export function failure({ code, text }: Status): Operation["outcome"] {
  return { kind: "failed", definite: definiteCodes.has(code), code, text };
}

/** Codes with which a server says that a request certainly had no effect. */
const definiteCodes: ReadonlySet<number> = new Set([
  GrpcCode.invalidArgument,
  GrpcCode.notFound,
  GrpcCode.outOfRange,
  GrpcCode.failedPrecondition,
  GrpcCode.resourceExhausted,
]);

const methods = {
  range: KV.method.range,
  put: KV.method.put,
  deleteRange: KV.method.deleteRange,
  txn: KV.method.txn,
  compaction: KV.method.compact,
  leaseGrant: Lease.method.leaseGrant,
  leaseRevoke: Lease.method.leaseRevoke,
  leaseTimeToLive: Lease.method.leaseTimeToLive,
} as const;
type UnaryKind = keyof typeof methods;
type Input<Kind extends UnaryKind> = (typeof methods)[Kind]["input"];
type Output<Kind extends UnaryKind> = (typeof methods)[Kind]["output"];

/** All that the clients of one run did. */
export class Recorder {
  readonly operations: Operation[] = [];
  /** Answers with success. */
  succeeded = 0;
  /** The newest revision anyone was told of. */
  revision = 1;
  /** Failures by text. */
  readonly failures = new Map<string, number>();
  #nextClient = 1;
  #nextId = 1;

  nextClient(): number {
    return this.#nextClient++;
  }

  nextId(): number {
    return this.#nextId++;
  }

  note(operation: Operation): void {
    this.operations.push(operation);
    const { outcome } = operation;
    if (outcome.kind === "replied") {
      this.succeeded++;
      this.revision = Math.max(this.revision, revisionOf(operation) ?? 0);
      return;
    }
    const text = outcome.kind === "failed" ? outcome.text : "no answer";
    this.failures.set(text, (this.failures.get(text) ?? 0) + 1);
  }
}

/** Where a client may connect. */
export interface Endpoint {
  readonly member: string;
  readonly url: string;
}

/** One client with at most one request under way. It moves on to the next endpoint when one fails it. */
export class RecordingClient {
  readonly id: number;
  #endpoints: readonly Endpoint[];
  #at: number;
  #connection: GrpcClient | undefined;

  constructor(
    readonly recorder: Recorder,
    endpoints: readonly Endpoint[],
    /** How long it waits for an answer; what then happened to the request is unknown. */
    readonly timeoutMs = 4_000,
  ) {
    this.id = recorder.nextClient();
    this.#endpoints = endpoints;
    this.#at = this.id % endpoints.length;
  }

  get endpoint(): Endpoint {
    return this.#endpoints[this.#at % this.#endpoints.length]!;
  }

  /** For members that come and go. */
  setEndpoints(endpoints: readonly Endpoint[]): void {
    this.#endpoints = endpoints;
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  async #moveOn(): Promise<void> {
    this.close();
    this.#at++;
    await Bun.sleep(30);
  }

  /** A live connection; undefined when the endpoint cannot be reached, and then nothing was sent. */
  async #connect(): Promise<GrpcClient | undefined> {
    if (this.#connection !== undefined && !this.#connection.leaving) return this.#connection;
    this.close();
    const client = new GrpcClient(this.endpoint.url);
    try {
      await once(client.session, "connect", { signal: AbortSignal.timeout(1_000) });
    } catch {
      client.close();
      await this.#moveOn();
      return undefined;
    }
    this.#connection = client;
    return client;
  }

  /** Sends one request and notes what becomes of it; the answer, or undefined when there was none with success. */
  async call<Kind extends UnaryKind>(
    kind: Kind,
    init: MessageInitShape<Input<Kind>>,
  ): Promise<MessageShape<Output<Kind>> | undefined> {
    const method = methods[kind] as DescMethodUnary<DescMessage, DescMessage>;
    const request = create(method.input, init as never);
    return (await this.#exchange(kind, request, (client) =>
      client.unary(method, request, { timeoutMs: this.timeoutMs }),
    )) as MessageShape<Output<Kind>> | undefined;
  }

  /** Renews a lease once; the TTL of the answer, 0 when there is no such lease, undefined without an answer. */
  async keepAlive(lease: bigint): Promise<number | undefined> {
    const method = Lease.method.leaseKeepAlive;
    const request = create(method.input, { ID: lease });
    const message = await this.#exchange("leaseKeepAlive", request, async (client) => {
      const stream = client.stream(method);
      stream.send(request);
      try {
        return { ok: true, message: await stream.next(this.timeoutMs) };
      } catch {
        const { status } = stream;
        if (status !== undefined && status.code !== 0) return { ok: false, ...status };
        throw new ConnectionLost("no answer to a renewal");
      } finally {
        stream.cancel();
      }
    });
    return message === undefined ? undefined : Number((message as { TTL: bigint }).TTL);
  }

  async #exchange(
    kind: OperationKind,
    request: unknown,
    send: (client: GrpcClient) => Promise<Reply<DescMessage>>,
  ): Promise<unknown> {
    const connection = await this.#connect();
    if (connection === undefined) return undefined;
    const { member } = this.endpoint;
    const id = this.recorder.nextId();
    const callAt = performance.now();
    const note = (outcome: unknown, returnAt: number): void => {
      this.recorder.note({
        id,
        client: this.id,
        member,
        kind,
        request,
        callAt,
        returnAt,
        outcome,
      } as Operation);
    };
    try {
      const reply = await send(connection);
      const returnAt = performance.now();
      if (reply.ok) {
        note({ kind: "replied", reply: reply.message }, returnAt);
        return reply.message;
      }
      note(failure(reply), returnAt);
      if (!definiteCodes.has(reply.code)) await this.#moveOn();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      note({ kind: "unanswered" }, Infinity);
      await this.#moveOn();
    }
    return undefined;
  }
}
