/** One gRPC call: its metadata, its deadline, its end. What unary calls and streams have in common. */
import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { InvariantError } from "../../assert";
import { GrpcCode, refuse, StoreError } from "../../errors";
import type { Answer, Call } from "../call";
import { EncodedMessage } from "../call";
import type { BoundMethod, Method } from "../methods";
import type { Connection } from "./connection";
import type { ServerCore } from "./core";
import { FrameReader } from "./frames";
import { encodeGrpcMessage, isUtf8, metadataValue } from "./metadata";
import { wireProblem } from "./wire-check";

const respondWithTrailers = { waitForTrailers: true, sendDate: false } as const;
const respondAndEnd = { endStream: true, sendDate: false } as const;
const ignoreUnknownFields = { readUnknownFields: false } as const;
const okTrailers = { "grpc-status": "0" } as const;

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

export abstract class GrpcCall implements Call {
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
  #watchesClose = false;

  constructor(
    readonly connection: Connection,
    readonly stream: ServerHttp2Stream,
    readonly bound: BoundMethod,
    readonly headers: IncomingHttpHeaders,
    readonly contentType: string,
  ) {
    this.core = connection.core;
    this.startedAtMs = performance.now();
  }

  get method(): DescMethod {
    return this.bound.method.desc;
  }

  get row(): Method {
    return this.bound.method;
  }

  metadata(name: string): string | undefined {
    return metadataValue(this.headers, name);
  }

  onCancel(listener: () => void): void {
    if (this.canceled) listener();
    else if (this.#listeners === undefined) this.#listeners = [listener];
    else this.#listeners.push(listener);
  }

  /** Takes the call into the books. `timeoutMs` is what its client said, if it did. */
  open(timeoutMs: number | undefined): void {
    this.core.calls.add(this);
    this.connection.activeCalls++;
    this.core.settings.observer.started?.(this.row);
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

  abstract onData(chunk: Uint8Array): void;
  /** The client half-closed. */
  abstract onEnd(): void;

  /**
   * The checks in etcd's order (etcd-wire 6): learner, client-api-version, hasleader. Throws the refusal.
   * `serializable` is what a range request says.
   */
  protected admit(type: "unary" | "stream", serializable: boolean): void {
    const { member, observer } = this.core.settings;
    const rule = this.row.learner;
    if (rule !== "serve" && member.isLearner() && !(rule === "serializable" && serializable)) {
      throw refuse("notSupportedForLearner");
    }
    const version = this.metadata("client-api-version");
    if (version !== undefined && !isUtf8(version)) throw refuse("invalidClientAPIVersion");
    observer.clientRequest?.(type, version === undefined ? "unknown" : this.core.versionLabel(version));
    if (this.headers["hasleader"] === "true") {
      if (!member.leaderKnown()) throw refuse("noLeader");
      if (type === "stream") this.core.leaderWatchers.add(this);
    }
  }

  /** Learns of the client's leaving from now on. Left out while a call is answered at once. */
  protected watchClose(): void {
    if (this.#watchesClose) return;
    this.#watchesClose = true;
    this.stream.on("close", () => this.abandon());
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
    endWithStatus(this.stream, this.contentType, status);
    this.connection.wrote();
  }

  /** Headers, after which messages may be written and trailers must follow. */
  protected respond(): void {
    this.stream.respond({ ":status": 200, "content-type": this.contentType }, respondWithTrailers);
    this.connection.wrote();
  }

  /** Ends with OK after the messages that were written, and this last one. */
  protected endOk(last?: Uint8Array): void {
    const stream = this.stream;
    stream.on("wantTrailers", sendOkTrailers);
    stream.end(last);
    if (!stream.readableEnded) closeWhenFinished(stream);
  }

  /** Takes the call out of the books. Its status is decided. */
  protected close(code: GrpcCode): void {
    this.over = true;
    this.core.calls.delete(this);
    this.core.leaderWatchers.delete(this);
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

function sendOkTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(okTrailers);
}

/** A client that has not half-closed is told with RST_STREAM(NO_ERROR) that nobody listens any more. */
function closeWhenFinished(stream: ServerHttp2Stream): void {
  stream.once("finish", () => {
    setImmediate(() => {
      if (!stream.destroyed && !stream.closed) stream.close(0);
    });
  });
  stream.resume();
}

/** Ends a stream with a status other than OK, whatever was sent before. Never throws. */
export function endWithStatus(
  stream: ServerHttp2Stream,
  contentType: string,
  status: StoreError,
  httpStatus = 200,
): void {
  if (stream.destroyed || stream.closed) return;
  const trailers: Record<string, string> = { "grpc-status": String(status.code) };
  if (status.message !== "") trailers["grpc-message"] = encodeGrpcMessage(status.message);
  try {
    if (stream.headersSent) {
      stream.on("wantTrailers", () => stream.sendTrailers(trailers));
      stream.end();
    } else {
      stream.respond({ ":status": httpStatus, "content-type": contentType, ...trailers }, respondAndEnd);
    }
    closeWhenFinished(stream);
  } catch {
    // The client went away in this moment: there is nobody to tell.
    stream.destroy();
  }
}
