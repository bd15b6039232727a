/** A unary call. It is answered at its first whole message, and without a promise when its handler needs none. */
import type { DescMessage } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../../errors";
import { KV } from "../../proto/gen/etcd/rpc_pb";
import type { Answer, UnaryHandler } from "../call";
import { deadlineExceeded, decodeRequest, encodeAnswer, GrpcCall } from "./call";
import { FrameReader, messageEnd, prefixBytes } from "./frames";

/** From this size on the memory of all clients' answers counts. */
const largeAnswerBytes = 1024 ** 2;

export class UnaryCall extends GrpcCall {
  #taken = false;

  override onData(bytes: Uint8Array, start: number, end: number): void {
    // Whatever follows the first message is not looked at, as with grpc-go.
    if (this.#taken || this.over) return;
    try {
      const { messageBytesMax } = this.core.settings;
      if (this.reader === undefined) {
        const last = messageEnd(bytes, start, end, messageBytesMax);
        if (last >= 0) {
          this.#dispatch(bytes.subarray(start + prefixBytes, last));
          return;
        }
        this.reader = new FrameReader(messageBytesMax);
      }
      this.reader.push(bytes.subarray(start, end));
      const message = this.reader.next();
      if (message === undefined) {
        this.hold(this.reader.heldBytes);
        return;
      }
      this.reader = undefined;
      this.hold(0);
      this.#dispatch(message);
    } catch (error) {
      this.failWith(error);
    }
  }

  override onEnd(): void {
    if (this.#taken || this.over) return;
    this.fail(
      new StoreError(
        GrpcCode.unknown,
        this.reader === undefined || this.reader.heldBytes === 0 ? "EOF" : "unexpected EOF",
      ),
    );
  }

  #dispatch(message: Uint8Array): void {
    this.#taken = true;
    this.core.settings.observer.received?.(this.row, message.length);
    const request = decodeRequest(this.method.input, message, "error unmarshalling request");
    this.admit("unary", (request as { serializable?: unknown }).serializable === true);
    // Refused before anything was done, which a deadline that passes later can no longer promise.
    if (this.deadlineAtMs !== undefined && performance.now() >= this.deadlineAtMs) throw deadlineExceeded();
    const handle = this.bound.handle as UnaryHandler<DescMessage, DescMessage>;
    const answer = handle(request, this);
    if (answer instanceof Promise) {
      answer.then(
        (settled) => this.#answer(settled),
        (error: unknown) => this.failWith(error),
      );
    } else {
      this.#answer(answer);
    }
  }

  /** Only a range can be asked for again: of what else gives large answers, something may have been written. */
  #refuseBeside(bytes: number): void {
    if (this.method !== KV.method.range) return;
    const unread = this.core.unreadAnswerBytes();
    if (unread > 0 && unread + bytes > this.core.settings.answerBytesMax)
      throw new StoreError(GrpcCode.resourceExhausted, "grpc: too many answer bytes are waiting");
  }

  #answer(answer: Answer<DescMessage>): void {
    if (this.over) return;
    try {
      const { chunks, bytes } = encodeAnswer(this.method.output, answer);
      if (bytes >= largeAnswerBytes) this.#refuseBeside(bytes);
      this.core.settings.observer.sent?.(this.row, bytes);
      this.connection.wrote();
      const stream = this.stream;
      stream.respond(this.head.contentType);
      stream.send(chunks, bytes);
      stream.finishOk();
    } catch (error) {
      this.failWith(error);
    }
  }
}
