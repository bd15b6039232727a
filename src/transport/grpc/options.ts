/** What a gRPC server is told by the member that runs it. */
import type { GrpcCode } from "../../errors";
import { grpcOverheadBytes, requestBytesMaxDefault } from "../../limits";
import type { BoundMethods, Method } from "../methods";

/** Counts what passes. Called on the hot path: keep the bodies to a few additions. */
export interface GrpcObserver {
  /** A call of a known method began. */
  started?(method: Method): void;
  /** The call ended with this status, `durationMs` after it began. */
  handled?(method: Method, code: GrpcCode, durationMs: number): void;
  /** A whole message came in; bytes without the five-byte prefix. */
  received?(method: Method, bytes: number): void;
  /** A message was handed to the connection; bytes without the five-byte prefix. */
  sent?(method: Method, bytes: number): void;
  /**
   * `etcd_server_client_requests_total{type, client_api_version}`: "unary" or "stream", and the client's label or
   * "unknown". At most 64 different labels are passed on, so that clients cannot grow the metric without bound.
   */
  clientRequest?(type: "unary" | "stream", clientApiVersion: string): void;
  /** A stream ended because reading from or writing to its client failed. */
  streamFailed?(method: Method, direction: "receive" | "send"): void;
}

/** What the transport asks the member. */
export interface MemberView {
  /** False while this member knows no leader; calls with `hasleader` are then refused. */
  leaderKnown(): boolean;
  /** True while this member is a learner, which serves few calls. */
  isLearner(): boolean;
}

export type LogLevel = "debug" | "info" | "warn" | "error";
export type TransportLog = (
  level: LogLevel,
  message: string,
  fields: Readonly<Record<string, unknown>>,
) => void;

export interface GrpcServerOptions {
  readonly methods: BoundMethods;
  /** Absent: a leader is always known and the member is a voter. */
  readonly member?: MemberView;
  /** The interval at which streams with `hasleader` look for a leader. Default 1000. */
  readonly electionTimeoutMs?: number;
  /** etcd's --max-request-bytes. Messages may exceed it by `grpcOverheadBytes`. */
  readonly requestBytesMax?: number;
  /** etcd's --max-concurrent-streams, per connection. Default 4294967295. */
  readonly maxConcurrentStreams?: number;
  /** etcd's --grpc-keepalive-min-time: pings closer together are strikes. Default 5000. */
  readonly keepaliveMinTimeMs?: number;
  /** etcd's --grpc-keepalive-interval: the server pings a silent connection. 0 = never. Default 2 h. */
  readonly keepaliveIntervalMs?: number;
  /** etcd's --grpc-keepalive-timeout: an unanswered ping of the server closes the connection. Default 20 s. */
  readonly keepaliveTimeoutMs?: number;
  /** Largest header list that clients are told to send. Default 64 KiB. */
  readonly headerListBytesMax?: number;
  /** Bytes of requests waiting for their end or their handler, per connection. Default 64 MiB. */
  readonly connectionBufferedBytesMax?: number;
  /** The same over all connections. Default 256 MiB. */
  readonly bufferedBytesMax?: number;
  /** Bytes of answers that a client leaves unread, above which its connection takes no further call. Default 1 GiB. */
  readonly connectionAnswerBytesMax?: number;
  /** Bytes of answers that all clients together leave unread, above which large ranges are refused. Default 2 GiB. */
  readonly answerBytesMax?: number;
  /** Bytes with sockets that wait for their clients, above which each connection may hold little. Default 64 MiB. */
  readonly responseBytesInFlightMax?: number;
  readonly observer?: GrpcObserver;
  readonly log?: TransportLog;
  /** A broken invariant escaped from a handler: the process must end. Default: it is thrown uncaught. */
  readonly onFatal?: (error: Error) => void;
}

/** Options with every default filled in, read-only for all parts of the server. */
export interface Settings {
  readonly methods: BoundMethods;
  readonly member: MemberView;
  readonly electionTimeoutMs: number;
  readonly messageBytesMax: number;
  readonly maxConcurrentStreams: number;
  readonly keepaliveMinTimeMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly headerListBytesMax: number;
  readonly connectionBufferedBytesMax: number;
  readonly bufferedBytesMax: number;
  readonly connectionAnswerBytesMax: number;
  readonly answerBytesMax: number;
  readonly responseBytesInFlightMax: number;
  readonly observer: GrpcObserver;
  readonly log: TransportLog;
  readonly onFatal: (error: Error) => void;
}

const alone: MemberView = { leaderKnown: () => true, isLearner: () => false };

export function withDefaults(options: GrpcServerOptions): Settings {
  return {
    methods: options.methods,
    member: options.member ?? alone,
    electionTimeoutMs: options.electionTimeoutMs ?? 1_000,
    messageBytesMax: (options.requestBytesMax ?? requestBytesMaxDefault) + grpcOverheadBytes,
    maxConcurrentStreams: options.maxConcurrentStreams ?? 0xffff_ffff,
    keepaliveMinTimeMs: options.keepaliveMinTimeMs ?? 5_000,
    keepaliveIntervalMs: options.keepaliveIntervalMs ?? 2 * 3_600_000,
    keepaliveTimeoutMs: options.keepaliveTimeoutMs ?? 20_000,
    headerListBytesMax: options.headerListBytesMax ?? 64 * 1024,
    connectionBufferedBytesMax: options.connectionBufferedBytesMax ?? 64 * 1024 ** 2,
    bufferedBytesMax: options.bufferedBytesMax ?? 256 * 1024 ** 2,
    connectionAnswerBytesMax: options.connectionAnswerBytesMax ?? 1024 ** 3,
    answerBytesMax: options.answerBytesMax ?? 2 * 1024 ** 3,
    responseBytesInFlightMax: options.responseBytesInFlightMax ?? 64 * 1024 ** 2,
    observer: options.observer ?? {},
    log: options.log ?? (() => {}),
    onFatal:
      options.onFatal ??
      ((error) => {
        queueMicrotask(() => {
          throw error;
        });
      }),
  };
}
