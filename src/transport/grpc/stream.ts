/** A streaming call: messages in both directions, with back-pressure in both. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../../errors";
import type { Answer, ServerStream, StreamHandler } from "../call";
import { decodeRequest, encodeAnswer, GrpcCall } from "./call";
import { FrameReader, messageEnd, prefixBytes } from "./frames";

/** A client may be this far ahead of its handler before its stream is no longer read. */
const queuedMessagesMax = 128;
const queuedBytesMax = 256 * 1024;

type Request = MessageShape<DescMessage>;
type Done = IteratorResult<Request, undefined>;

const ended: Done = { done: true, value: undefined };

export class StreamCall extends GrpcCall implements ServerStream<DescMessage, DescMessage> {
  #started = false;
  /** The handler is behind: what comes in stays with the reader. */
  #paused = false;
  /** The client half-closed while the handler was behind. */
  #endDue = false;
  /** No further request will come. */
  #inputEnded = false;
  #inputError: StoreError | undefined;
  #queue: { readonly request: Request; readonly bytes: number }[] = [];
  #queuedBytes = 0;
  #waiting: { resolve(result: Done): void; reject(error: unknown): void } | undefined;
  #waitingForRoom: (() => void)[] = [];

  constructor(...args: ConstructorParameters<typeof GrpcCall>) {
    super(...args);
    this.onCancel(() => this.#endInput());
  }

  readonly requests: AsyncIterable<Request> = {
    [Symbol.asyncIterator]: () => ({
      next: () => this.#next(),
      return: () => {
        this.#endInput();
        return Promise.resolve(ended);
      },
    }),
  };

  /** Runs the checks; a handler of both directions starts at once, the others with their request. */
  begin(): void {
    try {
      this.admit("stream", false);
      if (this.row.kind !== "server_streaming") this.#run();
    } catch (error) {
      this.failWith(error);
    }
  }

  override onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.over || this.#inputEnded) return;
    try {
      let at = start;
      if (!this.#paused && (this.reader === undefined || this.reader.heldBytes === 0)) {
        at = this.#receiveWhole(bytes, start, end);
      }
      if (at < end && !this.over && !this.#inputEnded) {
        this.reader ??= new FrameReader(this.core.settings.messageBytesMax);
        this.reader.push(bytes.subarray(at, end));
        this.#receiveHeld();
      }
    } catch (error) {
      this.#failInput(error);
    }
  }

  override onEnd(): void {
    if (this.over) return;
    if (this.#paused) {
      this.#endDue = true;
      return;
    }
    if (this.reader !== undefined && this.reader.heldBytes > 0) {
      this.#failInput(new StoreError(GrpcCode.internal, "unexpected EOF"));
      return;
    }
    if (!this.#started) {
      this.fail(new StoreError(GrpcCode.unknown, "EOF"));
      return;
    }
    this.#endInput();
  }

  send(answer: Answer<DescMessage>): boolean {
    if (this.over) return true;
    const { chunks, bytes } = encodeAnswer(this.method.output, answer);
    this.stream.respond(this.head.contentType);
    this.core.settings.observer.sent?.(this.row, bytes);
    this.connection.wrote();
    return this.stream.send(chunks, bytes);
  }

  drained(): Promise<void> {
    if (this.over || !this.stream.waiting) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForRoom.push(resolve));
  }

  override onDrain(): void {
    if (this.#waitingForRoom.length === 0) return;
    const waiting = this.#waitingForRoom;
    this.#waitingForRoom = [];
    for (const resolve of waiting) resolve();
  }

  override abandon(): void {
    if (!this.over) this.core.settings.observer.streamFailed?.(this.row, "receive");
    super.abandon();
  }

  #run(): void {
    this.#started = true;
    const handle = this.bound.handle as StreamHandler<DescMessage, DescMessage>;
    handle(this, this).then(
      () => this.#finish(),
      (error: unknown) => this.failWith(error),
    );
  }

  protected override fail(status: StoreError): void {
    if (this.over) return;
    this.#inputEnded = true;
    super.fail(status);
  }

  protected override close(code: GrpcCode): void {
    super.close(code);
    this.onDrain();
  }

  #finish(): void {
    if (this.over) return;
    this.#endInput();
    this.stream.respond(this.head.contentType);
    this.stream.finishOk();
  }

  /** Takes the messages that lie whole in `bytes[start, end)`; answers where the rest begins. */
  #receiveWhole(bytes: Uint8Array, start: number, end: number): number {
    const { messageBytesMax } = this.core.settings;
    let at = start;
    while (at < end && !this.#paused) {
      const last = messageEnd(bytes, at, end, messageBytesMax);
      if (last < 0) return at;
      this.#receive(bytes.subarray(at + prefixBytes, last));
      // A handler may end the call, or say that it reads no more, while it is given a message.
      if (this.over || this.#inputEnded) return end;
      at = last;
    }
    return at;
  }

  /** Takes the messages that were held back or came in pieces. */
  #receiveHeld(): void {
    const reader = this.reader;
    if (reader === undefined) return;
    while (!this.#paused) {
      const message = reader.next();
      if (message === undefined) break;
      this.#receive(message);
      if (this.over || this.#inputEnded) return;
    }
    this.hold(reader.heldBytes + this.#queuedBytes);
  }

  #receive(message: Uint8Array): void {
    this.core.settings.observer.received?.(this.row, message.length);
    const request = decodeRequest(this.method.input, message, "failed to unmarshal the received message");
    const single = this.row.kind === "server_streaming";
    if (this.#waiting !== undefined) {
      const { resolve } = this.#waiting;
      this.#waiting = undefined;
      resolve({ done: false, value: request });
    } else {
      this.#queue.push({ request, bytes: message.length });
      this.#queuedBytes += message.length;
      if (this.#queue.length >= queuedMessagesMax || this.#queuedBytes >= queuedBytesMax) this.#pause();
    }
    if (single) {
      this.#inputEnded = true;
      this.#run();
    }
  }

  #next(): Promise<Done> {
    const first = this.#queue.shift();
    if (first !== undefined) {
      this.#queuedBytes -= first.bytes;
      if (!this.over) this.hold((this.reader?.heldBytes ?? 0) + this.#queuedBytes);
      if (
        this.#paused &&
        this.#queue.length < queuedMessagesMax / 2 &&
        this.#queuedBytes < queuedBytesMax / 2
      ) {
        this.#resume();
      }
      return Promise.resolve({ done: false, value: first.request });
    }
    if (this.#inputError !== undefined) return Promise.reject(this.#inputError);
    if (this.#inputEnded || this.over) return Promise.resolve(ended);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.stream.pause();
  }

  #resume(): void {
    this.#paused = false;
    this.stream.resume();
    if (this.over || this.#inputEnded) return;
    try {
      this.#receiveHeld();
    } catch (error) {
      this.#failInput(error);
      return;
    }
    if (this.#endDue && !this.#paused) this.onEnd();
  }

  #endInput(): void {
    this.#inputEnded = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(ended);
    // What is not read any more flows away.
    if (this.#paused) this.#resume();
  }

  /** The client broke the protocol: its stream ends with that status, and the handler hears it too. */
  #failInput(error: unknown): void {
    if (!(error instanceof StoreError)) {
      this.failWith(error);
      return;
    }
    this.#inputError = error;
    this.#queue = [];
    this.#queuedBytes = 0;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.core.settings.observer.streamFailed?.(this.row, "receive");
    this.cancelWith(error);
    waiting?.reject(error);
  }
}
