/**
 * A small gRPC client for the tests, straight on node:http2: it shows every answer exactly as it came (status,
 * text, message, order) and lets a test send what a well-behaved client library would not.
 */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { refusals, type RefusalName } from "../../src/errors";

/** How a call ended. */
export interface Status {
  readonly code: number;
  readonly text: string;
}

export type Reply<Output extends DescMessage> =
  { readonly ok: true; readonly message: MessageShape<Output> } | ({ readonly ok: false } & Status);

export interface CallOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  /** Sent as grpc-timeout. */
  readonly deadlineMs?: number;
  /** Ends the wait on the test's side; the reply then has code 1. */
  readonly timeoutMs?: number;
}

/** The connection broke before the server answered: nobody can say what happened to the request. */
export class ConnectionLost extends Error {
  constructor(
    message: string,
    /** False when the server certainly never saw the request. */
    readonly sent: boolean = true,
  ) {
    super(message);
  }
}

export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** A length-prefixed gRPC frame. */
export function frame(body: Uint8Array, compressed = 0): Buffer {
  const framed = Buffer.allocUnsafe(body.length + 5);
  framed[0] = compressed;
  framed.writeUInt32BE(body.length, 1);
  framed.set(body, 5);
  return framed;
}

function takeFrames(chunks: Buffer, onFrame: (body: Buffer) => void): Buffer {
  let rest = chunks;
  while (rest.length >= 5) {
    const length = rest.readUInt32BE(1);
    if (rest.length < 5 + length) break;
    onFrame(rest.subarray(5, 5 + length));
    rest = rest.subarray(5 + length);
  }
  return rest;
}

function statusOf(headers: Record<string, unknown>): Status | undefined {
  const code = headers["grpc-status"];
  if (code === undefined) return undefined;
  return { code: Number(code), text: decodeURIComponent(String(headers["grpc-message"] ?? "")) };
}

/** What a raw exchange gave. */
export interface RawReply {
  readonly httpStatus: number | undefined;
  readonly status: Status | undefined;
  readonly frames: readonly Buffer[];
  /** The stream ended by a reset with this HTTP/2 error code. */
  readonly reset: number | undefined;
}

/** One HTTP/2 connection. */
export class GrpcClient {
  readonly #session: ClientHttp2Session;
  #broken = false;
  #connected = false;
  /** The server's last word about which streams it took, when it goes away. */
  #lastTaken: number | undefined;
  #reason: string | undefined;

  constructor(readonly url: string) {
    // Megabytes: a test may have many large requests under way.
    this.#session = connect(url, { maxSessionMemory: 1000 });
    this.#session.on("error", (error) => {
      this.#broken = true;
      this.#reason ??= String(error);
    });
    this.#session.on("connect", () => {
      this.#connected = true;
    });
    this.#session.on("goaway", (code, last, data) => {
      this.#lastTaken = Math.min(this.#lastTaken ?? last, last);
      this.#reason ??= `GOAWAY ${code} ${data === undefined ? "" : Buffer.from(data).toString()}`;
    });
    this.#session.on("close", () => {
      this.#broken = true;
    });
  }

  /** The server takes no new requests on this connection. */
  get leaving(): boolean {
    return this.#broken || this.#lastTaken !== undefined;
  }

  /** Whether the server can have seen what was sent on a stream. */
  #seen(stream: ClientHttp2Stream): boolean {
    if (!this.#connected || stream.id === undefined || stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) {
      return false;
    }
    return this.#lastTaken === undefined || stream.id <= this.#lastTaken;
  }

  get session(): ClientHttp2Session {
    return this.#session;
  }

  close(): void {
    this.#session.destroy();
  }

  /**
   * Opens a stream with gRPC's headers; `more` may override or add any. Throws ConnectionLost when the connection takes
   * no new streams.
   */
  open(path: string, more: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
    try {
      return this.#session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...more,
      });
    } catch (error) {
      throw new ConnectionLost(String(error), false);
    }
  }

  /** Sends bytes as they are and returns everything that came back. */
  async raw(
    path: string,
    bytes: Uint8Array,
    options: { headers?: Readonly<Record<string, string>>; halfClose?: boolean; timeoutMs?: number } = {},
  ): Promise<RawReply> {
    const { promise, resolve, reject } = Promise.withResolvers<RawReply>();
    const stream = this.open(path, options.headers);
    let httpStatus: number | undefined;
    let status: Status | undefined;
    const frames: Buffer[] = [];
    let rest: Buffer = Buffer.alloc(0);
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), options.timeoutMs);
    stream.on("response", (headers) => {
      httpStatus = Number(headers[":status"]);
      status = statusOf(headers) ?? status;
    });
    stream.on("trailers", (trailers) => {
      status = statusOf(trailers) ?? status;
    });
    stream.on("data", (chunk: Buffer) => {
      rest = takeFrames(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]), (body) =>
        frames.push(body),
      );
    });
    stream.on("error", () => {});
    stream.on("end", () => {
      // The answer is complete; a request that the server did not read to its end is given up.
      if (status !== undefined) setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), 100);
    });
    stream.on("close", () => {
      clearTimeout(timer);
      if (httpStatus === undefined && this.#broken) {
        const reason = this.#reason ?? "closed by the server";
        reject(new ConnectionLost(`connection lost: ${reason}`, this.#seen(stream)));
      } else
        resolve({ httpStatus, status, frames, reset: stream.rstCode === 0 ? undefined : stream.rstCode });
    });
    // Node's HTTP/2 ends a GET by itself; a body after that would leave the stream open forever.
    if (options.headers?.[":method"] !== "GET") {
      stream.write(bytes);
      if (options.halfClose !== false) stream.end();
    }
    return promise;
  }

  /** A unary call. Rejects with ConnectionLost when the connection broke before the answer was complete. */
  async unary<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
    options: CallOptions = {},
  ): Promise<Reply<Output>> {
    const body = toBinary(method.input, create(method.input, request));
    const headers: Record<string, string> = { ...options.metadata };
    if (options.deadlineMs !== undefined) headers["grpc-timeout"] = `${options.deadlineMs}m`;
    const reply = await this.raw(methodPath(method), frame(body), {
      headers,
      timeoutMs: options.timeoutMs ?? 30_000,
    });
    if (reply.status === undefined) {
      // A server may end a call that is out of time by a reset; client libraries report it in these words.
      if (options.deadlineMs !== undefined && reply.reset === constants.NGHTTP2_CANCEL) {
        return { ok: false, code: 4, text: "context deadline exceeded" };
      }
      throw new ConnectionLost(
        `no status: HTTP ${String(reply.httpStatus)}, reset ${String(reply.reset)}, ${reply.frames.length} frames`,
        reply.reset !== constants.NGHTTP2_REFUSED_STREAM,
      );
    }
    if (reply.status.code !== 0) return { ok: false, ...reply.status };
    const [first] = reply.frames;
    if (first === undefined || reply.frames.length !== 1) {
      throw new Error(`${method.name} was answered with ${reply.frames.length} messages and status OK`);
    }
    return { ok: true, message: fromBinary(method.output, first) };
  }

  /** A unary call that must succeed. */
  async call<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageInitShape<Input>,
    options: CallOptions = {},
  ): Promise<MessageShape<Output>> {
    const reply = await this.unary(method, request, options);
    if (!reply.ok) throw new Error(`${method.name}: code ${reply.code}, ${reply.text}`);
    return reply.message;
  }

  /** Opens a streaming call. */
  stream<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodBiDiStreaming<Input, Output> | DescMethodServerStreaming<Input, Output>,
    options: CallOptions = {},
  ): StreamCall<Input, Output> {
    return new StreamCall(method, this.open(methodPath(method), options.metadata));
  }
}

