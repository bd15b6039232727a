/**
 * The client's side of one HTTP/2 connection (RFC 9113) between members: few long-lived streams that send much, and
 * a few plain requests. What is sent in one turn leaves as one write. Nothing that the other side sends may throw
 * out of here, or make it hold more than its limits.
 */
import type { Duplex } from "node:stream";
import { ClientStream, type ClientReceiver, type SentHeaders } from "./client-stream";
import { ConnectionError, requireLength, requireNoStream, requireStream } from "./connection-error";
import { writeReset, writeSettings, writeWindowUpdate } from "./control-frames";
import { FrameCutter, type FrameSink } from "./frame-cutter";
import { FrequencyLimit } from "./frequency-limit";
import { HeaderBlock } from "./header-block";
import { type HeaderField, HpackDecoder, integerBytes } from "./hpack";
import { Output, type OutputBudget } from "./output";
import { readSettings } from "./peer-settings";
import {
  errorCode,
  flag,
  frameBytesDefault,
  frameHeaderBytes,
  frameType,
  preface,
  readUint32,
  setting,
  streamIdMax,
  windowBytesDefault,
  windowBytesMax,
} from "./protocol";

/** How much a server may send on one stream, and on all, before it was read. */
const streamWindowBytes = 4 * 1024 ** 2;
const connectionWindowBytes = 16 * 1024 ** 2;
const headerListBytesMax = 16 * 1024;
/** Frames that carry nothing, per period. */
const idleFramesMax = 20_000;
const periodMs = 10_000;
/** Nothing larger leaves in one frame, so that streams alternate. */
const sentFrameBytesMax = frameBytesDefault;
const pingBytes = 8;

export interface ClientSessionOptions {
  readonly budget: OutputBudget;
  /** Host and port, for `:authority`. */
  readonly authority: string;
  /** The connection is gone, and every open stream was abandoned before. Called once. */
  readonly closed: (reason: string) => void;
  /** A ping that {@link Http2ClientSession.ping} sent was answered. */
  readonly pinged: () => void;
}

export class Http2ClientSession implements FrameSink {
  readonly output: Output;
  readonly last = true;
  closed = false;
  /** Something came in since the user last looked. */
  heard = false;
  readonly #options: ClientSessionOptions;
  readonly #cutter = new FrameCutter("server");
  readonly #decoder = new HpackDecoder();
  readonly #streams = new Map<number, ClientStream>();
  readonly #idleFrames = new FrequencyLimit(idleFramesMax, periodMs);
  #block: HeaderBlock | undefined;
  #nextId = 1;
  #sendWindow = windowBytesDefault;
  #peerStreamWindow = windowBytesDefault;
  #receivedBytes = 0;
  #settingsSeen = false;
  #goingAway = false;
  /** Streams that want to send, in the order of their turns. */
  #ready: ClientStream[] = [];

  constructor(
    readonly socket: Duplex,
    options: ClientSessionOptions,
  ) {
    this.#options = options;
    this.output = new Output(socket, options.budget, this);
  }

