/** Client ports: one socket server per URL that hands each connection to gRPC or HTTP by its first bytes. */
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
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
export async function listen(options: ListenerOptions): Promise<Listener> {
  const open = new Set<Socket>();
  const counts = { open: 0, accepted: 0, refused: 0, timedOut: 0, errors: 0 };
  const accept = (socket: Socket): void => {
    counts.accepted++;
    counts.open++;
    open.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {
      counts.errors++;
    });
    socket.once("close", () => {
      counts.open--;
      open.delete(socket);
    });
    socket.once("readable", () => {
      const first = socket.read() as Buffer | null;
      if (first === null) return;
      socket.unshift(first);
      if (first[0] === 0x50 && (first.length < 2 || first[1] === 0x52)) options.grpc?.accept(socket);
      else if (options.http === undefined) socket.destroy();
      else options.http.emit("connection", socket);
    });
  };
  const servers: Server[] = [];
  const urls: string[] = [];
  for (const text of options.urls) {
    const url = new URL(text);
    const server = createServer(accept);
    servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(Number(url.port), url.hostname.replace(/^\[|\]$/g, ""), resolve);
    });
    url.port = String((server.address() as AddressInfo).port);
    urls.push(url.origin);
  }
  return {
    urls,
    counts: () => counts,
    stopAccepting() {
      for (const server of servers) server.close();
    },
    async close() {
      for (const server of servers) server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
