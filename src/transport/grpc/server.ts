/** The gRPC server: HTTP/2 connections in, calls of the method table out. */
import type { Duplex } from "node:stream";
import { refuse } from "../../errors";
import type { GrpcCall } from "./call";
import { Connection } from "./connection";
import { ServerCore } from "./core";
import type { GrpcServerOptions } from "./options";
import { withDefaults } from "./options";
import { StreamCall } from "./stream";

export type { GrpcServerOptions } from "./options";

/** Checks in a row without a leader after which a stream with `hasleader` is ended (etcd-wire 6). */
const leaderlessChecksMax = 3;

export interface GrpcServerCounts {
  readonly connections: number;
  readonly calls: number;
  readonly deadlines: number;
  /** Bytes of requests that wait for their end or their handler. */
  readonly bufferedRequestBytes: number;
  /** Bytes with sockets that wait for their clients. */
  readonly responseBytesInFlight: number;
}

/** A gRPC server without a socket of its own: a listener hands it connections. */
export class GrpcServer {
  readonly #core: ServerCore;
  readonly #connections = new Set<Connection>();
  readonly #timers: ReturnType<typeof setInterval>[] = [];
  #leaderlessChecks = 0;
  #whenEmpty: (() => void)[] = [];

  constructor(options: GrpcServerOptions) {
    const settings = withDefaults(options);
    this.#core = new ServerCore(settings, () => {
      let bytes = 0;
      for (const { session } of this.#connections) bytes += session.queuedBytes;
      return bytes;
    });
    const { keepaliveIntervalMs, keepaliveTimeoutMs, electionTimeoutMs } = settings;
    if (keepaliveIntervalMs > 0) {
      const everyMs = Math.max(20, Math.min(keepaliveIntervalMs, keepaliveTimeoutMs, 60_000) / 4);
      this.#every(everyMs, () => {
        const now = performance.now();
        for (const connection of this.#connections) connection.keepAlive(now);
      });
    }
    this.#every(electionTimeoutMs, () => this.#checkLeader());
  }

  /** Takes over a connection (plain, or TLS with ALPN h2) whose first bytes have not been consumed. */
  accept(socket: Duplex): void {
    if (this.#core.stopping) {
      socket.destroy();
      return;
    }
    const connection = new Connection(this.#core, socket, (closed) => {
      this.#connections.delete(closed);
      this.#emptied();
    });
    this.#connections.add(connection);
    connection.start();
  }

  /** What the server holds right now; all zero when it is idle and nobody is connected. */
  counts(): GrpcServerCounts {
    let calls = 0;
    for (const { activeCalls } of this.#connections) calls += activeCalls;
    return {
      connections: this.#connections.size,
      calls,
      deadlines: this.#core.deadlines.armed,
      bufferedRequestBytes: this.#core.bufferedBytes,
      responseBytesInFlight: this.#core.budget.inFlight,
    };
  }

  /**
   * Stops: GOAWAY to every client, streams end as Unavailable "etcdserver: server stopped", unary calls finish;
   * after `graceMs` whatever is left is cut. Resolves when no connection is open.
   */
  stop(graceMs: number): Promise<void> {
    this.#core.stopping = true;
    for (const connection of this.#connections) connection.goAway();
    for (const call of this.#calls()) {
      if (call instanceof StreamCall) call.cancelWith(refuse("stopped"));
    }
    const done = new Promise<void>((resolve) => this.#whenEmpty.push(resolve));
    const cut = setTimeout(() => {
      for (const call of this.#calls()) call.cancelWith(refuse("stopped"));
      setImmediate(() => {
        for (const connection of this.#connections) connection.session.destroy();
      });
    }, graceMs);
    this.#emptied();
    return done.then(() => {
      clearTimeout(cut);
      for (const timer of this.#timers) clearInterval(timer);
      this.#core.deadlines.close();
    });
  }

  #calls(): GrpcCall[] {
    return [...this.#connections].flatMap((connection) => connection.calls());
  }

  #emptied(): void {
    if (!this.#core.stopping || this.#connections.size > 0) return;
    const waiting = this.#whenEmpty;
    this.#whenEmpty = [];
    for (const resolve of waiting) resolve();
  }

  #checkLeader(): void {
    if (this.#core.settings.member.leaderKnown()) {
      this.#leaderlessChecks = 0;
      return;
    }
    if (++this.#leaderlessChecks !== leaderlessChecksMax) return;
    for (const call of this.#core.leaderWatchers) call.cancelWith(refuse("noLeader"));
  }

  #every(intervalMs: number, work: () => void): void {
    const timer = setInterval(work, intervalMs);
    timer.unref();
    this.#timers.push(timer);
  }
}
