/**
 * One stream: a request and its answer. Length-prefixed messages (gRPC) go straight into the connection's output
 * while the windows and the output have room; otherwise they wait here, and the session takes them frame by frame,
 * each stream in its turn.
 */
import { flag, frameType, writeUint32 } from "./protocol";
import type { StreamReceiver } from "./handler";
import type { Http2Session } from "./session";

export type HeaderList = readonly (readonly [name: string, value: string])[];

const messagePrefixBytes = 5;
/** Frames are no larger than this, whatever the client takes, so that streams alternate. */
const frameBytesMax = 32 * 1024;
/** Chunks that were sent are let go when there are this many. */
const sentChunksMax = 1024;

export class Http2Stream {
  receiver: StreamReceiver | undefined;
  /** How much more may be sent; below zero after the client made its windows smaller. */
  sendWindow: number;
  /** Received bytes that were not given back to the window. */
  receivedBytes = 0;
  /** The client has ended its side. */
  remoteClosed = false;
  /** This side has sent its end. */
  localClosed = false;
  /** Nothing more is sent or heard. */
  closed = false;
  headersSent = false;
  /** The client's bytes are not given back to the window. */
  paused = false;
  /** In the session's list of streams that have something to send. */
  listed = false;
  #queue: Uint8Array[] | undefined;
  #first = 0;
  #offset = 0;
  #queuedBytes = 0;
  /** How the answer ends when the queue is empty: with OK trailers, or with DATA alone. */
  #ending: "ok" | "data" | undefined;

  constructor(
    readonly session: Http2Session,
    readonly id: number,
    sendWindow: number,
  ) {
    this.sendWindow = sendWindow;
  }

  /** Status 200 and the content type; messages may follow and trailers must. */
  respond(contentType: string): void {
    if (this.closed || this.headersSent) return;
    this.headersSent = true;
    this.session.answers.head(this.id, contentType);
  }

  /** The head of an answer with these headers, status included, that stays open. */
  respondWith(headers: HeaderList): void {
    if (this.closed || this.headersSent) return;
    this.headersSent = true;
    this.session.answers.written(this.id, headers, false);
  }

  /** Sends one message; false means that it waits, and that the sender should. */
  send(chunks: readonly Uint8Array[], totalBytes: number): boolean {
    if (this.closed || this.localClosed) return true;
    const bytes = messagePrefixBytes + totalBytes;
    if (this.#queuedBytes === 0 && this.session.maySend(this, bytes)) {
      this.#sendDirectly(chunks, totalBytes);
      return true;
    }
    const prefix = new Uint8Array(messagePrefixBytes);
    writeUint32(prefix, 1, totalBytes);
    this.#queue ??= [];
    this.#queue.push(prefix);
    for (const chunk of chunks) if (chunk.length > 0) this.#queue.push(chunk);
    this.#queuedBytes += bytes;
    this.session.queuedBytes += bytes;
    this.session.listStream(this);
    return false;
  }

  /** A whole answer that is no gRPC: its headers and its body, which is kept until it was sent. */
  answer(headers: HeaderList, body: Uint8Array): void {
    if (this.closed || this.headersSent) return;
    this.headersSent = true;
    this.session.answers.written(this.id, headers, body.length === 0);
    if (body.length === 0) {
      this.#sentEnd();
      return;
    }
    this.#queue = [body];
    this.#queuedBytes = body.length;
    this.session.queuedBytes += body.length;
    this.#ending = "data";
    this.session.listStream(this);
  }

  /** Whether messages wait. */
  get waiting(): boolean {
    return this.#queuedBytes > 0;
  }

