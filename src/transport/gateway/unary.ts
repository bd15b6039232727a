/** A call with one request and one answer. */
import { toBinary, type DescMessage, type Message } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../../errors";
import { grpcOverheadBytes } from "../../limits";
import { KV } from "../../proto/gen/etcd/rpc_pb";
import { type Answer, EncodedMessage } from "../call";
import type { BoundMethod } from "../methods";
import { bytesIn, jsonPieces, jsonText } from "./answer-json";
import { answerHeaders, GatewayCall, writeError, type GatewayCore } from "./call";
import { readMessage } from "./json-reader";
import { JsonScanner } from "./json-scanner";
import { writePieces } from "./write";

/** Refuses a request whose encoding is larger than gRPC would let in. JSON is rarely the shorter of the two. */
export function checkSize(core: GatewayCore, desc: DescMessage, message: Message, jsonBytes: number): void {
  const bytesMax = core.requestBytesMax + grpcOverheadBytes;
  if (jsonBytes <= bytesMax) return;
  const bytes = toBinary(desc, message).length;
  if (bytes <= bytesMax) return;
  throw new StoreError(
    GrpcCode.resourceExhausted,
    `grpc: received message larger than max (${bytes} vs. ${bytesMax})`,
  );
}

export class UnaryGatewayCall extends GatewayCall {
  declare readonly bound: Extract<BoundMethod, { kind: "unary" }>;

  protected override read(): void {
    const scanner = new JsonScanner();
    let found = false;
    const guarded = (step: () => void) => (): void => {
      if (found || this.over) return;
      try {
        step();
      } catch (error) {
        this.fail(error);
      }
    };
    // What follows the first value is read and ignored, as etcd does.
    const take = (value: Uint8Array | undefined): void => {
      if (value === undefined) return;
      found = true;
      this.#serve(value);
    };
    this.request.on("data", (chunk: Buffer) =>
      guarded(() => {
        scanner.push(chunk);
        const value = scanner.next();
        this.hold(value?.length ?? scanner.heldBytes);
        take(value);
      })(),
    );
    this.request.on(
      "end",
      guarded(() => {
        take(scanner.end() ?? new Uint8Array(0));
      }),
    );
  }

  #serve(value: Uint8Array): void {
    const { input } = this.method;
    const request = value.length === 0 ? create(input) : readMessage(input, value);
    checkSize(this.core, input, request, value.length);
    this.core.observer.received?.(this.bound.method, value.length);
    this.admit("unary", (request as { serializable?: boolean }).serializable === true);
    const answer = this.bound.handle(request, this);
    if (answer instanceof Promise) {
      answer.then(
        (message) => this.#answer(message),
        (error: unknown) => this.fail(error),
      );
    } else {
      this.#answer(answer);
    }
  }

  #answer(answer: Answer<DescMessage>): void {
    if (this.over) return;
    try {
      const { output } = this.method;
      const text = jsonText(output, answer);
      if (text === undefined) {
        const bytes = answer instanceof EncodedMessage ? bytesIn(answer.chunks) : 0;
        this.#refuseBeside(bytes);
        this.response.writeHead(200, answerHeaders);
        this.#answerInPieces(jsonPieces(output, answer), bytes);
        return;
      }
      this.close(GrpcCode.ok);
      const body = Buffer.from(text);
      this.core.observer.sent?.(this.bound.method, body.length);
      this.response.writeHead(200, { ...answerHeaders, "content-length": body.length });
      this.response.end(body);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Only a range can be asked for again: of what else gives large answers, something may have been written. */
  #refuseBeside(bytes: number): void {
    const { answerBytes, answerBytesMax } = this.core;
    if (answerBytes === 0 || answerBytes + bytes <= answerBytesMax) return;
    if (this.method === KV.method.range)
      throw new StoreError(GrpcCode.resourceExhausted, "grpc: too many answer bytes are waiting");
  }

  #answerInPieces(pieces: Iterable<string>, bytes: number): void {
    this.core.answerBytes += bytes;
    writePieces(this.response, pieces)
      .then(
        () => {
          if (!this.close(GrpcCode.ok)) return;
          this.core.observer.sent?.(this.bound.method, 0);
          this.response.end();
        },
        (error: unknown) => this.fail(error),
      )
      .finally(() => {
        this.core.answerBytes -= bytes;
      });
  }

  protected override writeFailure(status: StoreError): void {
    // A cut answer must not look like a whole one.
    if (this.response.headersSent) this.response.destroy();
    else writeError(this.response, status);
  }
}
