/** One HTTP/2 connection at the peer port: who it is, its message stream, its requests for pieces and pages. */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { MemberId } from "../../ids";
import { FrequencyLimit } from "../http2/frequency-limit";
import type { SessionHandler, StreamReceiver } from "../http2/handler";
import { errorCode } from "../http2/protocol";
import type { RequestHeaders } from "../http2/request";
import { Http2Session } from "../http2/session";
import type { HeaderList, Http2Stream } from "../http2/stream";
import { MessageAssembler } from "./assembler";
import { Malformed } from "./bytes";
import { type PeerContext, Silence } from "./context";
import { pieceAnswer, readPieceRequest } from "./files";
import {
  commonProtocol,
  filePath,
  type Hello,
  type LaneName,
  messagePaths,
  readHello,
  refusalBody,
  type RefusalReason,
  refusals,
} from "./handshake";
import { piecesAtOnceMax, pingsMax, streamsPerConnectionMax, streamWindowBytes } from "./limits";
import type { PeerPort } from "./port";
import type { IncomingLane } from "./presence";

const headerListBytesMax = 16 * 1024;
const pingPeriodMs = 10_000;
const json: readonly [string, string] = ["content-type", "application/json"];

export class IncomingConnection implements SessionHandler {
  readonly #port: PeerPort;
  readonly #session: Http2Session;
  readonly #address: string;
  readonly #whenClosed: () => void;
  readonly #startedMs: number;
  readonly #pings = new FrequencyLimit(pingsMax, pingPeriodMs);
  #hello: Hello | undefined;
  /** A request came, and was answered one way or the other. */
  #answered = false;
  #silence: Silence | undefined;
  #lane: MessageStream | undefined;
  #pieces = 0;

  constructor(port: PeerPort, socket: Duplex, whenClosed: () => void) {
    this.#port = port;
    this.#startedMs = port.nowMs();
    this.#whenClosed = whenClosed;
    const { remoteAddress, remotePort } = socket as Socket;
    this.#address = `${remoteAddress ?? "unix"}:${remotePort ?? 0}`;
    this.#session = new Http2Session(socket, {
      maxConcurrentStreams: streamsPerConnectionMax,
      headerListBytesMax,
      budget: port.budget,
      streamWindowBytes,
      failed: (reason) => {
        // A member that dies resets its connections, and so does one that was refused: both are known already.
        if (!this.#answered) port.warnEnded(reason, undefined, this.#address);
      },
    });
  }

  start(): void {
    this.#session.start(this);
  }

  cut(): void {
    this.#session.destroy();
  }

  /** Looks after the connection, `lateMs` later than planned. */
  look(nowMs: number, lateMs: number): void {
    const session = this.#session;
    if (session.closing) return;
    const { context } = this.#port.host;
    if (this.#silence === undefined || context === undefined) {
      if (nowMs - this.#startedMs - lateMs > this.#port.helloTimeoutMs) {
        this.#port.warnEnded("no introduction in time", undefined, this.#address);
        session.fail(errorCode.noError, "this is a port for members, and no member was introduced in time");
      }
      return;
    }
    const heard = session.heard;
    session.heard = false;
    if (this.#silence.look(nowMs, heard, lateMs) <= context.deadMs) return;
    this.#port.warnEnded("silent", this.#hello?.from, this.#address);
    session.destroy();
  }

  request(stream: Http2Stream, headers: RequestHeaders): void {
    this.#answered = true;
    const [path = "", query = ""] = (headers.path ?? "").split("?", 2);
    if (headers.method === "POST" && path === messagePaths.urgent) this.#messages(stream, headers, "urgent");
    else if (headers.method === "POST" && path === messagePaths.bulk) this.#messages(stream, headers, "bulk");
    else if (headers.method === "GET" && path === filePath) this.#piece(stream, headers, query);
    else if (headers.get("content-type")?.startsWith("application/grpc") === true) this.#mistakenGrpc(stream);
    else this.#page(stream, headers.method ?? "", path);
  }

  ping(): boolean {
    if (!this.#pings.exceeded()) return true;
    this.#session.fail(errorCode.enhanceYourCalm, "too many pings");
    return false;
  }

  wrote(): void {}

  closed(): void {
    this.#lane?.abandon();
    this.#whenClosed();
  }

  #messages(stream: Http2Stream, headers: RequestHeaders, name: LaneName): void {
    const hello = this.#introduced(stream, headers);
    const { context } = this.#port.host;
    if (hello === undefined || context === undefined) return;
    if (this.#lane !== undefined) {
      this.#refuse(stream, "malformed-hello", hello);
      return;
    }
    stream.respondWith([
      [":status", "200"],
      ["keelson-protocol", String(commonProtocol(hello))],
      ...this.#port.ownHeaders(),
    ]);
    const lane = new MessageStream(this.#port, context, this.#session, this.#address, hello, name);
    this.#lane = lane;
    stream.receiver = lane;
    this.#port.host.presence.arrived(hello.from, hello.incarnation, name, lane);
    this.#port.host.greeted(hello.from);
  }

  #piece(stream: Http2Stream, headers: RequestHeaders, query: string): void {
    const hello = this.#introduced(stream, headers);
    const { context } = this.#port.host;
    if (hello === undefined || context === undefined) return;
    const wanted = readPieceRequest(query);
    if (wanted === undefined) {
      this.#refuse(stream, "malformed-hello", hello);
      return;
    }
    if (this.#pieces >= piecesAtOnceMax) {
      this.#refuse(stream, "not-ready", hello);
      return;
    }
    this.#pieces++;
    void pieceAnswer(context.handler, hello.from, wanted).then(({ headers: fields, body }) => {
      this.#pieces--;
      stream.answer(fields, body);
    });
  }

  /** Checks who asks; a refusal is answered here. A connection belongs to whom it was introduced first. */
  #introduced(stream: Http2Stream, headers: RequestHeaders): Hello | undefined {
    const hello = readHello((name) => headers.get(name));
    let reason = this.#port.judge(hello);
    const known = this.#hello;
    if (
      reason === undefined &&
      known !== undefined &&
      (known.from !== hello!.from || known.incarnation !== hello!.incarnation)
    ) {
      reason = "malformed-hello";
    }
    if (reason !== undefined) {
      this.#refuse(stream, reason, hello);
      return undefined;
    }
    this.#hello = hello;
    this.#silence ??= new Silence(this.#port.nowMs());
    return hello;
  }

  #refuse(stream: Http2Stream, reason: RefusalReason, hello: Hello | undefined): void {
    this.#port.warnRefused(reason, hello, this.#address);
    const fields: HeaderList = [
      [":status", String(refusals[reason].status)],
      json,
      ...this.#port.ownHeaders(),
    ];
    stream.answer(fields, refusalBody(reason));
  }

  /** A gRPC client shows its user the text of the status, and does not try again after this code. */
  #mistakenGrpc(stream: Http2Stream): void {
    this.#port.warnRefused("a gRPC client came to the peer port", undefined, this.#address);
    stream.refuse([
      [":status", "200"],
      ["content-type", "application/grpc"],
      ["grpc-status", "9"],
      ["grpc-message", this.#port.host.pages.mistakenText()],
    ]);
  }

  #page(stream: Http2Stream, method: string, path: string): void {
    const { status, headers, body } = this.#port.host.pages.answer(method, path);
    stream.answer([[":status", String(status)], ...headers], body);
  }
}