  /** Ends with status OK behind everything that was sent; the receiver hears `onFinished` then. */
  finishOk(): void {
    if (this.closed || this.localClosed || this.#ending !== undefined) return;
    if (this.#queuedBytes > 0) this.#ending = "ok";
    else this.#sendOk();
  }

  /** Ends with these trailers. What still waits is dropped, its end with status OK as well. */
  finish(trailers: HeaderList): void {
    if (this.closed || this.localClosed) return;
    this.#dropQueue();
    this.session.answers.written(this.id, trailers, true);
    this.#sentEnd();
  }

  /** An answer of nothing but headers. */
  refuse(headers: HeaderList): void {
    if (this.closed || this.headersSent) return;
    this.headersSent = true;
    this.session.answers.written(this.id, headers, true);
    this.#sentEnd();
  }

  /** RST_STREAM; the receiver hears nothing more. */
  reset(code: number): void {
    if (!this.closed) this.session.resetStream(this, code);
  }

  /** Lets the client send no more than the window that it has. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.session.giveBack(this);
  }

  /** Sends one frame of what waits, and the end behind it. True when the stream could go on at once. */
  pump(windowBytes: number, peerFrameBytes: number): boolean {
    if (this.closed || this.localClosed) return false;
    if (this.#queuedBytes > 0) {
      const bytes = Math.min(this.#queuedBytes, this.sendWindow, windowBytes, peerFrameBytes, frameBytesMax);
      if (bytes <= 0) return false;
      this.#sendQueued(bytes);
    }
    if (this.#queuedBytes > 0) return this.sendWindow > 0;
    if (this.#ending === "ok") this.#sendOk();
    else if (this.#ending === "data") this.#sentEnd();
    else this.receiver?.onDrain();
    return this.#queuedBytes > 0 && !this.closed && this.sendWindow > 0;
  }

  /** To be called by the session: the stream is over. */
  close(): void {
    this.closed = true;
    this.receiver = undefined;
    this.#dropQueue();
  }

  #sendOk(): void {
    this.session.answers.okTrailers(this.id);
    this.#sentEnd();
  }

  #sentEnd(): void {
    this.localClosed = true;
    const receiver = this.receiver;
    this.receiver = undefined;
    this.session.streamFinished(this);
    receiver?.onFinished();
  }

  #sendDirectly(chunks: readonly Uint8Array[], totalBytes: number): void {
    const output = this.session.output;
    const bytes = messagePrefixBytes + totalBytes;
    output.data(this.id, bytes);
    const target = output.buffer;
    let at = output.end;
    target[at] = 0;
    writeUint32(target, at + 1, totalBytes);
    at += messagePrefixBytes;
    for (let i = 0; i < chunks.length; i++) {
      const chunk = chunks[i]!;
      target.set(chunk, at);
      at += chunk.length;
    }
    output.end = at;
    this.#sent(bytes);
  }

  #sendQueued(bytes: number): void {
    const output = this.session.output;
    const last = this.#ending === "data" && bytes === this.#queuedBytes;
    output.frame(bytes, frameType.data, last ? flag.endStream : 0, this.id);
    this.#sent(bytes);
    this.#queuedBytes -= bytes;
    this.session.queuedBytes -= bytes;
    const queue = this.#queue!;
    let left = bytes;
    while (left > 0) {
      const chunk = queue[this.#first]!;
      const taken = Math.min(chunk.length - this.#offset, left);
      output.append(taken === chunk.length ? chunk : chunk.subarray(this.#offset, this.#offset + taken));
      left -= taken;
      this.#offset += taken;
      if (this.#offset < chunk.length) break;
      this.#offset = 0;
      this.#first++;
    }
    if (this.#queuedBytes === 0) this.#forgetQueue();
    else if (this.#first >= sentChunksMax) {
      queue.splice(0, this.#first);
      this.#first = 0;
    }
  }

  #sent(bytes: number): void {
    this.sendWindow -= bytes;
    this.session.sent(bytes);
  }

  #dropQueue(): void {
    this.session.queuedBytes -= this.#queuedBytes;
    this.#queuedBytes = 0;
    this.#forgetQueue();
  }

  #forgetQueue(): void {
    this.#queue = undefined;
    this.#first = 0;
    this.#offset = 0;
  }
}
