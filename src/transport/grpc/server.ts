/** The gRPC server: HTTP/2 sessions in, calls of the method table out. */
import type { Duplex } from "node:stream";
import type { GrpcServerOptions } from "./options";

export interface GrpcServerCounts {
  readonly sessions: number;
  readonly calls: number;
  readonly bufferedRequestBytes: number;
  readonly responseBytesInFlight: number;
}

/** A gRPC server without a socket of its own: a listener hands it connections. */
export class GrpcServer {
  constructor(readonly options: GrpcServerOptions) {}

  /** Takes over a connection (plain, or TLS with ALPN h2) whose first bytes have not been consumed. */
  accept(_socket: Duplex): void {
    throw new Error("not yet");
  }

  /** What the server holds right now; all zero when it is idle and nobody is connected. */
  counts(): GrpcServerCounts {
    throw new Error("not yet");
  }

  /**
   * Stops: GOAWAY to every client, unary calls finish, streams end as Unavailable; after `graceMs` whatever is
   * left is cut. Resolves when no connection is open. May be called again to shorten the grace.
   */
  stop(_graceMs: number): Promise<void> {
    throw new Error("not yet");
  }
}
