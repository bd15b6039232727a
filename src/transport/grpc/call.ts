/** One gRPC call: its metadata, its deadline, its end. What unary calls and streams have in common. */
import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { InvariantError } from "../../assert";
import { GrpcCode, refuse, StoreError } from "../../errors";
import type { Answer, Call } from "../call";
import { EncodedMessage } from "../call";
import type { RequestHeaders } from "../http2/request";
import type { StreamReceiver } from "../http2/handler";
import type { Http2Stream } from "../http2/stream";
import type { BoundMethod, Method } from "../methods";
import type { CallHead } from "./call-head";
import type { Connection } from "./connection";
import type { ServerCore } from "./core";
import type { FrameReader } from "./frames";
import { encodeGrpcMessage } from "./metadata";
import { wireProblem } from "./wire-check";

const ignoreUnknownFields = { readUnknownFields: false } as const;

export function deadlineExceeded(): StoreError {
  return new StoreError(GrpcCode.deadlineExceeded, "context deadline exceeded", false);
}

/** The chunks of an answer and their length. */
export interface Encoded {
  readonly chunks: readonly Uint8Array[];
  readonly bytes: number;
}

export function encodeAnswer(schema: DescMessage, answer: Answer<DescMessage>): Encoded {
  if (answer instanceof EncodedMessage) {
    let bytes = 0;
    for (const chunk of answer.chunks) bytes += chunk.length;
    return { chunks: answer.chunks, bytes };
  }
  const bytes = toBinary(schema, answer);
  return { chunks: [bytes], bytes: bytes.length };
}

/** Decodes, or throws the status that a broken message ends its call with. */
export function decodeRequest(
  schema: DescMessage,
  bytes: Uint8Array,
  what: string,
): MessageShape<DescMessage> {
  const problem = wireProblem(schema, bytes);
  if (problem !== undefined) throw new StoreError(GrpcCode.internal, `grpc: ${what}: ${problem}`);
  try {
    return fromBinary(schema, bytes, ignoreUnknownFields);
  } catch (error) {
    // What is left is a string that is not UTF-8.
    const reason = error instanceof Error ? error.message : String(error);
    throw new StoreError(GrpcCode.internal, `grpc: ${what}: ${reason}`);
  }
}

export abstract class GrpcCall implements Call, StreamReceiver {
  readonly door = "grpc";
  canceled = false;
  deadlineAtMs: number | undefined;
  protected readonly core: ServerCore;
  protected readonly startedAtMs: number;
  /** Set once the status was decided: nothing is sent after it. */
  protected over = false;
  protected reader: FrameReader | undefined;
  #deadlineTicket = 0;
  #listeners: (() => void)[] | undefined;
  #accounted = 0;

  constructor(
    readonly connection: Connection,
    readonly stream: Http2Stream,
    readonly bound: BoundMethod,
    readonly headers: RequestHeaders,
    readonly head: CallHead,
  ) {
    this.core = connection.core;
    this.startedAtMs = connection.session.chunkAtMs;
  }

  get method(): DescMethod {
    return this.bound.method.desc;
  }

  get row(): Method {
    return this.bound.method;
  }

  metadata(name: string): string | undefined {
    return this.headers.get(name);
  }