  /** Takes a connected socket over and says the preface. */
  start(): void {
    const socket = this.socket;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("drain", () => {
      this.output.drained();
      if (this.output.end > 0 || this.#ready.length > 0) this.output.schedule();
    });
    socket.on("end", () => this.destroy("the connection was closed"));
    socket.on("error", (error: Error) => this.destroy(error.message));
    socket.on("close", () => this.destroy("the connection was closed"));
    this.output.reserve(preface.length);
    this.output.append(Buffer.from(preface, "latin1"));
    writeSettings(this.output, [
      [setting.enablePush, 0],
      [setting.initialWindowSize, streamWindowBytes],
    ]);
    writeWindowUpdate(this.output, 0, connectionWindowBytes - windowBytesDefault);
  }

  /** Whether further requests may be made. */
  get usable(): boolean {
    return !this.closed && !this.#goingAway && this.#nextId <= streamIdMax;
  }

  /** Streams that are open. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /** Begins a request; `hasBody` leaves the stream open for {@link ClientStream.write}. */
  request(
    method: "GET" | "POST",
    path: string,
    headers: SentHeaders,
    hasBody: boolean,
    receiver: ClientReceiver,
  ): ClientStream {
    const stream = new ClientStream(this, this.#nextId, this.#peerStreamWindow, receiver);
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    if (!hasBody) stream.localClosed = true;
    const block = requestBlock(method, path, this.#options.authority, headers);
    const flags = flag.endHeaders | (hasBody ? 0 : flag.endStream);
    this.output.frame(block.length, frameType.headers, flags, stream.id);
    this.output.append(block);
    return stream;
  }

  /** Asks for a sign of life. */
  ping(): void {
    if (this.closed) return;
    this.output.frame(pingBytes, frameType.ping, 0, 0);
    this.output.append(Buffer.from("peer-rtt", "latin1"));
  }

  /** Sends what there is room for, and its end; the other side then closes. */
  finish(): void {
    if (this.closed) return;
    for (const stream of this.#ready.splice(0)) stream.receiver?.onRoom(stream);
    this.output.finish(() => {});
  }

  /** Cuts the connection. */
  destroy(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.output.flush();
    this.output.close();
    this.#cutter.close();
    this.#block = undefined;
    this.#ready = [];
    this.socket.destroy();
    const open = [...this.#streams.values()];
    this.#streams.clear();
    for (const stream of open) stream.abandon(reason);
    this.#options.closed(reason);
  }

  // What streams need.

  /** How much of `bytes` may go into the output now, for a stream with this window. */
  roomFor(stream: ClientStream, bytes: number): number {
    if (this.output.blocked || !this.output.hasRoom()) return 0;
    return Math.min(bytes, stream.sendWindow, this.#sendWindow, sentFrameBytesMax);
  }

  sent(bytes: number): void {
    this.#sendWindow -= bytes;
    this.output.turnBytes += bytes;
  }

  /** Asks that the stream's receiver be told at the end of this turn, or when there is room. */
  list(stream: ClientStream): void {
    if (stream.listed || this.closed) return;
    stream.listed = true;
    this.#ready.push(stream);
    this.output.schedule();
  }

  reset(stream: ClientStream, code: number): void {
    if (this.closed) return;
    writeReset(this.output, stream.id, code);
    this.forget(stream);
  }

  forget(stream: ClientStream): void {
    this.#streams.delete(stream.id);
  }

  /** To be called at the end of a turn in which something was scheduled. */
  turnEnded(): void {
    this.output.turnEnded();
    this.flush();
    if (this.closed) return;
    if (this.#ready.length > 0 && !this.output.blocked && this.#sendWindow > 0) this.output.schedule();
  }

  /** What streams want to send leaves now, as far as there is room, instead of at the end of the turn. */
  flush(): void {
    if (this.closed) return;
    const ready = this.#ready;
    if (ready.length > 0 && !this.output.blocked && this.#sendWindow > 0) {
      this.#ready = [];
      for (const stream of ready) {
        stream.listed = false;
        stream.receiver?.onRoom(stream);
      }
    }
    this.output.flush();
  }

  // Reading.

  #receive(chunk: Buffer): void {
    if (this.closed) return;
    this.heard = true;
    if (!this.#settingsSeen && chunk.subarray(0, 7).toString("latin1") === "HTTP/1.") {
      this.destroy("the answer is HTTP/1, not HTTP/2");
      return;
    }
    try {
      this.#cutter.read(chunk, this);
    } catch (error) {
      this.destroy(error instanceof Error ? error.message : String(error));
    }
  }

  /** To be called by the cutter. */
  frame(bytes: Uint8Array, at: number, end: number): boolean {
    const type = bytes[at + 3]!;
    const flags = bytes[at + 4]!;
    const id = readUint32(bytes, at + 5) & windowBytesMax;
    const start = at + frameHeaderBytes;
    if (this.#block !== undefined && (type !== frameType.continuation || id !== this.#block.id)) {
      throw new ConnectionError(errorCode.protocolError, "a header block was interrupted");
    }
    if (!this.#settingsSeen && type !== frameType.settings) {
      throw new ConnectionError(errorCode.protocolError, "the first frame is not SETTINGS: no HTTP/2 here");
    }
    switch (type) {
      case frameType.data:
        this.#onData(bytes, flags, id, start, end);
        break;
      case frameType.headers:
        this.#onHeaders(bytes, flags, id, start, end);
        break;
      case frameType.continuation:
        this.#onContinuation(bytes, flags, start, end);
        break;
      case frameType.windowUpdate:
        this.#onWindowUpdate(bytes, id, start, end);
        break;
      case frameType.resetStream:
        requireStream(id, "RST_STREAM");
        requireLength(end - start === 4, "RST_STREAM");
        this.#abandon(id, `stream reset with code ${readUint32(bytes, start)}`);
        break;
      case frameType.settings:
        this.#onSettings(bytes, flags, id, start, end);
        break;
      case frameType.ping:
        this.#onPing(bytes, flags, id, start, end);
        break;
      case frameType.goAway:
        requireNoStream(id, "GOAWAY");
        requireLength(end - start >= 8, "GOAWAY");
        this.#onGoAway(bytes, start, end);
        break;
      case frameType.pushPromise:
        throw new ConnectionError(errorCode.protocolError, "PUSH_PROMISE was switched off");
      default:
        this.#idle();
    }
    return !this.closed;
  }

  #onData(bytes: Uint8Array, flags: number, id: number, frameStart: number, frameEnd: number): void {
    requireStream(id, "DATA");
    let start = frameStart;
    let end = frameEnd;
    this.#receivedBytes += end - start;
    if (this.#receivedBytes > connectionWindowBytes) {
      throw new ConnectionError(errorCode.flowControlError, "more DATA than the connection's window");
    }
    if (this.#receivedBytes >= connectionWindowBytes / 4) {
      writeWindowUpdate(this.output, 0, this.#receivedBytes);
      this.#receivedBytes = 0;
    }
    if ((flags & flag.padded) !== 0) {
      requireLength(end > start, "DATA");
      end -= bytes[start++]!;
      if (end < start) throw new ConnectionError(errorCode.protocolError, "more padding than payload");
    }
    const last = (flags & flag.endStream) !== 0;
    if (end === start && !last) this.#idle();
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.receivedBytes += frameEnd - frameStart;
    if (stream.receivedBytes > streamWindowBytes) {
      throw new ConnectionError(errorCode.flowControlError, "more DATA than the stream's window");
    }
    if (end > start) stream.receiver?.onData(bytes, start, end);
    if (last) this.#ended(stream);
    else if (stream.receivedBytes >= streamWindowBytes / 4) {
      writeWindowUpdate(this.output, id, stream.receivedBytes);
      stream.receivedBytes = 0;
    }
  }

  #onHeaders(bytes: Uint8Array, flags: number, id: number, frameStart: number, frameEnd: number): void {
    requireStream(id, "HEADERS");
    let start = frameStart;
    let end = frameEnd;
    if ((flags & flag.padded) !== 0) {
      requireLength(end > start, "HEADERS");
      end -= bytes[start++]!;
    }
    if ((flags & flag.priority) !== 0) start += 5;
    if (end < start) throw new ConnectionError(errorCode.protocolError, "more padding than payload");
    if ((flags & flag.endHeaders) !== 0) {
      this.#onBlock(id, flags, bytes, start, end);
    } else {
      this.#block = new HeaderBlock(id, flags, headerListBytesMax);
      this.#block.add(bytes, start, end);
    }
  }

  #onContinuation(bytes: Uint8Array, flags: number, start: number, end: number): void {
    const block = this.#block;
    if (block === undefined) throw new ConnectionError(errorCode.protocolError, "CONTINUATION of nothing");
    block.add(bytes, start, end);
    if ((flags & flag.endHeaders) === 0) return;
    this.#block = undefined;
    const whole = block.whole();
    this.#onBlock(block.id, block.flags, whole, 0, whole.length);
  }

  #onBlock(id: number, flags: number, bytes: Uint8Array, start: number, end: number): void {
    const headers = new Map<string, string>();
    let listBytes = 0;
    this.#decoder.decode(bytes, start, end, {
      header({ name, value, bytes: fieldBytes }: HeaderField) {
        listBytes += fieldBytes;
        if (listBytes <= headerListBytesMax) headers.set(name, value);
      },
    });
    this.#idle();
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const status = Number(headers.get(":status"));
    // Informational answers come before the real one (RFC 9110 15.2); trailers have no status.
    if (status >= 200) stream.receiver?.onHeaders(status, headers);
    if ((flags & flag.endStream) !== 0) this.#ended(stream);
  }

  #ended(stream: ClientStream): void {
    if (this.#streams.get(stream.id) !== stream) return;
    this.forget(stream);
    if (!stream.localClosed) writeReset(this.output, stream.id, errorCode.noError);
    stream.ended();
  }

  #abandon(id: number, reason: string): void {
    const stream = this.#streams.get(id);
    this.#idle();
    if (stream === undefined) return;
    this.forget(stream);
    stream.abandon(reason);
  }

