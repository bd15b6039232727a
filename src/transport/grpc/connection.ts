/** One HTTP/2 connection: routes its streams to calls and keeps the ping policy. */
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { GrpcCode, StoreError } from "../../errors";
import { unimplemented } from "../methods";
import { endWithStatus } from "./call";
import type { GrpcCall } from "./call";
import type { ServerCore } from "./core";
import { grpcContentType, parseTimeoutMs } from "./metadata";
import { PingPolicy } from "./pings";
import { StreamCall } from "./stream";
import { UnaryCall } from "./unary";

const noError = 0;
const refusedStream = 7;
const enhanceYourCalm = 11;
const endStreamFlag = 1;

export class Connection {
  activeCalls = 0;
  /** Bytes of requests that wait for their end or their handler. */
  bufferedBytes = 0;
  #lastReadMs = performance.now();
  /** Something came in since the last look at the clock; reading it for every frame would cost more. */
  #readSinceLook = false;
  #pingSentAtMs: number | undefined;
  /** The newest stream that was taken up: what GOAWAY names. */
  #lastStreamId = 0;
  #goingAway = false;
  readonly #pings: PingPolicy;

  constructor(
    readonly core: ServerCore,
    readonly session: ServerHttp2Session,
  ) {
    this.#pings = new PingPolicy(core.settings.keepaliveMinTimeMs);
    session.on("stream", (stream, headers, flags) => this.#onStream(stream, headers, flags));
    session.on("ping", () => this.#onPing());
  }

  /** Headers, data or trailers went out: forgives the client's early pings, as grpc-go does. */
  wrote(): void {
    this.#pings.wrote();
  }

  read(): void {
    this.#readSinceLook = true;
  }

  callClosed(): void {
    this.activeCalls--;
    if (this.#goingAway && this.activeCalls === 0) setImmediate(() => this.#closeIfIdle());
  }

  /** Pings a client that was silent for too long, and closes the connection when it does not answer. */
  keepAlive(nowMs: number): void {
    const { keepaliveIntervalMs, keepaliveTimeoutMs, log } = this.core.settings;
    const session = this.session;
    if (session.destroyed) return;
    if (this.#readSinceLook) {
      this.#readSinceLook = false;
      this.#lastReadMs = nowMs;
    }
    if (this.#pingSentAtMs !== undefined) {
      if (this.#lastReadMs >= this.#pingSentAtMs) this.#pingSentAtMs = undefined;
      else if (nowMs - this.#pingSentAtMs >= keepaliveTimeoutMs) {
        log("info", "closing a connection that does not answer pings", {});
        session.destroy();
      }
      return;
    }
    if (nowMs - this.#lastReadMs < keepaliveIntervalMs) return;
    this.#pingSentAtMs = nowMs;
    session.ping(() => this.read());
  }

  /** GOAWAY: no further streams, and the connection closes when the last call has ended. */
  goAway(): void {
    if (this.#goingAway || this.session.destroyed) return;
    this.#goingAway = true;
    this.session.goaway(noError, this.#lastStreamId);
    setImmediate(() => this.#closeIfIdle());
  }

  #closeIfIdle(): void {
    if (this.activeCalls === 0 && !this.session.destroyed) this.session.close();
  }

  #onPing(): void {
    this.read();
    if (this.#pings.received(performance.now(), this.activeCalls > 0)) return;
    this.core.settings.log("info", "closing a connection that pings too often", {});
    this.session.goaway(enhanceYourCalm, this.#lastStreamId, Buffer.from("too_many_pings"));
    // The reason must leave before the connection does.
    setImmediate(() => this.session.destroy());
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number): void {
    this.read();
    stream.on("error", ignoreStreamError);
    if (this.#goingAway) {
      // Its id is above the one in GOAWAY, so the client knows that nothing was done and may ask elsewhere.
      stream.close(refusedStream);
      return;
    }
    this.#lastStreamId = stream.id ?? this.#lastStreamId;
    const contentType = grpcContentType(headers["content-type"]);
    if (contentType === undefined) {
      const shown = JSON.stringify(headers["content-type"] ?? "");
      refuseRequest(stream, 415, GrpcCode.invalidArgument, `invalid gRPC request content-type ${shown}`);
      return;
    }
    if (headers[":method"] !== "POST") {
      const shown = JSON.stringify(headers[":method"] ?? "");
      refuseRequest(
        stream,
        405,
        GrpcCode.internal,
        `Received a HEADERS frame with :method ${shown} which should be POST`,
      );
      return;
    }
    const timeout = headers["grpc-timeout"];
    const timeoutMs = timeout === undefined ? undefined : parseTimeoutMs(String(timeout));
    if (typeof timeoutMs === "string") {
      refuseRequest(stream, 400, GrpcCode.internal, timeoutMs);
      return;
    }
    const path = headers[":path"] ?? "";
    const bound = this.core.settings.methods.get(path);
    if (bound === undefined) {
      endWithStatus(stream, contentType, unimplemented(this.core.settings.methods, path));
      return;
    }
    const encoding = headers["grpc-encoding"];
    if (encoding !== undefined && encoding !== "identity") {
      const text = `grpc: Decompressor is not installed for grpc-encoding ${JSON.stringify(encoding)}`;
      endWithStatus(stream, contentType, new StoreError(GrpcCode.unimplemented, text));
      return;
    }
    const Kind = bound.kind === "unary" ? UnaryCall : StreamCall;
    const call = new Kind(this, stream, bound, headers, contentType);
    call.open(timeoutMs);
    if (call instanceof StreamCall) call.begin();
    this.#listen(stream, call, (flags & endStreamFlag) !== 0);
  }

  #listen(stream: ServerHttp2Stream, call: GrpcCall, endsHere: boolean): void {
    if (endsHere) {
      stream.resume();
      call.onEnd();
      return;
    }
    stream.on("data", (chunk: Buffer) => {
      this.read();
      call.onData(chunk);
    });
    stream.on("end", () => call.onEnd());
  }
}

/** Every stream needs a listener, or a reset would be an uncaught error; what matters is its "close". */
function ignoreStreamError(): void {}

function refuseRequest(stream: ServerHttp2Stream, httpStatus: number, code: GrpcCode, text: string): void {
  endWithStatus(stream, "application/grpc", new StoreError(code, text), httpStatus);
}
