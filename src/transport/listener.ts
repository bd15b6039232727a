/** Client ports: one socket server per URL that hands each connection to gRPC or HTTP by its first bytes. */
import type { Duplex } from "node:stream";

/** Takes over HTTP/2 connections (a GrpcServer). */
export interface ConnectionTaker {
  accept(socket: Duplex): void;
}

/** Takes over HTTP/1.1 connections: a `node:http` server that is not listening itself. */
export interface HttpServerLike {
  emit(event: "connection", socket: Duplex): boolean;
}

export interface ListenerOptions {
  /** `http://host:port`, `http://[::1]:port`, or `unix:///path`; port 0 picks a free one. */
  readonly urls: readonly string[];
  /** HTTP/2 goes here. Absent: HTTP/2 connections are closed. */
  readonly grpc?: ConnectionTaker;
  /** Everything else goes here. Absent: such connections are closed. */
  readonly http?: HttpServerLike;
  /** A connection that sends nothing for this long is closed. Default 10000. */
  readonly firstByteTimeoutMs?: number;
  /** Further connections are closed at once. Default 65536. */
  readonly connectionsMax?: number;
  readonly log?: (message: string, fields: Readonly<Record<string, unknown>>) => void;
}

export interface ListenerCounts {
  readonly open: number;
  readonly accepted: number;
  readonly refused: number;
  readonly timedOut: number;
  readonly errors: number;
}

export interface Listener {
  /** The URLs with the real ports. */
  readonly urls: readonly string[];
  counts(): ListenerCounts;
  /** Accepts no further connections; open ones go on. */
  stopAccepting(): void;
  /** Stops accepting and cuts every open connection. Resolves when all are gone. */
  close(): Promise<void>;
}

/** Opens all URLs, or none: rejects with the first failure. */
export function listen(_options: ListenerOptions): Promise<Listener> {
  throw new Error("not yet");
}
