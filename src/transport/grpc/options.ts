/** What a gRPC server is told by the member that runs it. */
import type { GrpcCode } from "../../errors";
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
  /** `etcd_server_client_requests_total{type, client_api_version}`: "unary" or "stream", and the label or "unknown". */
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

export interface GrpcServerOptions {
  readonly methods: BoundMethods;
  /** Absent: a leader is always known and the member is a voter. */
  readonly member?: MemberView;
  /** The interval at which streams with `hasleader` look for a leader. Default 1000. */
  readonly electionTimeoutMs?: number;
  /** etcd's --max-request-bytes. Frames may exceed it by `grpcOverheadBytes`. */
  readonly requestBytesMax?: number;
  /** etcd's --max-concurrent-streams, per connection. Default 4294967295. */
  readonly maxConcurrentStreams?: number;
  /** etcd's --grpc-keepalive-min-time: pings closer together are strikes. Default 5000. */
  readonly keepaliveMinTimeMs?: number;
  /** etcd's --grpc-keepalive-interval: the server pings an idle connection. 0 = never. Default 2 h. */
  readonly keepaliveIntervalMs?: number;
  /** etcd's --grpc-keepalive-timeout: an unanswered server ping closes the connection. Default 20 s. */
  readonly keepaliveTimeoutMs?: number;
  /** Headers larger than this are refused by the HTTP/2 layer. Default 8 KiB × 2 as grpc-go's 16 KiB? see README. */
  readonly headerListBytesMax?: number;
  /** Bytes of incomplete requests that one connection may make the server hold. */
  readonly connectionBufferedBytesMax?: number;
  /** Bytes of incomplete requests that all connections together may make the server hold. */
  readonly bufferedBytesMax?: number;
  /** Bytes of answers above which large answers wait for their turn. */
  readonly responseBytesInFlightMax?: number;
  readonly observer?: GrpcObserver;
  readonly log?: (level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>) => void;
  /** A broken invariant escaped from a handler: the process must end. */
  readonly onFatal?: (error: Error) => void;
}
