/** A streaming call: messages in both directions, with back-pressure in both. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { ServerHttp2Stream } from "node:http2";
import { GrpcCode, StoreError } from "../../errors";
import type { Answer, ServerStream, StreamHandler } from "../call";
import { decodeRequest, encodeAnswer, GrpcCall } from "./call";
import { FrameReader } from "./frames";
import { AnswerWriter } from "./writer";

/** A client may be this far ahead of its handler before its stream is no longer read. */
const queuedMessagesMax = 128;
const queuedBytesMax = 256 * 1024;

type Request = MessageShape<DescMessage>;
type Done = IteratorResult<Request, undefined>;

const ended: Done = { done: true, value: undefined };

export class StreamCall extends GrpcCall implements ServerStream<DescMessage, DescMessage> {
  readonly #writer: AnswerWriter;
  #started = false;
  #responded = false;
  #paused = false;
  /** No further request will come. */
  #inputEnded = false;
  #inputError: StoreError | undefined;
  #queue: { readonly request: Request; readonly bytes: number }[] = [];
  #queuedBytes = 0;
  #waiting: { resolve(result: Done): void; reject(error: unknown): void } | undefined;

  constructor(...args: ConstructorParameters<typeof GrpcCall>) {
    super(...args);
    this.#writer = new AnswerWriter(this.stream, this.core.budget);
    this.watchClose();
    this.onCancel(() => {
      this.#writer.close();
      this.#endInput();
    });
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

  override onData(chunk: Uint8Array): void {
    if (this.over || this.#inputEnded) return;
    try {
      this.reader ??= new FrameReader(this.core.settings.messageBytesMax);
      this.reader.push(chunk);
      for (;;) {
        const message = this.reader.next();
        if (message === undefined) break;
        this.#receive(message);
        // A handler may end the call, or say that it reads no more, while it is given a message.
        if (this.over || this.#inputEnded) return;
      }
      this.hold(this.reader.heldBytes + this.#queuedBytes);
    } catch (error) {
      this.#failInput(error);
    }
  }

  override onEnd(): void {
    if (this.over) return;
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
    if (this.stream.destroyed || this.stream.closed) {
      this.abandon();
      return true;
    }
    const { chunks, bytes } = encodeAnswer(this.method.output, answer);
    if (!this.#responded) {
      this.#responded = true;
      this.respond();
    }
    this.core.settings.observer.sent?.(this.row, bytes);
    this.connection.wrote();
    return this.#writer.send(chunks, bytes);
  }

  drained(): Promise<void> {
    return this.over ? Promise.resolve() : this.#writer.drained();
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
    // What was queued before the failure goes out first, unless the client should hear of it at once.
    this.#writer.close();
    super.fail(status);
  }

  #finish(): void {
    if (this.over) return;
    this.#endInput();
    this.#writer.finish(() => {
      if (this.over) return;
      this.close(GrpcCode.ok);
      const stream = this.stream;
      if (stream.destroyed || stream.closed) return;
      if (!this.#responded) this.respond();
      this.endOk();
    });
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
        this.#paused = false;
        this.stream.resume();
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

  #endInput(): void {
    this.#inputEnded = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(ended);
    this.#unpause();
  }

  /** Lets what is not read any more flow away, or the end of the stream would never be seen. */
  #unpause(): void {
    if (!this.#paused) return;
    this.#paused = false;
    (this.stream as ServerHttp2Stream).resume();
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
