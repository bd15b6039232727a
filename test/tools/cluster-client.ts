/**
 * A client of a whole cluster with the retry rules of etcd's Go client: reads are asked again elsewhere after any
 * Unavailable, writes only when the server certainly never saw them.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ConnectionLost, GrpcClient, type Reply } from "./grpc-client";

const unavailable = 14;
const pauseMs = 25;

export class ClusterClient {
  readonly #connections = new Map<string, GrpcClient>();
  #next: number;
  /** Requests that were sent once more because of a rule above. */
  retries = 0;

  /** `endpoints` is asked at each attempt, so it may grow and shrink. */
  constructor(
    readonly endpoints: () => readonly string[],
    startAt = 0,
  ) {
    this.#next = startAt;
  }

  #connection(): GrpcClient {
    const urls = this.endpoints();
    const url = urls[this.#next % urls.length]!;
    const known = this.#connections.get(url);
    if (known !== undefined && !known.leaving) return known;
    const fresh = new GrpcClient(url);
    this.#connections.set(url, fresh);
    return fresh;
  }

  /** A lost connection whose request may have been seen counts as Unavailable, as grpc-go reports it. */
  async #attempt<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
  ): Promise<{ readonly reply: Reply<Output>; readonly sent: boolean }> {
    try {
      return { reply: await this.#connection().unary(method, request), sent: true };
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      return { reply: { ok: false, code: unavailable, text: error.message }, sent: error.sent };
    }
  }

  /** Repeats as the Go client does, for at most `patienceMs`. */
  async unary<Input extends DescMessage, Output extends DescMessage>(
    kind: "read" | "write",
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
    patienceMs = 20_000,
  ): Promise<Reply<Output>> {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const { reply, sent } = await this.#attempt(method, request);
      if (reply.ok || reply.code !== unavailable || (kind === "write" && sent)) return reply;
      if (performance.now() > deadline) return reply;
      this.retries++;
      this.#next++;
      await Bun.sleep(pauseMs);
    }
  }

  async call<Input extends DescMessage, Output extends DescMessage>(
    kind: "read" | "write",
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
  ): Promise<MessageShape<Output>> {
    const reply = await this.unary(kind, method, request);
    if (!reply.ok) throw new Error(`${method.name}: code ${reply.code}, ${reply.text}`);
    return reply.message;
  }

  close(): void {
    for (const connection of this.#connections.values()) connection.close();
  }
}
