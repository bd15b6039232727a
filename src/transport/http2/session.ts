/**
 * The server's side of one HTTP/2 connection (RFC 9113) over any socket, made for many short calls: frames are
 * read where they lie in the chunk, requests are handed on while it is read, and answers gather in one buffer.
 * Nothing that a client sends may throw out of here, or make it hold more than its limits.
 */
import type { Duplex } from "node:stream";
import { AnswerHeaders } from "./answer-headers";
import { ConnectionError, requireLength, requireNoStream, requireStream } from "./connection-error";
import { writeGoAway, writePing, writeReset, writeSettings, writeWindowUpdate } from "./control-frames";
import { FrameCutter, type FrameSink } from "./frame-cutter";
import { FrequencyLimit } from "./frequency-limit";
import type { SessionHandler, SessionOptions } from "./handler";
import { HeaderBlock } from "./header-block";
import { Output } from "./output";
import {
  errorCode,
  flag,
  frameBytesDefault,
  frameHeaderBytes,
  frameType,
  readUint32,
  setting,
  windowBytesDefault,
  windowBytesMax,
} from "./protocol";
import { readSettings } from "./peer-settings";
import { RequestDecoder, type RequestHeaders } from "./request";
import { Http2Stream } from "./stream";

/** How much a client may send on one stream, and on all, before it was read. */
const streamWindowBytesDefault = 1024 ** 2;
const connectionWindowBytes = 16 * 1024 ** 2;
/** Windows are opened again when this much was received. */
const connectionRefillBytes = connectionWindowBytes / 4;
/** What was begun and reset, per period: reset streams cost more here than at the client (CVE-2023-44487). */
const resetsMax = 20_000;
/** Frames that carry nothing, per period. Honest clients send one per call when their end crosses an answer. */
const idleFramesMax = 200_000;
const settingsMax = 200;
const periodMs = 10_000;
/** Streams that this side reset, whose client may not know it yet. */
const resetIdsMax = 64;
/** How long a client has to read why its connection ends. */
const lingerMs = 1_000;
/** Messages up to this size go straight into the output. */
const directBytesMax = 64 * 1024;

export class Http2Session implements FrameSink {
  readonly output: Output;
  readonly answers: AnswerHeaders;
  /** Bytes of answers that wait for a window or for the socket. */
  queuedBytes = 0;
  /** The session is over or about to be: nothing is read any more. */
  closing = false;
  closed = false;
  /** Something came in since the user last looked. */
  heard = true;
  /** Monotonic time of the chunk that is being read. */
  chunkAtMs = 0;
  readonly #options: SessionOptions;
  readonly #streamWindowBytes: number;
  readonly #cutter = new FrameCutter();
  readonly #decoder: RequestDecoder;
  readonly #streams = new Map<number, Http2Stream>();
  #handler: SessionHandler | undefined;
  #settingsSeen = false;
  #block: HeaderBlock | undefined;
  /** The stream of the last frame, which the next frame is nearly always about. */
  #recent: Http2Stream | undefined;
  #highestId = 0;
  #lastTakenUp = 0;
  #refusing = false;
  #sendWindow = windowBytesDefault;
  #receivedBytes = 0;
  #peerStreamWindow = windowBytesDefault;
  #peerFrameBytes = frameBytesDefault;
  /** Streams with something to send, in the order of their turns. */
  #ready: Http2Stream[] = [];
  /** Answered streams whose client has not half-closed: of this turn, and of the one before. */
  #answered: Http2Stream[] = [];
  #answeredBefore: Http2Stream[] = [];
  #readingPaused = false;
  #resetIds: number[] | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;
  readonly #resets = new FrequencyLimit(resetsMax, periodMs);
  readonly #idleFrames = new FrequencyLimit(idleFramesMax, periodMs);
  readonly #settings = new FrequencyLimit(settingsMax, periodMs);

  constructor(
    readonly socket: Duplex,
    options: SessionOptions,
  ) {
    this.#options = options;
    this.#streamWindowBytes = options.streamWindowBytes ?? streamWindowBytesDefault;
    this.#decoder = new RequestDecoder(options.headerListBytesMax);
    this.output = new Output(socket, options.budget, this);
    this.answers = new AnswerHeaders(this.output);
  }

