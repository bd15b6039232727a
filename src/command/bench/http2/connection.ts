/**
 * A lean gRPC client over HTTP/2, for measuring: it costs a few microseconds a call where a general client costs
 * tens, so that the server is what saturates. One object is one connection; frames are put together in one output
 * buffer and leave with one write per turn of the event loop.
 */
import type { Socket } from "bun";

import { HpackDecoder, type HeaderField, type HeaderSink } from "../../../transport/http2/hpack";
import {
  flag,
  frameBytesDefault,
  frameHeaderBytes,
  frameType,
  preface,
  setting,
  streamIdMax,
  windowBytesDefault,
  windowBytesMax,
  writeFrameHeader,
} from "../../../transport/http2/protocol";
import { RequestHeaderEncoder } from "./request-headers";

const grpcPrefixBytes = 5;
/** Received bytes after which a window is opened again. */
const windowRefillBytes = 2 ** 28;
const connectTimeoutMs = 5000;

/** Where to connect. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
  /** PEM texts and switches for secure targets. */
  readonly tls?: {
    readonly authority?: string;
    readonly certificate?: string;
    readonly key?: string;
    readonly skipVerification?: boolean;
  };
}

/** Who hears about one call. */
export interface CallHandler {
  /** One answer; the bytes are only valid during the call. */
  message(bytes: Uint8Array): void;
  /** The call is over: a gRPC code, 0 for success, and its text. Called exactly once. */
  end(code: number, text: string): void;
}

/** An open call. */
export interface Stream {
  /** Sends a further message of a client stream. */
  send(message: Uint8Array): void;
  /** Half-closes. */
  finish(): void;
  /** Gives up; the handler hears of it with code 1. */
  cancel(): void;
}

/** gRPC codes that this side gives itself. */
const codeCanceled = 1;
const codeUnknown = 2;
const codeInternal = 13;
const codeUnavailable = 14;

/** Hears the headers of calls that are over; the decoder must see them all the same. */
const nobody: HeaderSink = { header() {} };

class OpenCall implements Stream, HeaderSink {
  sendWindow: number;
  /** Bytes of DATA that wait for the window; undefined while nothing waits. */
  waiting: Buffer | undefined;
  finishWhenSent = false;
  finished = false;
  receivedUnacknowledged = 0;
  grpcCode = -1;
  grpcText = "";
  httpStatus = "";
  /** Bytes of an answer that is not complete yet, its prefix included, and how many of the buffer are used. */
  partial: Buffer | undefined;
  partialBytes = 0;
  over = false;

  constructor(
    readonly connection: Connection,
    readonly id: number,
    readonly handler: CallHandler,
    sendWindow: number,
  ) {
    this.sendWindow = sendWindow;
  }

  send(message: Uint8Array): void {
    this.connection.sendMessage(this, message, false);
  }

  finish(): void {
    this.connection.finishSending(this);
  }

  cancel(): void {
    this.connection.cancelCall(this);
  }

  header({ name, value }: HeaderField): void {
    if (name === "grpc-status") this.grpcCode = Number(value);
    else if (name === "grpc-message") this.grpcText = percentDecoded(value);
    else if (name === ":status") this.httpStatus = value;
  }
}

interface QueuedCall {
  readonly path: string;
  readonly message: Uint8Array | undefined;
  readonly handler: CallHandler;
  readonly ready: (call: OpenCall | undefined) => void;
}

export class Connection {
  #socket: Socket | undefined;
  #out = Buffer.allocUnsafe(65_536);
  #outStart = 0;
  #outEnd = 0;
  #flushDue = false;
  #rest: Buffer | undefined;
  readonly #decoder = new HpackDecoder();
  #encoder: RequestHeaderEncoder | undefined;
  readonly #calls = new Map<number, OpenCall>();
  readonly #queued: QueuedCall[] = [];
  readonly #waitingForWindow = new Set<OpenCall>();
  #nextId = 1;
  #sendWindow = windowBytesDefault;
  #streamSendWindow = windowBytesDefault;
  #frameBytesMax = frameBytesDefault;
  #streamsMax = Number.POSITIVE_INFINITY;
  #receivedUnacknowledged = 0;
  #headerBlock: { id: number; endStream: boolean; parts: Buffer[] } | undefined;
  #failure: string | undefined;
  #goingAway = false;
  #ready: { resolve: (connection: Connection) => void; reject: (error: Error) => void } | undefined;

