/** One call that came over HTTP/1.1: its metadata, its deadline, its end. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import { InvariantError } from "../../assert";
import { GrpcCode, refuse, StoreError } from "../../errors";
import { grpcOverheadBytes } from "../../limits";
import type { Logger } from "../../log";
import type { Call } from "../call";
import type { Deadlines } from "../grpc/deadlines";
import type { GrpcObserver, MemberView } from "../grpc/options";
import type { BoundMethod } from "../methods";
import { httpStatus, metadataOf, parseGatewayTimeout } from "./headers";
import { JsonSyntaxError } from "./json-scanner";

/** What all calls of a gateway share. */
export interface GatewayCore {
  readonly member: MemberView;
  readonly requestBytesMax: number;
  readonly observer: GrpcObserver;
  readonly log: Logger;
  readonly onFatal: (error: Error) => void;
  readonly deadlines: Deadlines;
  readonly calls: Set<GatewayCall>;
  /** Streams that asked for a leader, and for how many looks in a row there was none. */
  readonly leaderWatchers: Map<GatewayCall, number>;
  /** Bytes of requests that are held; see `bufferedBytesMax`. */
  bufferedBytes: number;
  readonly bufferedBytesMax: number;
  /** Bytes of large answers that are being written; see `answerBytesMax`. */
  answerBytes: number;
  readonly answerBytesMax: number;
}

/** Headers that etcd's gateway puts on every answer that a service made. */
export const answerHeaders = {
  "content-type": "application/json",
  "grpc-metadata-content-type": "application/grpc",
} as const;

/** JSON is larger than what it encodes: base64, names, escapes. Beyond this factor it is refused unread. */
const jsonExpansionMax = 4;

/** Writes `{"code":…,"message":…}` with the status that belongs to the code. */
export function writeError(response: ServerResponse, error: StoreError, wrap = false): void {
  if (response.headersSent || response.destroyed) return;
  const body = { code: error.code, message: error.message };
  const text = JSON.stringify(wrap ? { error: body } : body);
  response.statusCode = httpStatus(error.code);
  response.setHeader("content-type", "application/json");
  if (error.code === GrpcCode.unauthenticated) {
    response.setHeader("www-authenticate", error.message.replace(/[^\x20-\x7e]/g, " "));
  }
  response.end(wrap ? `${text}\n` : text);
}

/** Turns what was thrown into the status that the client is told. */
export function statusOf(error: unknown, core: GatewayCore, method: DescMethod): StoreError {
  if (error instanceof StoreError) return error;
  if (error instanceof JsonSyntaxError) return new StoreError(GrpcCode.invalidArgument, error.message);
  const problem = error instanceof Error ? error : new Error(String(error));
  core.log.error("a gateway call failed unexpectedly", { method: method.name, error: problem });
  if (problem instanceof InvariantError) core.onFatal(problem);
  return new StoreError(GrpcCode.unknown, problem.message, false);
}

export abstract class GatewayCall implements Call {
  readonly door = "gateway";
  canceled = false;
  deadlineAtMs: number | undefined;
  /** Set once the status was decided: nothing is sent after it. */
  protected over = false;
  readonly #startedAtMs = performance.now();
  #deadlineTicket = 0;
  #listeners: (() => void)[] | undefined;
  #held = 0;

  constructor(
    protected readonly core: GatewayCore,
    readonly bound: BoundMethod,
    protected readonly request: IncomingMessage,
    protected readonly response: ServerResponse,
  ) {}

  get method(): DescMethod {
    return this.bound.method.desc;
  }

  metadata(name: string): string | undefined {
    return metadataOf(this.request.headers, name);
  }

