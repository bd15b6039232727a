/** The server's side of a stream whose messages a REST operation takes one by one, no faster than it writes them. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { decodeAnswer } from "../../service/backend";
import type { Answer, ServerStream } from "../call";

/** Messages that may wait before the service is asked to wait. */
const waitingMax = 4;

export class PullStream<Input extends DescMessage, Output extends DescMessage> implements ServerStream<
  Input,
  Output
> {
  readonly #output: Output;
  readonly #requests: MessageShape<Input>[];
  readonly #waiting: Answer<Output>[] = [];
  #ended = false;
  #closed = false;
  #error: unknown = undefined;
  #wakeReader: (() => void) | undefined;
  #wakeSender: (() => void) | undefined;
  #wakeRequests: (() => void) | undefined;

  /** `keepOpen`: more requests may follow, until {@link close}. */
  constructor(
    output: Output,
    requests: readonly MessageShape<Input>[],
    readonly keepOpen = false,
  ) {
    this.#output = output;
    this.#requests = [...requests];
  }

  /** Starts the service's handler on this stream. */
  start(serve: (stream: this) => Promise<void>): this {
    serve(this).then(
      () => this.#end(undefined),
      (error: unknown) => this.#end(error ?? new Error("the stream failed")),
    );
    return this;
  }

  get requests(): AsyncIterable<MessageShape<Input>> {
    return this.#iterate();
  }

  async *#iterate(): AsyncIterable<MessageShape<Input>> {
    for (;;) {
      const request = this.#requests.shift();
      if (request !== undefined) {
        yield request;
        continue;
      }
      if (!this.keepOpen || this.#closed) return;
      await new Promise<void>((resolve) => (this.#wakeRequests = resolve));
    }
  }

  /** Hands the service one more request. */
  ask(request: MessageShape<Input>): void {
    this.#requests.push(request);
    this.#wakeRequests?.();
  }

  send(message: Answer<Output>): boolean {
    if (this.#closed) return true;
    this.#waiting.push(message);
    this.#wakeReader?.();
    return this.#waiting.length < waitingMax;
  }

  async drained(): Promise<void> {
    // Never at once: a sender that only awaits settled promises would keep everybody else waiting.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (this.#waiting.length >= waitingMax && !this.#closed) {
      await new Promise<void>((resolve) => (this.#wakeSender = resolve));
    }
  }

  /** The next message; undefined at the end. Throws what ended the stream when that was a failure. */
  async next(): Promise<MessageShape<Output> | undefined> {
    for (;;) {
      const message = this.#waiting.shift();
      if (message !== undefined) {
        this.#wakeSender?.();
        return decodeAnswer(this.#output, message);
      }
      if (this.#ended) {
        if (this.#error !== undefined) throw this.#error;
        return undefined;
      }
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    }
  }

  /** A message that is there already. */
  poll(): MessageShape<Output> | undefined {
    const message = this.#waiting.shift();
    if (message === undefined) return undefined;
    this.#wakeSender?.();
    return decodeAnswer(this.#output, message);
  }

  /** Nobody takes further messages, and no request follows. */
  close(): void {
    this.#closed = true;
    this.#wakeSender?.();
    this.#wakeRequests?.();
  }

  #end(error: unknown): void {
    this.#ended = true;
    this.#error = error;
    this.#wakeReader?.();
  }
}
