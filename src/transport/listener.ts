/**
 * Client ports: one socket server per URL that hands each connection on by its first bytes, the HTTP/2 preface to
 * gRPC and everything else to HTTP/1.1. An `HttpServerLike` alone makes an HTTP-only port
 * (--listen-client-http-urls, --listen-metrics-urls), a `ConnectionTaker` alone a gRPC-only one.
 */
import { createServer } from "node:net";
import type { AddressInfo, ListenOptions, Server, Socket } from "node:net";
import type { Duplex } from "node:stream";

import { asksForWebSocket } from "./gateway/web-socket";

/** Takes over HTTP/2 connections (a GrpcServer). */
export interface ConnectionTaker {
  accept(socket: Duplex): void;
}

/** Takes over HTTP/1.1 connections: a `node:http` server that is not listening itself. */
export interface HttpServerLike {
  emit(event: "connection", socket: Duplex): boolean;
}

/**
 * Makes the socket server of one URL and calls `accept` with each connection once it can be read. This is where
 * TLS comes in: a `tls` server calls back after its handshake, under its own deadline.
 */
export type SocketServerFactory = (url: URL, accept: (socket: Socket) => void) => Server;

export interface ListenerOptions {
  /** `http://host:port`, `http://[::1]:port`, or `unix:///path`; port 0 picks a free one. */
  readonly urls: readonly string[];
  /** HTTP/2 goes here. Absent: HTTP/2 connections are closed. */
  readonly grpc?: ConnectionTaker;
  /** Everything else goes here. Absent: such connections are closed. */
  readonly http?: HttpServerLike;
  /** Connections that begin by asking for a WebSocket go here. Absent: they go where everything else goes. */
  readonly webSockets?: HttpServerLike;
  /** A connection whose first bytes do not tell its protocol for this long is closed. Default 10 s. */
  readonly firstByteTimeoutMs?: number;
  /** Further connections are closed at once. Default 65536. */
  readonly connectionsMax?: number;
  /** Absent: plain TCP and Unix sockets. */
  readonly socketServer?: SocketServerFactory;
  readonly log?: (message: string, fields: Readonly<Record<string, unknown>>) => void;
}

export interface ListenerCounts {
  readonly open: number;
  readonly accepted: number;
  /** Closed at once because too many were open. */
  readonly refused: number;
  /** Closed because they did not show their protocol in time. */
  readonly timedOut: number;
  /** Socket errors; they concern one connection and are not reported otherwise. */
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

/** The start of the HTTP/2 client preface, enough to tell it from any HTTP/1.1 request. */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** What the first bytes are: "undecided" while they are a true prefix of the preface. */
export function sniff(bytes: Uint8Array): "http2" | "other" | "undecided" {
  const length = Math.min(bytes.length, preface.length);
  for (let i = 0; i < length; i++) if (bytes[i] !== preface[i]) return "other";
  return length === preface.length ? "http2" : "undecided";
}

/** Opens all URLs, or none: rejects with the first failure. */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const ports = new ClientPorts(options);
  try {
    for (const url of options.urls) await ports.open(url);
  } catch (error) {
    await ports.close();
    throw error;
  }
  return ports;
}

class ClientPorts implements Listener {
  readonly urls: string[] = [];
  readonly #options: ListenerOptions;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  #accepted = 0;
  #refused = 0;
  #timedOut = 0;
  #errors = 0;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  async open(text: string): Promise<void> {
    const url = new URL(text);
    const make = this.#options.socketServer ?? plainSocketServer;
    const server = make(url, (socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(listenTarget(url), () => {
        server.removeListener("error", reject);
        resolve();
      });
    });
    server.on("error", (error) => {
      this.#errors++;
      this.#options.log?.("a listening socket failed", { url: text, error: error.message });
    });
    this.#servers.push(server);
    const address = server.address();
    if (address !== null && typeof address === "object") url.port = String((address as AddressInfo).port);
    this.urls.push(url.href.replace(/\/$/, ""));
  }

  counts(): ListenerCounts {
    return {
      open: this.#sockets.size,
      accepted: this.#accepted,
      refused: this.#refused,
      timedOut: this.#timedOut,
      errors: this.#errors,
    };
  }

  stopAccepting(): void {
    for (const server of this.#servers) server.close();
  }

  async close(): Promise<void> {
    const closed = this.#servers.map(
      (server) =>
        new Promise<void>((resolve) => {
          if (server.listening) server.close(() => resolve());
          else resolve();
        }),
    );
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
  }

  #accept(socket: Socket): void {
    this.#accepted++;
    socket.on("error", () => {
      this.#errors++;
    });
    if (this.#sockets.size >= (this.#options.connectionsMax ?? 65_536)) {
      this.#refused++;
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    this.#awaitFirstBytes(socket);
  }

  #awaitFirstBytes(socket: Socket): void {
    let seen: Buffer | undefined;
    const timer = setTimeout(() => {
      this.#timedOut++;
      socket.destroy();
    }, this.#options.firstByteTimeoutMs ?? 10_000);
    const forget = (): void => {
      clearTimeout(timer);
      socket.removeListener("data", onData);
      socket.removeListener("close", forget);
      socket.removeListener("end", onEnd);
    };
    const onEnd = (): void => {
      // Closed before it said anything, or in the middle of the preface.
      forget();
      socket.destroy();
    };
    const onData = (chunk: Buffer): void => {
      seen = seen === undefined ? chunk : Buffer.concat([seen, chunk]);
      const protocol = sniff(seen);
      if (protocol === "undecided") return;
      forget();
      socket.pause();
      socket.unshift(seen);
      this.#handOver(socket, protocol, seen);
    };
    socket.on("data", onData);
    socket.on("close", forget);
    socket.on("end", onEnd);
  }

  #handOver(socket: Socket, protocol: "http2" | "other", seen: Uint8Array): void {
    try {
      if (protocol === "http2" && this.#options.grpc !== undefined) {
        this.#options.grpc.accept(socket);
      } else if (protocol === "other" && this.#options.webSockets !== undefined && asksForWebSocket(seen)) {
        this.#options.webSockets.emit("connection", socket);
      } else if (protocol === "other" && this.#options.http !== undefined) {
        this.#options.http.emit("connection", socket);
      } else {
        socket.destroy();
        return;
      }
      socket.resume();
    } catch (error) {
      this.#errors++;
      this.#options.log?.("a connection could not be taken over", { error: String(error) });
      socket.destroy();
    }
  }
}

function plainSocketServer(_url: URL, accept: (socket: Socket) => void): Server {
  return createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }, accept);
}

function listenTarget(url: URL): ListenOptions {
  if (url.protocol === "unix:") return { path: decodeURIComponent(url.pathname) };
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  return { host, port };
}