/** The client's side of one streaming call; keeps all that the server sent, in order. */
export class StreamCall<Input extends DescMessage, Output extends DescMessage> {
  /** Messages not yet taken by `next`. */
  readonly received: MessageShape<Output>[] = [];
  /** Set when the call is over. */
  status: Status | undefined;
  /** The stream is over, with or without a status. */
  closed = false;
  #rest: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;

  constructor(
    readonly method: DescMethodStreaming<Input, Output>,
    readonly http2Stream: ClientHttp2Stream,
  ) {
    const finish = (headers: Record<string, unknown>): void => {
      this.status = statusOf(headers) ?? this.status;
    };
    http2Stream.on("response", finish);
    http2Stream.on("trailers", finish);
    http2Stream.on("data", (chunk: Buffer) => {
      const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      this.#rest = takeFrames(bytes, (body) => this.received.push(fromBinary(method.output, body)));
      this.#notify();
    });
    http2Stream.on("error", () => {});
    http2Stream.on("close", () => {
      this.closed = true;
      this.#notify();
    });
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  send(request: MessageInitShape<Input>): void {
    const input = this.method.input;
    this.http2Stream.write(frame(toBinary(input, create(input, request))));
  }

  halfClose(): void {
    this.http2Stream.end();
  }

  cancel(): void {
    this.http2Stream.close(constants.NGHTTP2_CANCEL);
  }

  /** Waits until something new came or the time is over; true when something did. */
  async activity(timeoutMs: number): Promise<boolean> {
    if (this.closed) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), timeoutMs);
    this.#wake = () => resolve(true);
    const came = await promise;
    clearTimeout(timer);
    return came;
  }

  /** The next message; throws when none comes in time or the stream ends before. */
  async next(timeoutMs = 5_000): Promise<MessageShape<Output>> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const message = this.received.shift();
      if (message !== undefined) return message;
      if (this.closed) throw new Error(`${this.method.name} ended: ${JSON.stringify(this.status)}`);
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`${this.method.name}: nothing came within ${timeoutMs} ms`);
      await this.activity(left);
    }
  }

  /** Messages until one fits; those before it are dropped. */
  async nextWhere(
    fits: (message: MessageShape<Output>) => boolean,
    timeoutMs = 5_000,
  ): Promise<MessageShape<Output>> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const message = await this.next(Math.max(1, deadline - performance.now()));
      if (fits(message)) return message;
    }
  }

  /** True when nothing came for this long. */
  async silent(forMs: number): Promise<boolean> {
    await Bun.sleep(forMs);
    return this.received.length === 0 && !this.closed;
  }

  /** Waits for the end of the call. */
  async ended(timeoutMs = 5_000): Promise<Status | undefined> {
    const deadline = performance.now() + timeoutMs;
    while (!this.closed) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`${this.method.name} did not end within ${timeoutMs} ms`);
      await this.activity(left);
    }
    return this.status;
  }
}

/** The status of one of etcd's named errors. */
export function refusal(name: RefusalName): Status {
  const { code, text } = refusals[name];
  return { code, text };
}

/** The status of a reply; OK is code 0 with an empty text. */
export function statusOfReply(reply: Reply<DescMessage>): Status {
  return reply.ok ? { code: 0, text: "" } : { code: reply.code, text: reply.text };
}
