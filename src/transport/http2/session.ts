/**
 * The server's side of one HTTP/2 connection (RFC 9113) over any socket, made for many short calls: frames are
 * read where they lie in the chunk, requests are handed on while it is read, and answers gather in one buffer.
 * Nothing that a client sends may throw out of here, or make it hold more than its limits.
 */
import type { Duplex } from "node:stream";
import { AnswerHeaders } from "./answer-headers";
import { FrequencyLimit } from "./frequency-limit";
import { Output, type OutputBudget } from "./output";
import {
  errorCode,
  flag,
  frameBytesDefault,
  frameBytesMax,
  frameHeaderBytes,
  frameType,
  preface,
  readUint32,
  setting,
  windowBytesDefault,
  windowBytesMax,
  writeFrameHeader,
  writeUint32,
} from "./protocol";
import { RequestDecoder, type RequestHeaders } from "./request";
import { Http2Stream } from "./stream";

/** Who hears about one connection. */
export interface SessionHandler {
  /** A request came; its body follows by way of the stream's receiver, or `stream.remoteClosed` is set. */
  request(stream: Http2Stream, headers: RequestHeaders): void;
  /** A ping came in; false when it was one too many and the session was ended. */
  ping(): boolean;
  /** The connection is gone, and every open stream was abandoned before. */
  closed(): void;
}

export interface SessionOptions {
  /** Further streams are refused; 4294967295 = any number. */
  readonly maxConcurrentStreams: number;
  /** A longer header list (RFC 9113 6.5.2) makes its request fail, a longer block the connection. */
  readonly headerListBytesMax: number;
  readonly budget: OutputBudget;
  readonly failed: (reason: string) => void;
}

/** How much a client may send on one stream, and on all, before it was read. */
const streamWindowBytes = 1024 ** 2;
const connectionWindowBytes = 16 * 1024 ** 2;
/** Windows are opened again when this much was received. */
const streamRefillBytes = streamWindowBytes / 4;
const connectionRefillBytes = connectionWindowBytes / 4;
/** Frames of one header block; more are a flood. */
const continuationsMax = 128;
/** What was begun and reset, per period: reset streams cost more here than at the client (CVE-2023-44487). */
const resetsMax = 4_000;
/** Frames that carry nothing, per period. */
const idleFramesMax = 20_000;
const settingsMax = 200;
const periodMs = 10_000;
/** Streams that this side reset, whose client may not know it yet. */
const resetIdsMax = 64;
/** How long a client has to read why its connection ends. */
const lingerMs = 1_000;
/** Messages up to this size go straight into the output. */
const directBytesMax = 64 * 1024;

const prefaceBytes = Buffer.from(preface, "latin1");
const pingPayload = Buffer.from("keelson?", "latin1");

/** Ends the connection with GOAWAY and this code. */
class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

interface HeaderBlock {
  readonly id: number;
  readonly flags: number;
  readonly parts: Uint8Array[];
  bytes: number;
}