  onCancel(listener: () => void): void {
    if (this.canceled) listener();
    else if (this.#listeners === undefined) this.#listeners = [listener];
    else this.#listeners.push(listener);
  }

  /** Takes the call into the books and begins to read its body. */
  start(): void {
    this.core.calls.add(this);
    this.core.observer.started?.(this.bound.method);
    this.response.on("close", () => this.#clientLeft());
    this.response.on("error", () => this.#clientLeft());
    this.request.on("error", () => this.#clientLeft());
    const given = this.request.headers["grpc-timeout"];
    if (given !== undefined) {
      const text = String(given);
      const timeoutMs = parseGatewayTimeout(text);
      if (timeoutMs === null) {
        this.fail(new StoreError(GrpcCode.invalidArgument, `invalid grpc-timeout: ${text}`));
        return;
      }
      if (timeoutMs !== undefined) {
        this.deadlineAtMs = this.#startedAtMs + timeoutMs;
        if (timeoutMs < 0.001) {
          this.expire();
          return;
        }
        this.#deadlineTicket = this.core.deadlines.arm(this, this.deadlineAtMs);
      }
    }
    this.read();
  }

  /** The deadline passed. */
  expire(): void {
    this.cancelWith(new StoreError(GrpcCode.deadlineExceeded, "context deadline exceeded", false));
  }

  /** Ends the call from the server's side: the client is told, the handler is told. */
  cancelWith(status: StoreError): void {
    if (this.over) return;
    this.fail(status);
    this.#cancel();
  }

  /** Begins to take the body in. */
  protected abstract read(): void;
  /** Tells the client a status other than OK; called once at most. */
  protected abstract writeFailure(status: StoreError): void;

  protected statusOf(error: unknown): StoreError {
    return statusOf(error, this.core, this.method);
  }

  protected fail(error: unknown): void {
    if (this.over) return;
    const status = this.statusOf(error);
    this.close(status.code);
    this.writeFailure(status);
    // What is left of the body would otherwise block the connection's next request.
    this.request.resume();
  }

  /** The books are closed with this status; true the first time. */
  protected close(code: GrpcCode): boolean {
    if (this.over) return false;
    this.over = true;
    this.hold(0);
    this.core.calls.delete(this);
    this.core.leaderWatchers.delete(this);
    if (this.#deadlineTicket !== 0) this.core.deadlines.disarm(this, this.#deadlineTicket);
    this.core.observer.handled?.(this.bound.method, code, performance.now() - this.#startedAtMs);
    return true;
  }

  /** Says how many bytes of the request are held now; throws when too many are. */
  protected hold(bytes: number): void {
    const more = bytes - this.#held;
    this.#held = bytes;
    this.core.bufferedBytes += more;
    if (more <= 0) return;
    const bytesMax = this.core.requestBytesMax + grpcOverheadBytes;
    if (bytes > bytesMax * jsonExpansionMax) {
      throw new StoreError(
        GrpcCode.resourceExhausted,
        `grpc: received message larger than max (${bytes} vs. ${bytesMax})`,
      );
    }
    if (this.core.bufferedBytes > this.core.bufferedBytesMax) {
      throw new StoreError(GrpcCode.resourceExhausted, "grpc: too many request bytes are waiting");
    }
  }

  /**
   * The checks in etcd's order (etcd-wire 6): learner, client-api-version, hasleader. Throws the refusal.
   * `serializable` is what a range request says.
   */
  protected admit(type: "unary" | "stream", serializable: boolean): void {
    const { member, observer } = this.core;
    const rule = this.bound.method.learner;
    if (rule !== "serve" && member.isLearner() && !(rule === "serializable" && serializable)) {
      throw refuse("notSupportedForLearner");
    }
    // Header values that are not printable ASCII never become metadata here, so the version is valid text.
    observer.clientRequest?.(type, this.metadata("client-api-version") ?? "unknown");
    if (this.metadata("hasleader") === "true") {
      if (!member.leaderKnown()) throw refuse("noLeader");
      if (type === "stream") this.core.leaderWatchers.set(this, 0);
    }
  }

  /** The connection closed before the answer was complete. */
  #clientLeft(): void {
    if (this.over) return;
    this.close(GrpcCode.canceled);
    this.#cancel();
  }

  #cancel(): void {
    if (this.canceled) return;
    this.canceled = true;
    const listeners = this.#listeners;
    this.#listeners = undefined;
    for (const listener of listeners ?? []) listener();
  }
}
