/** A unary call. It is answered at its first whole message, and without a promise when its handler needs none. */
import type { DescMessage } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../../errors";
import type { Answer, UnaryHandler } from "../call";
import { deadlineExceeded, decodeRequest, encodeAnswer, GrpcCall } from "./call";
import { frame, FrameReader, wholeMessage } from "./frames";
import { AnswerWriter } from "./writer";

const singleWriteBytes = 64 * 1024;

export class UnaryCall extends GrpcCall {
  #taken = false;

  override onData(chunk: Uint8Array): void {
    // Whatever follows the first message is not looked at, as with grpc-go.
    if (this.#taken || this.over) return;
    try {
      const { messageBytesMax } = this.core.settings;
      let message = this.reader === undefined ? wholeMessage(chunk, messageBytesMax) : undefined;
      if (message === undefined) {
        this.reader ??= new FrameReader(messageBytesMax);
        this.reader.push(chunk);
        message = this.reader.next();
        if (message === undefined) {
          this.watchClose();
          this.hold(this.reader.heldBytes);
          return;
        }
        this.reader = undefined;
        this.hold(0);
      }
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
      this.watchClose();
      answer.then(
        (settled) => this.#answer(settled),
        (error: unknown) => this.failWith(error),
      );
    } else {
      this.#answer(answer);
    }
  }

  #answer(answer: Answer<DescMessage>): void {
    if (this.over) return;
    if (this.stream.destroyed || this.stream.closed) {
      this.abandon();
      return;
    }
    try {
      const { chunks, bytes } = encodeAnswer(this.method.output, answer);
      this.core.settings.observer.sent?.(this.row, bytes);
      if (bytes <= singleWriteBytes) {
        this.close(GrpcCode.ok);
        this.respond();
        this.endOk(frame(chunks, bytes));
      } else {
        this.#answerLarge(chunks, bytes);
      }
    } catch (error) {
      this.failWith(error);
    }
  }

  #answerLarge(chunks: readonly Uint8Array[], bytes: number): void {
    const writer = new AnswerWriter(this.stream, this.core.budget);
    this.watchClose();
    this.stream.once("close", () => writer.close());
    this.onCancel(() => writer.close());
    this.respond();
    writer.send(chunks, bytes);
    writer.finish(() => {
      if (this.over) return;
      this.close(GrpcCode.ok);
      this.endOk();
    });
  }
}
