/**
 * A call with a stream of answers, one JSON object per line, and for the two-way ones a body that is a sequence of
 * JSON messages.
 */
import { create, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import { GrpcCode, type StoreError } from "../../errors";
import type { Answer, ServerStream } from "../call";
import type { BoundMethod } from "../methods";
import { jsonPieces, jsonText } from "./answer-json";
import { answerHeaders, GatewayCall, writeError } from "./call";
import { readMessage } from "./json-reader";
import { JsonScanner } from "./json-scanner";
import { checkSize } from "./unary";
import { whenWritable, writePieces } from "./write";

/** Requests that may wait for the service before the body is no longer read. */
const waitingRequestsMax = 32;
/** How long a service may still answer what it understood before the stream ends over what nobody can read. */
const unreadableGraceMs = 250;

/** Requests of the client, handed on one at a time; reading pauses while too many wait. */
class RequestQueue<Item> implements AsyncIterable<Item> {
  readonly #items: Item[] = [];
  #ended = false;
  #onEnd: (() => void) | undefined;
  #wake: (() => void) | undefined;

  constructor(private readonly onRoom: () => void) {}

  get length(): number {
    return this.#items.length;
  }

  push(item: Item): void {
    if (this.#ended) return;
    this.#items.push(item);
    this.#wake?.();
  }

  /** No more will come; those that wait are still handed on, and then `onEnd` is called. */
  end(onEnd?: () => void): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd = onEnd;
    this.#wake?.();
  }

  /** Drops what waits as well. */
  abort(): void {
    this.#items.length = 0;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Item> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) {
        this.onRoom();
        yield item;
        continue;
      }
      if (this.#ended) {
        this.#onEnd?.();
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}

export class StreamGatewayCall extends GatewayCall implements ServerStream<DescMessage, DescMessage> {
  declare readonly bound: Extract<BoundMethod, { kind: "stream" }>;
  readonly #queue = new RequestQueue<Message>(() => this.#resume());
  /** Answers that wait because a large one is being written. */
  readonly #waiting: Answer<DescMessage>[] = [];
  #writing: Promise<void> | undefined;
  #began = false;
  /** Set when the body is no JSON from some point on; the rest of it is let pass. */
  #unreadable: StoreError | undefined;

  get requests(): AsyncIterable<MessageShape<DescMessage>> {
    return this.#queue;
  }

  send(message: Answer<DescMessage>): boolean {
    if (this.over) return true;
    if (!this.response.headersSent) this.response.writeHead(200, answerHeaders);
    if (this.#writing !== undefined) {
      this.#waiting.push(message);
      return false;
    }
    // The news of the end are on their way: the sender has to wait for them.
    if (this.response.destroyed) return false;
    const text = jsonText(this.method.output, message);
    if (text !== undefined) return this.#writeLine(text);
    this.#waiting.push(message);
    this.#writing = this.#writeWaiting();
    return false;
  }

  async drained(): Promise<void> {
    while (!this.over) {
      if (this.#writing !== undefined) await this.#writing;
      else if (this.response.writableNeedDrain && !this.response.destroyed) await whenWritable(this.response);
      else return whenWritable(this.response);
    }
  }

  #writeLine(text: string): boolean {
    this.core.observer.sent?.(this.bound.method, text.length);
    return this.response.write(`{"result":${text}}\n`);
  }

  async #writeWaiting(): Promise<void> {
    try {
      for (let next = this.#waiting.shift(); next !== undefined && !this.over; next = this.#waiting.shift()) {
        const text = jsonText(this.method.output, next);
        if (text === undefined) {
          this.response.write('{"result":');
          await writePieces(this.response, jsonPieces(this.method.output, next));
          this.response.write("}\n");
          this.core.observer.sent?.(this.bound.method, 0);
        } else {
          this.#writeLine(text);
        }
        await whenWritable(this.response);
      }
    } finally {
      this.#writing = undefined;
    }
  }

  protected override read(): void {
    const scanner = new JsonScanner();
    const single = this.bound.method.kind === "server_streaming";
    this.onCancel(() => this.#queue.abort());
    this.request.on("data", (chunk: Buffer) => {
      if (this.over || this.#unreadable !== undefined || (single && this.#began)) return;
      try {
        scanner.push(chunk);
        for (let value = scanner.next(); value !== undefined; value = scanner.next()) {
          this.#receive(value);
          if (single) break;
        }
        this.hold(scanner.heldBytes);
        if (this.#queue.length >= waitingRequestsMax) this.request.pause();
      } catch (error) {
        this.#refuse(error);
      }
    });
    this.request.on("end", () => {
      if (this.over || this.#unreadable !== undefined) return;
      try {
        if (!single || !this.#began) {
          const last = scanner.end();
          if (last !== undefined) this.#receive(last);
          else if (single) this.#receive(new Uint8Array(0));
        }
        this.#queue.end();
      } catch (error) {
        this.#refuse(error);
      }
    });
    // A two-way stream is served from the start: its service may speak first.
    if (!single) this.#begin();
  }

  #receive(value: Uint8Array): void {
    const { input } = this.method;
    const message = value.length === 0 ? create(input) : readMessage(input, value);
    checkSize(this.core, input, message, value.length);
    this.core.observer.received?.(this.bound.method, value.length);
    this.#queue.push(message);
    if (this.bound.method.kind === "server_streaming") {
      this.#queue.end();
      this.#begin();
    }
  }

  /** The body cannot be read on. What came before is still served, then the client is told: nothing is silent. */
  #refuse(error: unknown): void {
    if (this.over) return;
    const status = this.statusOf(error);
    this.hold(0);
    // Before the service began there is no stream yet, only a bad request.
    if (!this.#began) {
      if (this.close(status.code)) writeError(this.response, status);
      return;
    }
    this.#unreadable = status;
    this.#queue.end(() => setTimeout(() => this.cancelWith(status), unreadableGraceMs).unref());
  }

  #resume(): void {
    if (this.#queue.length < waitingRequestsMax / 2 && this.request.isPaused()) this.request.resume();
  }

  #begin(): void {
    if (this.#began) return;
    this.#began = true;
    try {
      this.admit("stream", false);
    } catch (error) {
      this.fail(error);
      return;
    }
    this.bound.handle(this, this).then(
      () => this.#finish(),
      (error: unknown) => this.fail(error),
    );
  }

  async #finish(): Promise<void> {
    await this.drained();
    if (this.#unreadable !== undefined) this.fail(this.#unreadable);
    if (!this.close(GrpcCode.ok)) return;
    this.#queue.abort();
    this.response.end();
    this.request.resume();
  }

  protected override writeFailure(status: StoreError): void {
    this.#queue.abort();
    if (!this.response.headersSent) {
      writeError(this.response, status, true);
      return;
    }
    if (this.response.destroyed) return;
    // Inside a large answer there is no place for a line: a cut connection says that it is incomplete.
    if (this.#writing !== undefined) this.response.destroy();
    else this.response.end(`${JSON.stringify({ error: { code: status.code, message: status.message } })}\n`);
  }
}