  #onWindowUpdate(bytes: Uint8Array, id: number, start: number, end: number): void {
    requireLength(end - start === 4, "WINDOW_UPDATE");
    const more = readUint32(bytes, start) & windowBytesMax;
    if (more === 0) throw new ConnectionError(errorCode.protocolError, "WINDOW_UPDATE of nothing");
    const stream = id === 0 ? undefined : this.#streams.get(id);
    if (id === 0) this.#sendWindow += more;
    else if (stream !== undefined) stream.sendWindow += more;
    if (this.#sendWindow > windowBytesMax || (stream?.sendWindow ?? 0) > windowBytesMax) {
      throw new ConnectionError(errorCode.flowControlError, "a window overflows");
    }
    if (id === 0 && this.#ready.length > 0) this.output.schedule();
    if (stream !== undefined && stream.waitsForWindow) {
      stream.waitsForWindow = false;
      this.list(stream);
    }
  }

  #onSettings(bytes: Uint8Array, flags: number, id: number, start: number, end: number): void {
    requireNoStream(id, "SETTINGS");
    this.#idle();
    const acknowledges = (flags & flag.acknowledge) !== 0;
    requireLength(acknowledges ? end === start : (end - start) % 6 === 0, "SETTINGS");
    if (acknowledges) return;
    this.#settingsSeen = true;
    readSettings(bytes, start, end, (name, value) => {
      if (name === setting.initialWindowSize) this.#resizeWindows(value);
    });
    this.output.frame(0, frameType.settings, flag.acknowledge, 0);
  }

  #resizeWindows(bytes: number): void {
    const more = bytes - this.#peerStreamWindow;
    this.#peerStreamWindow = bytes;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += more;
      if (stream.sendWindow > windowBytesMax) {
        throw new ConnectionError(errorCode.flowControlError, "a stream's window overflows");
      }
      if (stream.waitsForWindow && stream.sendWindow > 0) {
        stream.waitsForWindow = false;
        this.list(stream);
      }
    }
  }

  #onPing(bytes: Uint8Array, flags: number, id: number, start: number, end: number): void {
    requireNoStream(id, "PING");
    requireLength(end - start === pingBytes, "PING");
    this.#idle();
    if ((flags & flag.acknowledge) !== 0) {
      this.#options.pinged();
      return;
    }
    this.output.frame(pingBytes, frameType.ping, flag.acknowledge, 0);
    this.output.append(bytes.subarray(start, end));
  }

  #onGoAway(bytes: Uint8Array, start: number, end: number): void {
    this.#idle();
    this.#goingAway = true;
    const code = readUint32(bytes, start + 4);
    const text = Buffer.from(bytes.subarray(start + 8, Math.min(end, start + 8 + 200))).toString("latin1");
    if (code !== errorCode.noError) {
      this.destroy(`the other side ended the connection with code ${code} ${JSON.stringify(text)}`);
    }
  }

  #idle(): void {
    if (this.#idleFrames.exceeded()) {
      throw new ConnectionError(errorCode.enhanceYourCalm, "too many frames without content");
    }
  }
}

/** Indexes of the static table. */
const authorityName = 1;
const methodIndex = { GET: 0x82, POST: 0x83 } as const;
const pathName = 4;
const schemeHttp = 0x86;

/** Every header written out: one block per connection is no place to save bytes. */
function requestBlock(method: "GET" | "POST", path: string, authority: string, headers: SentHeaders): Buffer {
  const text = (value: string): Buffer[] => [
    integerBytes(0, 7, Buffer.byteLength(value, "latin1")),
    Buffer.from(value, "latin1"),
  ];
  return Buffer.concat([
    Buffer.of(methodIndex[method], schemeHttp),
    integerBytes(0, 4, pathName),
    ...text(path),
    integerBytes(0, 4, authorityName),
    ...text(authority),
    ...headers.flatMap(([name, value]) => [Buffer.of(0), ...text(name), ...text(value)]),
  ]);
}