  private constructor(private readonly target: Target) {}

  /** Connects and waits for the server's settings; rejects with a plain Error that says why not. */
  static open(target: Target): Promise<Connection> {
    const connection = new Connection(target);
    return connection.#connect();
  }

  get #authority(): string {
    const { host, port } = this.target;
    return `${host.includes(":") ? `[${host}]` : host}:${port}`;
  }

  async #connect(): Promise<Connection> {
    const { host, port, secure, tls } = this.target;
    const { promise, resolve, reject } = Promise.withResolvers<Connection>();
    this.#ready = { resolve, reject };
    const timeout = setTimeout(
      () => this.#fail(`no HTTP/2 settings from ${this.#authority} within ${connectTimeoutMs} ms`),
      connectTimeoutMs,
    );
    try {
      this.#socket = await Bun.connect({
        hostname: host,
        port,
        ...(secure && {
          tls: {
            serverName: host,
            ALPNProtocols: Buffer.from("\u0002h2"),
            rejectUnauthorized: tls?.skipVerification !== true,
            ...(tls?.authority !== undefined && { ca: tls.authority }),
            ...(tls?.certificate !== undefined && { cert: tls.certificate }),
            ...(tls?.key !== undefined && { key: tls.key }),
          },
        }),
        socket: {
          open: (socket) => {
            this.#socket = socket;
            this.#sendPreface();
          },
          data: (_, chunk) => this.#receive(chunk),
          drain: () => this.#flush(),
          close: () => this.#fail(`connection to ${this.#authority} closed`),
          error: (_, error) => this.#fail(error.message),
          handshake: (_, success, error) => {
            // Unverified certificates come here too; a handshake that truly failed also closes the connection.
            if (tls?.skipVerification !== true && (!success || error !== null)) {
              this.#fail(`TLS: ${error?.message ?? "handshake failed"}`);
            }
          },
        },
      });
      return await promise;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`cannot connect to ${this.#authority}: ${why}`, { cause: error });
    } finally {
      clearTimeout(timeout);
      this.#ready = undefined;
    }
  }

  /** Calls that have begun and not ended. */
  get openCalls(): number {
    return this.#calls.size + this.#queued.length;
  }

  /** One message there, and the answer back. The message is copied. */
  call(path: string, message: Uint8Array, handler: CallHandler): void {
    if (this.#mayStart()) this.#start(path, message, handler);
    else this.#enqueue({ path, message: message.slice(), handler, ready: () => {} });
  }

  /** A call that stays open for further messages. */
  openStream(path: string, handler: CallHandler): Promise<Stream> {
    if (this.#mayStart()) return Promise.resolve(this.#start(path, undefined, handler));
    return new Promise((resolve, reject) => {
      this.#enqueue({
        path,
        message: undefined,
        handler,
        ready: (call) => (call === undefined ? reject(new Error(this.#failure)) : resolve(call)),
      });
    });
  }

  /** Ends the connection; open calls hear code 14. */
  close(): void {
    this.#fail("connection closed by the client");
  }

  #mayStart(): boolean {
    return this.#failure === undefined && !this.#goingAway && this.#calls.size < this.#streamsMax;
  }

  #enqueue(call: QueuedCall): void {
    if (this.#failure !== undefined || this.#goingAway) {
      const text = this.#failure ?? "the server is going away";
      queueMicrotask(() => {
        call.ready(undefined);
        call.handler.end(codeUnavailable, text);
      });
    } else this.#queued.push(call);
  }

  #start(path: string, message: Uint8Array | undefined, handler: CallHandler): OpenCall {
    const call = new OpenCall(this, this.#nextId, handler, this.#streamSendWindow);
    this.#nextId += 2;
    if (this.#nextId > streamIdMax) this.#goingAway = true;
    this.#calls.set(call.id, call);
    const block = this.#encoder!.encode(path);
    this.#frame(frameType.headers, flag.endHeaders, call.id, block.length);
    block.copy(this.#out, this.#outEnd);
    this.#outEnd += block.length;
    if (message !== undefined) this.sendMessage(call, message, true);
    return call;
  }

  /** Queues one gRPC message of a call; `last` half-closes behind it. */
  sendMessage(call: OpenCall, message: Uint8Array, last: boolean): void {
    if (call.over || call.finished) return;
    if (last) call.finished = true;
    const bytes = grpcPrefixBytes + message.length;
    const fits = bytes <= this.#frameBytesMax && bytes <= this.#sendWindow && bytes <= call.sendWindow;
    if (fits && call.waiting === undefined) {
      this.#frame(frameType.data, last ? flag.endStream : 0, call.id, bytes);
      this.#out[this.#outEnd] = 0;
      this.#out.writeUInt32BE(message.length, this.#outEnd + 1);
      this.#out.set(message, this.#outEnd + grpcPrefixBytes);
      this.#outEnd += bytes;
      this.#sendWindow -= bytes;
      call.sendWindow -= bytes;
      return;
    }
    const framed = Buffer.allocUnsafe(bytes);
    framed[0] = 0;
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, grpcPrefixBytes);
    call.waiting = call.waiting === undefined ? framed : Buffer.concat([call.waiting, framed]);
    call.finishWhenSent ||= last;
    this.#waitingForWindow.add(call);
    this.#pump(call);
  }

  finishSending(call: OpenCall): void {
    if (call.over || call.finished) return;
    call.finished = true;
    if (call.waiting !== undefined) call.finishWhenSent = true;
    else this.#frame(frameType.data, flag.endStream, call.id, 0);
  }

  cancelCall(call: OpenCall): void {
    if (call.over) return;
    this.#reset(call.id);
    this.#end(call, codeCanceled, "canceled by the client");
  }

  #reset(id: number): void {
    this.#frame(frameType.resetStream, 0, id, 4);
    this.#out.writeUInt32BE(8, this.#outEnd);
    this.#outEnd += 4;
  }

  /** Sends as much of what waits as the windows allow. */
  #pump(call: OpenCall): void {
    while (call.waiting !== undefined) {
      const bytes = Math.min(call.waiting.length, this.#frameBytesMax, this.#sendWindow, call.sendWindow);
      if (bytes <= 0) return;
      const all = bytes === call.waiting.length;
      this.#frame(frameType.data, all && call.finishWhenSent ? flag.endStream : 0, call.id, bytes);
      call.waiting.copy(this.#out, this.#outEnd, 0, bytes);
      this.#outEnd += bytes;
      this.#sendWindow -= bytes;
      call.sendWindow -= bytes;
      call.waiting = all ? undefined : call.waiting.subarray(bytes);
    }
    this.#waitingForWindow.delete(call);
  }

  #sendPreface(): void {
    this.#reserve(preface.length);
    this.#outEnd += this.#out.write(preface, this.#outEnd, "latin1");
    const settings: [id: number, value: number][] = [
      [setting.enablePush, 0],
      [setting.initialWindowSize, windowBytesMax],
    ];
    this.#frame(frameType.settings, 0, 0, settings.length * 6);
    for (const [id, value] of settings) {
      this.#out.writeUInt16BE(id, this.#outEnd);
      this.#out.writeUInt32BE(value, this.#outEnd + 2);
      this.#outEnd += 6;
    }
    this.#openWindow(0, windowBytesMax - windowBytesDefault);
    this.#flush();
  }

  #openWindow(id: number, bytes: number): void {
    this.#frame(frameType.windowUpdate, 0, id, 4);
    this.#out.writeUInt32BE(bytes, this.#outEnd);
    this.#outEnd += 4;
  }

  /** Writes a frame's header and makes room for its payload. */
  #frame(type: number, flags: number, id: number, payloadBytes: number): void {
    this.#reserve(frameHeaderBytes + payloadBytes);
    writeFrameHeader(this.#out, this.#outEnd, payloadBytes, type, flags, id);
    this.#outEnd += frameHeaderBytes;
    if (!this.#flushDue) {
      this.#flushDue = true;
      queueMicrotask(() => this.#flush());
    }
  }

  #reserve(bytes: number): void {
    if (this.#outEnd + bytes <= this.#out.length) return;
    const used = this.#outEnd - this.#outStart;
    const target =
      used + bytes <= this.#out.length
        ? this.#out
        : Buffer.allocUnsafe(2 * Math.max(this.#out.length, used + bytes));
    this.#out.copy(target, 0, this.#outStart, this.#outEnd);
    this.#out = target;
    this.#outStart = 0;
    this.#outEnd = used;
  }

  #flush(): void {
    this.#flushDue = false;
    if (this.#socket === undefined || this.#failure !== undefined || this.#outStart === this.#outEnd) return;
    const written = this.#socket.write(this.#out, this.#outStart, this.#outEnd - this.#outStart);
    if (written > 0) this.#outStart += written;
    if (this.#outStart === this.#outEnd) {
      this.#outStart = 0;
      this.#outEnd = 0;
    }
  }

  #fail(reason: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#ready?.reject(new Error(reason));
    this.#socket?.end();
    for (const call of this.#calls.values()) this.#end(call, codeUnavailable, reason);
    for (const queued of this.#queued.splice(0)) {
      queued.ready(undefined);
      queued.handler.end(codeUnavailable, reason);
    }
  }

  #end(call: OpenCall, code: number, text: string): void {
    if (call.over) return;
    call.over = true;
    this.#calls.delete(call.id);
    this.#waitingForWindow.delete(call);
    call.handler.end(code, text);
    if (this.#queued.length > 0 && this.#mayStart()) {
      const next = this.#queued.shift()!;
      next.ready(this.#start(next.path, next.message, next.handler));
    }
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    try {
      while (bytes.length - at >= frameHeaderBytes) {
        const payloadBytes = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
        const end = at + frameHeaderBytes + payloadBytes;
        if (end > bytes.length) break;
        const id = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
        this.#handleFrame(bytes[at + 3]!, bytes[at + 4]!, id, bytes.subarray(at + frameHeaderBytes, end));
        at = end;
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
      return;
    }
    this.#rest = at === bytes.length ? undefined : Buffer.from(bytes.subarray(at));
  }

  #handleFrame(type: number, flags: number, id: number, payload: Buffer): void {
    switch (type) {
      case frameType.data:
        this.#handleData(flags, id, payload);
        break;
      case frameType.headers: {
        let body = withoutPadding(flags, payload);
        if (flags & flag.priority) body = body.subarray(5);
        this.#headerBlock = { id, endStream: (flags & flag.endStream) !== 0, parts: [body] };
        if (flags & flag.endHeaders) this.#handleHeaders();
        break;
      }
      case frameType.continuation:
        this.#headerBlock?.parts.push(payload);
        if (flags & flag.endHeaders) this.#handleHeaders();
        break;
      case frameType.resetStream: {
        const call = this.#calls.get(id);
        if (call !== undefined)
          this.#end(call, codeUnavailable, `stream reset with ${payload.readUInt32BE(0)}`);
        break;
      }
      case frameType.settings:
        if (!(flags & flag.acknowledge)) this.#handleSettings(payload);
        break;
      case frameType.ping:
        if (!(flags & flag.acknowledge)) {
          this.#frame(frameType.ping, flag.acknowledge, 0, payload.length);
          this.#outEnd += payload.copy(this.#out, this.#outEnd);
        }
        break;
      case frameType.goAway:
        this.#handleGoAway(payload);
        break;
      case frameType.windowUpdate:
        this.#handleWindowUpdate(id, payload.readUInt32BE(0) & 0x7fff_ffff);
        break;
      default:
    }
  }

  #handleSettings(payload: Buffer): void {
    let tableBytes = 4096;
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case setting.headerTableSize:
          tableBytes = value;
          break;
        case setting.maxConcurrentStreams:
          this.#streamsMax = value;
          break;
        case setting.initialWindowSize:
          for (const call of this.#calls.values()) call.sendWindow += value - this.#streamSendWindow;
          this.#streamSendWindow = value;
          break;
        case setting.maxFrameSize:
          this.#frameBytesMax = value;
          break;
        default:
      }
    }
    this.#frame(frameType.settings, flag.acknowledge, 0, 0);
    this.#encoder ??= new RequestHeaderEncoder(this.#authority, this.target.secure, tableBytes);
    for (const call of this.#waitingForWindow) this.#pump(call);
    this.#ready?.resolve(this);
  }

  #handleWindowUpdate(id: number, bytes: number): void {
    if (id === 0) {
      this.#sendWindow += bytes;
      for (const call of this.#waitingForWindow) this.#pump(call);
      return;
    }
    const call = this.#calls.get(id);
    if (call === undefined) return;
    call.sendWindow += bytes;
    if (call.waiting !== undefined) this.#pump(call);
  }

  #handleGoAway(payload: Buffer): void {
    this.#goingAway = true;
    const lastId = payload.readUInt32BE(0) & 0x7fff_ffff;
    const code = payload.readUInt32BE(4);
    const text = `server goes away with ${code} ${payload.subarray(8).toString("latin1")}`.trimEnd();
    for (const call of this.#calls.values()) {
      if (call.id > lastId) this.#end(call, codeUnavailable, text);
    }
    for (const queued of this.#queued.splice(0)) {
      queued.ready(undefined);
      queued.handler.end(codeUnavailable, text);
    }
  }

  #handleHeaders(): void {
    const { id, endStream, parts } = this.#headerBlock!;
    this.#headerBlock = undefined;
    const call = this.#calls.get(id);
    const block = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    this.#decoder.decode(block, 0, block.length, call ?? nobody);
    if (call !== undefined && endStream) this.#endByTrailers(call);
  }

  #endByTrailers(call: OpenCall): void {
    if (!call.finished) this.#reset(call.id);
    if (call.grpcCode >= 0) this.#end(call, call.grpcCode, call.grpcText);
    else if (call.httpStatus !== "200") this.#end(call, codeUnknown, `HTTP status ${call.httpStatus}`);
    else this.#end(call, codeInternal, "the answer carries no grpc-status");
  }

  #handleData(flags: number, id: number, payload: Buffer): void {
    this.#receivedUnacknowledged += payload.length;
    if (this.#receivedUnacknowledged > windowRefillBytes) {
      this.#openWindow(0, this.#receivedUnacknowledged);
      this.#receivedUnacknowledged = 0;
    }
    const call = this.#calls.get(id);
    if (call === undefined) return;
    call.receivedUnacknowledged += payload.length;
    if (call.receivedUnacknowledged > windowRefillBytes && !(flags & flag.endStream)) {
      this.#openWindow(id, call.receivedUnacknowledged);
      call.receivedUnacknowledged = 0;
    }
    this.#takeMessages(call, flags & flag.padded ? withoutPadding(flags, payload) : payload);
    if (flags & flag.endStream && !call.over) this.#endByTrailers(call);
  }

  /** Cuts the bytes of DATA frames into gRPC messages. */
  #takeMessages(call: OpenCall, chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (call.partial !== undefined) {
        at = continuePartial(call, chunk, at);
        if (call.over) return;
        continue;
      }
      const end =
        chunk.length - at < grpcPrefixBytes
          ? Number.POSITIVE_INFINITY
          : at + grpcPrefixBytes + chunk.readUInt32BE(at + 1);
      if (end > chunk.length) {
        const wanted = end === Number.POSITIVE_INFINITY ? grpcPrefixBytes : end - at;
        call.partial = Buffer.allocUnsafe(wanted);
        call.partialBytes = chunk.copy(call.partial, 0, at);
        return;
      }
      call.handler.message(chunk.subarray(at + grpcPrefixBytes, end));
      if (call.over) return;
      at = end;
    }
  }
}