  onCancel(listener: () => void): void {
    if (this.canceled) listener();
    else if (this.#listeners === undefined) this.#listeners = [listener];
    else this.#listeners.push(listener);
  }

  /** Takes the call into the books. */
  open(): void {
    this.connection.activeCalls++;
    this.core.settings.observer.started?.(this.row);
    const { timeoutMs } = this.head;
    if (timeoutMs !== undefined) {
      this.deadlineAtMs = this.startedAtMs + timeoutMs;
      this.#deadlineTicket = this.core.deadlines.arm(this, this.deadlineAtMs);
    }
  }

  /** The deadline passed. */
  expire(): void {
    this.cancelWith(deadlineExceeded());
  }

  /** The client reset the stream, or its connection is gone. */
  abandon(): void {
    if (this.over) return;
    this.close(GrpcCode.canceled);
    this.#cancel();
  }

  /** Ends the call from the server's side: the client is told, the handler is told. */
  cancelWith(status: StoreError): void {
    if (this.over) return;
    this.fail(status);
    this.#cancel();
  }

  abstract onData(bytes: Uint8Array, start: number, end: number): void;
  abstract onEnd(): void;
  onDrain(): void {}

  /** Everything was sent, the status OK as well. A call that failed is over already. */
  onFinished(): void {
    if (!this.over) this.close(GrpcCode.ok);
  }

  /**
   * The checks in etcd's order (etcd-wire 6): learner, client-api-version, hasleader. Throws the refusal.
   * `serializable` is what a range request says. Before them, our own bound on what the client leaves unread.
   */
  protected admit(type: "unary" | "stream", serializable: boolean): void {
    const { member, observer, connectionAnswerBytesMax } = this.core.settings;
    if (this.connection.session.queuedBytes > connectionAnswerBytesMax) {
      throw new StoreError(GrpcCode.resourceExhausted, "grpc: too many answer bytes are waiting");
    }
    const rule = this.row.learner;
    if (rule !== "serve" && member.isLearner() && !(rule === "serializable" && serializable)) {
      throw refuse("notSupportedForLearner");
    }
    const { version, versionIsUtf8, hasLeader } = this.head;
    if (!versionIsUtf8) throw refuse("invalidClientAPIVersion");
    observer.clientRequest?.(type, version === undefined ? "unknown" : this.core.versionLabel(version));
    if (hasLeader) {
      if (!member.leaderKnown()) throw refuse("noLeader");
      if (type === "stream") this.core.leaderWatchers.add(this);
    }
  }

  /** Counts bytes that the call holds against the limits; throws when they are exceeded. */
  protected hold(bytes: number): void {
    const more = bytes - this.#accounted;
    this.#accounted = bytes;
    this.connection.bufferedBytes += more;
    this.core.bufferedBytes += more;
    if (more <= 0) return;
    const { connectionBufferedBytesMax, bufferedBytesMax } = this.core.settings;
    if (
      this.connection.bufferedBytes > connectionBufferedBytesMax ||
      this.core.bufferedBytes > bufferedBytesMax
    ) {
      throw new StoreError(GrpcCode.resourceExhausted, "grpc: too many request bytes are waiting");
    }
  }

  /** Turns whatever a handler threw into a status. A broken invariant counts even when the call is over. */
  protected failWith(error: unknown): void {
    if (error instanceof StoreError) {
      this.fail(error);
      return;
    }
    if (error instanceof InvariantError) {
      // The state cannot be trusted, so nothing is said to the client.
      if (!this.over) this.close(GrpcCode.internal);
      this.core.settings.onFatal(error);
      return;
    }
    const text = error instanceof Error ? error.message : String(error);
    this.core.settings.log("error", "a handler failed", { method: this.row.path, error: text });
    this.fail(new StoreError(GrpcCode.unknown, text, false));
  }

  /** Ends the call with a status other than OK: trailers only when nothing was sent before. */
  protected fail(status: StoreError): void {
    if (this.over) return;
    this.close(status.code);
    endWithStatus(this.stream, this.head.contentType, status);
    this.connection.wrote();
  }

  /** Takes the call out of the books. Its status is decided. */
  protected close(code: GrpcCode): void {
    this.over = true;
    if (this.head.hasLeader) this.core.leaderWatchers.delete(this);
    this.connection.callClosed();
    if (this.#deadlineTicket !== 0) this.core.deadlines.disarm(this, this.#deadlineTicket);
    if (this.#accounted !== 0) this.hold(0);
    this.reader = undefined;
    this.core.settings.observer.handled?.(this.row, code, performance.now() - this.startedAtMs);
  }

  #cancel(): void {
    this.canceled = true;
    const listeners = this.#listeners;
    this.#listeners = undefined;
    if (listeners === undefined) return;
    for (const listener of listeners) {
      try {
        listener();
      } catch (error) {
        if (error instanceof InvariantError) this.core.settings.onFatal(error);
        else this.core.settings.log("error", "a cancel listener failed", { error: String(error) });
      }
    }
  }
}

/** Ends a stream with a status other than OK, whatever was sent before. */
export function endWithStatus(
  stream: Http2Stream,
  contentType: string,
  status: StoreError,
  httpStatus = 200,
): void {
  const trailers: [name: string, value: string][] = [["grpc-status", String(status.code)]];
  if (status.message !== "") trailers.push(["grpc-message", encodeGrpcMessage(status.message)]);
  if (stream.headersSent) stream.finish(trailers);
  else stream.refuse([[":status", String(httpStatus)], ["content-type", contentType], ...trailers]);
}