export class Http2Session {
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
  readonly #decoder: RequestDecoder;
  readonly #streams = new Map<number, Http2Stream>();
  #handler: SessionHandler | undefined;
  #prefaceSeen = 0;
  #settingsSeen = false;
  /** The start of a frame whose rest has not come. */
  #partial: Buffer | undefined;
  #partialBytes = 0;
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
  /** The DATA frame at the end of the output, which may still grow. */
  #frameAt = -1;
  #frameStream: Http2Stream | undefined;
  #frameBytes = 0;
  #frameWrite = 0;
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
    this.#writeGoAway(errorCode.noError, "");
  }

  /** Ends the connection after GOAWAY with this reason. Open streams are abandoned. */
  fail(code: number, reason: string): void {
    if (this.closing) return;
    this.#writeGoAway(code, reason);
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
    this.output.frame(pingPayload.length, frameType.ping, 0, 0);
    this.output.append(pingPayload);
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

  /** Adds to the stream's DATA frame if that is the last thing in the output. The output has room. */
  extendFrame(stream: Http2Stream, bytes: number): boolean {
    const output = this.output;
    const whole = this.#frameBytes + bytes;
    if (
      this.#frameStream !== stream ||
      this.#frameWrite !== output.writes ||
      whole > frameBytesDefault ||
      this.#frameAt + frameHeaderBytes + this.#frameBytes !== output.end
    ) {
      return false;
    }
    writeFrameHeader(output.buffer, this.#frameAt, whole, frameType.data, 0, stream.id);
    this.#frameBytes = whole;
    return true;
  }

  beginFrame(stream: Http2Stream, at: number, bytes: number): void {
    this.#frameStream = stream;
    this.#frameAt = at;
    this.#frameBytes = bytes;
    this.#frameWrite = this.output.writes;
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
    if (stream.paused || stream.remoteClosed || stream.closed || stream.receivedBytes < streamRefillBytes)
      return;
    this.#writeWindowUpdate(stream.id, stream.receivedBytes);
    stream.receivedBytes = 0;
  }

  /** To be called at the end of a turn in which something was scheduled. */
  turnEnded(): void {
    this.output.turnEnded();
    if (this.closed || this.closing) return;
    this.#frameStream = undefined;
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
      this.#read(chunk);
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

  #read(chunk: Buffer): void {
    let at = 0;
    while (this.#prefaceSeen < prefaceBytes.length) {
      if (at === chunk.length) return;
      if (chunk[at++] !== prefaceBytes[this.#prefaceSeen++]) {
        throw new ConnectionError(errorCode.protocolError, "no HTTP/2 preface");
      }
    }
    if (this.#partial !== undefined) {
      at = this.#completePartial(chunk, at);
      if (at < 0) return;
    }
    const end = chunk.length;
    while (end - at >= frameHeaderBytes) {
      if (this.closing) return;
      const next = at + frameHeaderBytes + payloadBytes(chunk, at);
      if (next > end) break;
      this.#frame(chunk, at, next);
      at = next;
    }
    if (at < end && !this.closing) {
      this.#partial = Buffer.from(chunk.subarray(at));
      this.#partialBytes = end - at;
    }
  }

  /** Adds to a frame that began in an earlier chunk; answers where the next begins, or -1 while it is not whole. */
  #completePartial(chunk: Buffer, start: number): number {
    let at = start;
    for (;;) {
      let partial = this.#partial!;
      const have = this.#partialBytes;
      const whole = have < frameHeaderBytes ? frameHeaderBytes : frameHeaderBytes + payloadBytes(partial, 0);
      if (have === whole) {
        this.#partial = undefined;
        this.#frame(partial, 0, whole);
        return this.closing ? -1 : at;
      }
      if (at === chunk.length) return -1;
      const taken = Math.min(whole - have, chunk.length - at);
      if (have + taken > partial.length) {
        // A length alone reserves nothing.
        const grown = Buffer.allocUnsafeSlow(Math.min(whole, Math.max(64, 2 * (have + taken))));
        partial.copy(grown, 0, 0, have);
        this.#partial = partial = grown;
      }
      chunk.copy(partial, have, at, at + taken);
      this.#partialBytes += taken;
      at += taken;
    }
  }

  #frame(bytes: Uint8Array, at: number, end: number): void {
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
        if (id !== 0) throw new ConnectionError(errorCode.protocolError, "GOAWAY on a stream");
        requireLength(end - start >= 8, "GOAWAY");
        this.#idle();
        break;
      case frameType.pushPromise:
        throw new ConnectionError(errorCode.protocolError, "PUSH_PROMISE from a client");
      default:
        this.#idle();
    }
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
      this.#writeWindowUpdate(0, this.#receivedBytes);
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
    if (stream.receivedBytes > streamWindowBytes) {
      this.#streamError(id, errorCode.flowControlError);
      return;
    }
    const last = (flags & flag.endStream) !== 0;
    // Told first: an answer that is given at once need not wait for the client's end.
    if (last) stream.remoteClosed = true;
    if (end > start) stream.receiver?.onData(bytes, start, end);
    else if (!last) this.#idle();
    if (last) this.#remoteEnded(stream);
    else if (stream.receivedBytes >= streamRefillBytes) this.giveBack(stream);
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
      const part = Buffer.from(bytes.subarray(start, end));
      this.#block = { id, flags, parts: [part], bytes: part.length };
    }
  }

  #onContinuation(bytes: Uint8Array, flags: number, start: number, end: number): void {
    const block = this.#block;
    if (block === undefined) throw new ConnectionError(errorCode.protocolError, "CONTINUATION of nothing");
    block.parts.push(Buffer.from(bytes.subarray(start, end)));
    block.bytes += end - start;
    if (
      block.parts.length > continuationsMax ||
      block.bytes > this.#options.headerListBytesMax + frameBytesDefault
    ) {
      throw new ConnectionError(errorCode.enhanceYourCalm, "header block too large");
    }
    if ((flags & flag.endHeaders) === 0) return;
    this.#block = undefined;
    const whole = Buffer.concat(block.parts);
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
    const receiver = stream.receiver;
    this.#remove(stream);
    receiver?.abandon();
    if (this.#resets.exceeded()) throw new ConnectionError(errorCode.enhanceYourCalm, "too many resets");
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
    if (id !== 0) throw new ConnectionError(errorCode.protocolError, "SETTINGS on a stream");
    if (this.#settings.exceeded()) throw new ConnectionError(errorCode.enhanceYourCalm, "too many settings");
    const acknowledges = (flags & flag.acknowledge) !== 0;
    requireLength(acknowledges ? end === start : (end - start) % 6 === 0, "SETTINGS");
    if (acknowledges) return;
    this.#settingsSeen = true;
    for (let at = start; at < end; at += 6) {
      this.#onSetting((bytes[at]! << 8) | bytes[at + 1]!, readUint32(bytes, at + 2));
    }
    this.output.frame(0, frameType.settings, flag.acknowledge, 0);
  }

  #onSetting(name: number, value: number): void {
    switch (name) {
      case setting.headerTableSize:
        this.answers.tableBytes(value);
        break;
      case setting.enablePush:
        if (value > 1) throw new ConnectionError(errorCode.protocolError, "ENABLE_PUSH is neither 0 nor 1");
        break;
      case setting.initialWindowSize:
        if (value > windowBytesMax) {
          throw new ConnectionError(errorCode.flowControlError, "INITIAL_WINDOW_SIZE too large");
        }
        this.#resizeWindows(value);
        break;
      case setting.maxFrameSize:
        if (value < frameBytesDefault || value > frameBytesMax) {
          throw new ConnectionError(errorCode.protocolError, "MAX_FRAME_SIZE out of range");
        }
        this.#peerFrameBytes = value;
        break;
      default:
    }
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
    if (id !== 0) throw new ConnectionError(errorCode.protocolError, "PING on a stream");
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
    this.#idle();
    if (stream === undefined) return;
    const receiver = stream.receiver;
    this.#remove(stream);
    receiver?.abandon();
  }

  #refuseStream(id: number, code: number): void {
    this.#writeReset(id, code);
    this.#idle();
  }

  #remove(stream: Http2Stream): void {
    stream.close();
    this.#streams.delete(stream.id);
    if (this.#recent === stream) this.#recent = undefined;
    if (this.#frameStream === stream) this.#frameStream = undefined;
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
    }
  }

  #sendSettings(): void {
    const { maxConcurrentStreams, headerListBytesMax } = this.#options;
    const settings: [number, number][] = [
      [setting.initialWindowSize, streamWindowBytes],
      [setting.maxHeaderListSize, headerListBytesMax],
    ];
    if (maxConcurrentStreams < 0xffff_ffff)
      settings.push([setting.maxConcurrentStreams, maxConcurrentStreams]);
    const output = this.output;
    output.frame(6 * settings.length, frameType.settings, 0, 0);
    for (const [name, value] of settings) {
      output.append(Buffer.of(0, name));
      this.#appendUint32(value);
    }
    this.#writeWindowUpdate(0, connectionWindowBytes - windowBytesDefault);
  }

  #writeWindowUpdate(id: number, bytes: number): void {
    this.output.frame(4, frameType.windowUpdate, 0, id);
    this.#appendUint32(bytes);
  }

  #writeReset(id: number, code: number): void {
    this.output.frame(4, frameType.resetStream, 0, id);
    this.#appendUint32(code);
    this.#resetIds ??= [];
    if (this.#resetIds.length === resetIdsMax) this.#resetIds.shift();
    this.#resetIds.push(id);
  }

  #writeGoAway(code: number, reason: string): void {
    const text = Buffer.from(reason, "latin1");
    this.output.frame(8 + text.length, frameType.goAway, 0, 0);
    this.#appendUint32(this.#lastTakenUp);
    this.#appendUint32(code);
    this.output.append(text);
  }

  #appendUint32(value: number): void {
    writeUint32(this.output.buffer, this.output.end, value);
    this.output.end += 4;
  }

  /** Stops reading while the client does not take its answers; its flow goes on when the socket drains. */
  #holdBack(): void {
    if (this.#readingPaused || !this.output.blocked || this.output.hasRoom()) return;
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
    this.#partial = undefined;
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

function payloadBytes(bytes: Uint8Array, at: number): number {
  const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
  if (length > frameBytesDefault) throw new ConnectionError(errorCode.frameSizeError, "frame too large");
  return length;
}

function requireStream(id: number, what: string): void {
  if (id === 0) throw new ConnectionError(errorCode.protocolError, `${what} on stream 0`);
}

function requireLength(right: boolean, what: string): void {
  if (!right) throw new ConnectionError(errorCode.frameSizeError, `${what} of a wrong length`);
}
