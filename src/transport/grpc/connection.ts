/** One connection: makes calls of its requests and keeps the ping policy. */
import type { Duplex } from "node:stream";
import { errorCode } from "../http2/protocol";
import type { RequestHeaders } from "../http2/request";
import type { SessionHandler } from "../http2/handler";
import { Http2Session } from "../http2/session";
import type { Http2Stream } from "../http2/stream";
import { endWithStatus, GrpcCall } from "./call";
import { CallHead } from "./call-head";
import type { ServerCore } from "./core";
import { PingPolicy } from "./pings";
import { StreamCall } from "./stream";
import { UnaryCall } from "./unary";

export class Connection implements SessionHandler {
  readonly session: Http2Session;
  activeCalls = 0;
  /** Bytes of requests that wait for their end or their handler. */
  bufferedBytes = 0;
  #lastReadMs = performance.now();
  #pingSentAtMs: number | undefined;
  #goingAway = false;
  readonly #pings: PingPolicy;

  constructor(
    readonly core: ServerCore,
    socket: Duplex,
    readonly whenClosed: (connection: Connection) => void,
  ) {
    const { settings, budget } = core;
    this.#pings = new PingPolicy(settings.keepaliveMinTimeMs);
    this.session = new Http2Session(socket, {
      maxConcurrentStreams: settings.maxConcurrentStreams,
      headerListBytesMax: settings.headerListBytesMax,
      budget,
      failed: (error) => settings.log("debug", "a connection failed", { error }),
    });
  }

  start(): void {
    this.session.start(this);
  }

  /** Calls that are not answered yet. */
  calls(): GrpcCall[] {
    const calls: GrpcCall[] = [];
    for (const { receiver } of this.session.streams) if (receiver instanceof GrpcCall) calls.push(receiver);
    return calls;
  }

  /** Headers, data or trailers went out: forgives the client's early pings, as grpc-go does. */
  wrote(): void {
    this.#pings.wrote();
  }

  callClosed(): void {
    this.activeCalls--;
    if (this.#goingAway && this.activeCalls === 0) setImmediate(() => this.#closeIfIdle());
  }

  /** Pings a client that was silent for too long, and closes the connection when it does not answer. */
  keepAlive(nowMs: number): void {
    const { keepaliveIntervalMs, keepaliveTimeoutMs, log } = this.core.settings;
    const session = this.session;
    if (session.closing) return;
    if (session.heard) {
      session.heard = false;
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
    session.sendPing();
  }

  /** GOAWAY: no further streams, and the connection closes when the last call has ended. */
  goAway(): void {
    if (this.#goingAway) return;
    this.#goingAway = true;
    this.session.goAway();
    setImmediate(() => this.#closeIfIdle());
  }

  ping(): boolean {
    if (this.#pings.received(performance.now(), this.activeCalls > 0)) return true;
    this.core.settings.log("info", "closing a connection that pings too often", {});
    this.session.fail(errorCode.enhanceYourCalm, "too_many_pings");
    return false;
  }

  request(stream: Http2Stream, headers: RequestHeaders): void {
    const { settings } = this.core;
    let head = headers.derived as CallHead | undefined;
    if (head === undefined) headers.derived = head = new CallHead(settings.methods, headers);
    const { bound, contentType, refusal } = head;
    if (refusal !== undefined || bound === undefined) {
      if (refusal !== undefined) endWithStatus(stream, contentType, refusal.status, refusal.httpStatus);
      return;
    }
    if (bound.kind === "unary") {
      const call = new UnaryCall(this, stream, bound, headers, head);
      stream.receiver = call;
      call.open();
    } else {
      const call = new StreamCall(this, stream, bound, headers, head);
      stream.receiver = call;
      call.open();
      call.begin();
    }
  }

  closed(): void {
    this.whenClosed(this);
  }

  #closeIfIdle(): void {
    if (this.activeCalls === 0) this.session.close();
  }
}