/** Adds to an answer that had begun earlier, and hands it on when it is complete; answers where it ended. */
function continuePartial(call: OpenCall, chunk: Buffer, start: number): number {
  let partial = call.partial!;
  let at = start;
  const take = (): void => {
    const taken = chunk.copy(partial, call.partialBytes, at);
    call.partialBytes += taken;
    at += taken;
  };
  take();
  if (call.partialBytes < partial.length) return at;
  if (partial.length === grpcPrefixBytes) {
    const length = partial.readUInt32BE(1);
    if (length > 0) {
      const whole = Buffer.allocUnsafe(grpcPrefixBytes + length);
      partial.copy(whole);
      partial = whole;
      call.partial = whole;
      take();
      if (call.partialBytes < whole.length) return at;
    }
  }
  call.partial = undefined;
  call.handler.message(partial.subarray(grpcPrefixBytes));
  return at;
}

function withoutPadding(flags: number, payload: Buffer): Buffer {
  return flags & flag.padded ? payload.subarray(1, payload.length - payload[0]!) : payload;
}

/** grpc-message carries bytes beyond printable ASCII as %XX of its UTF-8. */
function percentDecoded(text: string): string {
  if (!text.includes("%")) return text;
  const bytes = text.replaceAll(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, "latin1").toString("utf8");
}