/** The messages of a member that come by one connection. */
class MessageStream implements StreamReceiver, IncomingLane {
  readonly #assembler: MessageAssembler;
  #gone = false;

  constructor(
    private readonly port: PeerPort,
    private readonly context: PeerContext,
    private readonly session: Http2Session,
    private readonly address: string,
    private readonly hello: Hello,
    private readonly name: LaneName,
  ) {
    const { handler, options, identity, messageBytesMax } = context;
    this.#assembler = new MessageAssembler(hello.from, identity.memberId, messageBytesMax, (message) => {
      // A superseded or dismissed connection may still have bytes in the chunk that is being read.
      if (this.#gone) return;
      try {
        handler.receive(message);
      } catch (error) {
        options.fatal(error);
      }
    });
  }

  get from(): MemberId {
    return this.hello.from;
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.#gone) return;
    this.port.host.received(this.from, end - start);
    try {
      this.#assembler.read(bytes as Buffer, start, end);
    } catch (error) {
      this.#leave();
      this.port.host.receiveFailed(this.from);
      if (!(error instanceof Malformed)) {
        this.context.options.fatal(error);
        return;
      }
      this.port.warnEnded(error.message, this.from, this.address);
      this.session.fail(errorCode.protocolError, error.message);
    }
  }

  onEnd(): void {
    this.#leave();
    this.session.close();
  }

  onDrain(): void {}

  onFinished(): void {}

  abandon(): void {
    this.#leave();
  }

  supersede(): void {
    this.#gone = true;
    this.session.fail(errorCode.noError, "a later connection of this member took the place of this one");
  }

  dismiss(): void {
    this.#gone = true;
    this.session.fail(errorCode.noError, "not a member any more");
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.port.host.presence.left(this.from, this.name, this);
  }
}