  /** Takes the socket over, whose first bytes have not been read. */
  start(handler: SessionHandler): void {
    this.#handler = handler;
    const socket = this.socket;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("end", () => this.destroy());
    socket.on("error", (error: Error) => {
      this.#options.failed(error.message);
      this.destroy();
    });
    socket.on("close", () => this.#lost());
    this.#sendSettings();
  }

  /** Streams that are open. */
  get streams(): Iterable<Http2Stream> {
    return this.#streams.values();
  }

  /** Tells the client to begin nothing further; streams that it begins all the same are refused. */
  goAway(): void {
    if (this.#refusing || this.closing) return;
    this.#refusing = true;
    writeGoAway(this.output, this.#lastTakenUp, errorCode.noError, "");
  }

  /** Ends the connection after GOAWAY with this reason. Open streams are abandoned. */
  fail(code: number, reason: string): void {
    if (this.closing) return;
    writeGoAway(this.output, this.#lastTakenUp, code, reason);
    this.#end();
    this.#abandonStreams();
    this.#lingerOn();
  }

  /** Closes the connection when everything that was sent has left. */
  close(): void {
    if (this.closing) return;
    // Answers whose client has not half-closed end properly first.
    for (const stream of [...this.#answeredBefore, ...this.#answered]) {
      if (!stream.closed) this.resetStream(stream, errorCode.noError);
    }
    this.#end();
    this.#abandonStreams();
  }

  /** Cuts the connection. */
  destroy(): void {
    this.output.flush();
    this.closing = true;
    this.socket.destroy();
    this.#abandonStreams();
  }

  sendPing(): void {
    writePing(this.output);
  }

  // What streams need.

  /** Whether a message may go straight into the output. */
  maySend(stream: Http2Stream, bytes: number): boolean {
    return (
      bytes <= this.#sendWindow &&
      bytes <= stream.sendWindow &&
      bytes <= this.#peerFrameBytes &&
      bytes <= directBytesMax &&
      this.output.hasRoom()
    );
  }

  sent(bytes: number): void {
    this.#sendWindow -= bytes;
    this.output.turnBytes += bytes;
  }

  listStream(stream: Http2Stream): void {
    if (stream.listed) return;
    stream.listed = true;
    this.#ready.push(stream);
    this.output.schedule();
  }

  /** The stream's end was sent. */
  streamFinished(stream: Http2Stream): void {
    if (stream.remoteClosed) this.#remove(stream);
    else {
      this.#answered.push(stream);
      this.output.schedule();
    }
  }

  resetStream(stream: Http2Stream, code: number): void {
    this.#writeReset(stream.id, code);
    this.#remove(stream);
  }

  /** Opens the stream's receive window again for what was received. */
  giveBack(stream: Http2Stream): void {
    if (
      stream.paused ||
      stream.remoteClosed ||
      stream.closed ||
      stream.receivedBytes < this.#streamWindowBytes / 4
    )
      return;
    writeWindowUpdate(this.output, stream.id, stream.receivedBytes);
    stream.receivedBytes = 0;
  }

  /** To be called at the end of a turn in which something was scheduled. */
  turnEnded(): void {
    this.output.turnEnded();
    if (this.closed || this.closing) return;
    if (this.#answeredBefore.length > 0) {
      for (const stream of this.#answeredBefore) {
        if (!stream.closed) this.resetStream(stream, errorCode.noError);
      }
    }
    this.#answeredBefore = this.#answered;
    if (this.#answered.length > 0) this.#answered = [];
    this.#pump();
    this.output.flush();
    const goesOn = this.#ready.length > 0 && this.#sendWindow > 0 && !this.output.blocked;
    if (goesOn || this.#answeredBefore.length > 0) this.output.schedule();
    this.#holdBack();
  }

  // Reading.

  #receive(chunk: Buffer): void {
    if (this.closing) return;
    this.heard = true;
    this.chunkAtMs = performance.now();
    try {
      this.#cutter.read(chunk, this);
    } catch (error) {
      if (error instanceof ConnectionError) {
        this.#options.failed(error.message);
        this.fail(error.code, error.message);
      } else {
        const reason = error instanceof Error ? error.message : String(error);
        this.#options.failed(reason);
        this.fail(errorCode.internalError, "");
      }
    }
    this.#holdBack();
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
      throw new ConnectionError(errorCode.protocolError, "the first frame is not SETTINGS");
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
        this.#onReset(id, start, end);
        break;
      case frameType.settings:
        this.#onSettings(bytes, flags, id, start, end);
        break;
      case frameType.ping:
        this.#onPing(bytes, flags, id, start, end);
        break;
      case frameType.priority:
        requireStream(id, "PRIORITY");
        if (end - start !== 5) this.#streamError(id, errorCode.frameSizeError);
        this.#idle();
        break;
      case frameType.goAway:
        requireNoStream(id, "GOAWAY");
        requireLength(end - start >= 8, "GOAWAY");
        this.#idle();
        break;
      case frameType.pushPromise:
        throw new ConnectionError(errorCode.protocolError, "PUSH_PROMISE from a client");
      default:
        this.#idle();
    }
    return !this.closing;
  }

  #onData(bytes: Uint8Array, flags: number, id: number, frameStart: number, frameEnd: number): void {
    requireStream(id, "DATA");
    const length = frameEnd - frameStart;
    this.#receivedBytes += length;
    if (this.#receivedBytes > connectionWindowBytes) {
      throw new ConnectionError(errorCode.flowControlError, "more DATA than the connection's window");
    }
    let start = frameStart;
    let end = frameEnd;
    if ((flags & flag.padded) !== 0) {
      requireLength(length > 0, "DATA");
      end -= bytes[start++]!;
      if (end < start) throw new ConnectionError(errorCode.protocolError, "more padding than payload");
    }
    if (this.#receivedBytes >= connectionRefillBytes) {
      writeWindowUpdate(this.output, 0, this.#receivedBytes);
      this.#receivedBytes = 0;
    }
    const stream = this.#stream(id);
    if (stream === undefined) {
      this.#requireBegun(id, "DATA");
      this.#idle();
      return;
    }
    if (stream.remoteClosed) {
      this.#streamError(id, errorCode.streamClosed);
      return;
    }
    stream.receivedBytes += length;
    if (stream.receivedBytes > this.#streamWindowBytes) {
      this.#streamError(id, errorCode.flowControlError);
      return;
    }
    const last = (flags & flag.endStream) !== 0;
    // Told first: an answer that is given at once need not wait for the client's end.
    if (last) stream.remoteClosed = true;
    if (end > start) stream.receiver?.onData(bytes, start, end);
    else if (!last) this.#idle();
    if (last) this.#remoteEnded(stream);
    else if (stream.receivedBytes >= this.#streamWindowBytes / 4) this.giveBack(stream);
  }

  #remoteEnded(stream: Http2Stream): void {
    stream.remoteClosed = true;
    if (stream.closed) return;
    if (stream.localClosed) this.#remove(stream);
    else stream.receiver?.onEnd();
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
      this.#block = new HeaderBlock(id, flags, this.#options.headerListBytesMax);
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
    let headers: RequestHeaders;
    try {
      headers = this.#decoder.decode(bytes, start, end);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ConnectionError(errorCode.compressionError, reason);
    }
    const last = (flags & flag.endStream) !== 0;
    if (id > this.#highestId && (id & 1) === 1) {
      this.#highestId = id;
      this.#begin(id, headers, last);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      if ((id & 1) === 0) throw new ConnectionError(errorCode.protocolError, "a stream of the server's");
      this.#idle();
      if (this.#resetIds?.includes(id) === true) return;
      throw new ConnectionError(errorCode.streamClosed, "HEADERS on a closed stream");
    }
    if (stream.remoteClosed) this.#streamError(id, errorCode.streamClosed);
    else if (!last || headers.hasPseudo || headers.malformed) {
      this.#streamError(id, errorCode.protocolError);
    } else this.#remoteEnded(stream);
  }

  #begin(id: number, headers: RequestHeaders, last: boolean): void {
    if (this.#refusing || this.#streams.size >= this.#options.maxConcurrentStreams) {
      // Its id is above the one in GOAWAY, so the client knows that nothing was done and may ask elsewhere.
      this.#refuseStream(id, errorCode.refusedStream);
      return;
    }
    if (headers.tooLong) {
      this.#refuseStream(id, errorCode.enhanceYourCalm);
      return;
    }
    if (!headers.complete) {
      this.#refuseStream(id, errorCode.protocolError);
      return;
    }
    const stream = new Http2Stream(this, id, this.#peerStreamWindow);
    stream.remoteClosed = last;
    this.#streams.set(id, stream);
    this.#recent = stream;
    this.#lastTakenUp = id;
    this.#handler!.request(stream, headers);
    if (last && !stream.closed) this.#remoteEnded(stream);
  }

  #onReset(id: number, start: number, end: number): void {
    requireStream(id, "RST_STREAM");
    requireLength(end - start === 4, "RST_STREAM");
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      this.#requireBegun(id, "RST_STREAM");
      this.#idle();
      return;
    }
    this.#abandon(stream);
  }

  #onWindowUpdate(bytes: Uint8Array, id: number, start: number, end: number): void {
    requireLength(end - start === 4, "WINDOW_UPDATE");
    const more = readUint32(bytes, start) & windowBytesMax;
    if (id === 0) {
      if (more === 0) throw new ConnectionError(errorCode.protocolError, "WINDOW_UPDATE of nothing");
      this.#sendWindow += more;
      if (this.#sendWindow > windowBytesMax) {
        throw new ConnectionError(errorCode.flowControlError, "the connection's window overflows");
      }
      if (this.#ready.length > 0) this.output.schedule();
      return;
    }
    const stream = this.#stream(id);
    if (stream === undefined) {
      this.#requireBegun(id, "WINDOW_UPDATE");
      return;
    }
    if (more === 0) {
      this.#streamError(id, errorCode.protocolError);
      return;
    }
    stream.sendWindow += more;
    if (stream.sendWindow > windowBytesMax) this.#streamError(id, errorCode.flowControlError);
    else if (stream.waiting) this.listStream(stream);
  }

  #onSettings(bytes: Uint8Array, flags: number, id: number, start: number, end: number): void {
    requireNoStream(id, "SETTINGS");
    if (this.#settings.exceeded()) throw new ConnectionError(errorCode.enhanceYourCalm, "too many settings");
    const acknowledges = (flags & flag.acknowledge) !== 0;
    requireLength(acknowledges ? end === start : (end - start) % 6 === 0, "SETTINGS");
    if (acknowledges) return;
    this.#settingsSeen = true;
    readSettings(bytes, start, end, (name, value) => {
      if (name === setting.headerTableSize) this.answers.tableBytes(value);
      else if (name === setting.initialWindowSize) this.#resizeWindows(value);
      else if (name === setting.maxFrameSize) this.#peerFrameBytes = value;
    });
    this.output.frame(0, frameType.settings, flag.acknowledge, 0);
  }

  #resizeWindows(bytes: number): void {
    const more = bytes - this.#peerStreamWindow;
    this.#peerStreamWindow = bytes;
    if (more === 0) return;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += more;
      if (stream.sendWindow > windowBytesMax) {
        throw new ConnectionError(errorCode.flowControlError, "a stream's window overflows");
      }
      if (stream.waiting && stream.sendWindow > 0) this.listStream(stream);
    }
  }

  #onPing(bytes: Uint8Array, flags: number, id: number, start: number, end: number): void {
    requireNoStream(id, "PING");
    requireLength(end - start === 8, "PING");
    if ((flags & flag.acknowledge) !== 0) {
      this.#idle();
      return;
    }
    if (!this.#handler!.ping()) return;
    this.output.frame(8, frameType.ping, flag.acknowledge, 0);
    this.output.append(bytes.subarray(start, end));
  }

  /** Counts a frame that moves nothing. */
  #idle(): void {
    if (this.#idleFrames.exceeded()) {
      throw new ConnectionError(errorCode.enhanceYourCalm, "too many frames without content");
    }
  }

  #stream(id: number): Http2Stream | undefined {
    const recent = this.#recent;
    if (recent !== undefined && recent.id === id) return recent;
    const stream = this.#streams.get(id);
    if (stream !== undefined) this.#recent = stream;
    return stream;
  }

  #requireBegun(id: number, what: string): void {
    if (id > this.#highestId || (id & 1) === 0) {
      throw new ConnectionError(errorCode.protocolError, `${what} on an idle stream`);
    }
  }

  /** Ends a stream that broke the protocol. */
  #streamError(id: number, code: number): void {
    const stream = this.#streams.get(id);
    this.#writeReset(id, code);
    if (stream === undefined) this.#idle();
    else this.#abandon(stream);
  }

  /** A client may make the server reset its streams as well as reset them itself. */
  #abandon(stream: Http2Stream): void {
    const receiver = stream.receiver;
    this.#remove(stream);
    receiver?.abandon();
    if (this.#resets.exceeded()) throw new ConnectionError(errorCode.enhanceYourCalm, "too many resets");
  }

  #refuseStream(id: number, code: number): void {
    this.#writeReset(id, code);
    this.#idle();
  }

  #remove(stream: Http2Stream): void {
    stream.close();
    this.#streams.delete(stream.id);
    if (this.#recent === stream) this.#recent = undefined;
  }

  // Writing.

  #pump(): void {
    const ready = this.#ready;
    const output = this.output;
    // One pass over the list; streams that can go on are put behind the others.
    while (ready.length > 0 && this.#sendWindow > 0 && !output.blocked && output.hasRoom()) {
      const stream = ready.shift()!;
      stream.listed = false;
      if (stream.pump(this.#sendWindow, this.#peerFrameBytes)) this.listStream(stream);
      this.#handler!.wrote();
    }
  }

  #sendSettings(): void {
    const { maxConcurrentStreams, headerListBytesMax } = this.#options;
    const settings: [number, number][] = [
      [setting.initialWindowSize, this.#streamWindowBytes],
      [setting.maxHeaderListSize, headerListBytesMax],
    ];
    if (maxConcurrentStreams < 0xffff_ffff)
      settings.push([setting.maxConcurrentStreams, maxConcurrentStreams]);
    writeSettings(this.output, settings);
    writeWindowUpdate(this.output, 0, connectionWindowBytes - windowBytesDefault);
  }

  #writeReset(id: number, code: number): void {
    writeReset(this.output, id, code);
    this.#resetIds ??= [];
    if (this.#resetIds.length === resetIdsMax) this.#resetIds.shift();
    this.#resetIds.push(id);
  }

  /** Stops reading while the client does not take its answers; its flow goes on when the socket drains. */
  #holdBack(): void {
    if (this.closing || this.#readingPaused || !this.output.blocked || this.output.hasRoom()) return;
    this.#readingPaused = true;
    this.socket.pause();
  }

  #drained(): void {
    if (this.closed) return;
    this.output.drained();
    if (this.#readingPaused) {
      this.#readingPaused = false;
      this.socket.resume();
    }
    if (this.output.end > 0 || this.#ready.length > 0) this.output.schedule();
  }

  #end(): void {
    this.closing = true;
    this.#cutter.close();
    this.#block = undefined;
    this.output.finish(() => this.#lingerOn());
    // What still comes in is thrown away, or the reason might never arrive.
    if (this.#readingPaused) this.socket.resume();
  }

  /** The client ends its side when it has read everything, or it had its time. */
  #lingerOn(): void {
    if (this.closed || this.#linger !== undefined) return;
    this.#linger = setTimeout(() => this.socket.destroy(), lingerMs);
    this.#linger.unref();
  }

  #abandonStreams(): void {
    const open = [...this.#streams.values()];
    this.#streams.clear();
    this.#ready = [];
    this.#recent = undefined;
    for (const stream of open) {
      const receiver = stream.receiver;
      stream.close();
      receiver?.abandon();
    }
  }

  #lost(): void {
    if (this.closed) return;
    this.closed = true;
    this.closing = true;
    clearTimeout(this.#linger);
    this.output.close();
    this.#abandonStreams();
    this.#handler?.closed();
  }
}
