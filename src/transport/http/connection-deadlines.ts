/**
 * Ends connections that only hold a socket: whose request does not arrive, or that stay silent between requests.
 * The HTTP server has such timeouts for the sockets that it accepts itself; these were accepted by the listener.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

export interface ConnectionTimeouts {
  /** From the connection's start to the end of its first request's headers. */
  readonly headersMs: number;
  /** From an answer's end to the end of the next request's headers. */
  readonly idleMs: number;
  /** From a request's headers to its body's end, unless the body is a stream. */
  readonly bodyMs: number;
}

interface Watched {
  /** When to look again; Infinity while a request is being answered. */
  endAtMs: number;
}

/** Watches all connections of a server; one timer looks at them twice within the shortest timeout. */
export function watchConnections(
  server: Server,
  timeouts: ConnectionTimeouts,
  bodyIsStream: (request: IncomingMessage) => boolean,
): void {
  const connections = new Map<Duplex, Watched>();
  let timer: ReturnType<typeof setInterval> | undefined;
  const lookMs = Math.max(10, Math.min(timeouts.headersMs, timeouts.idleMs, timeouts.bodyMs, 2000) / 2);

  const look = (): void => {
    const nowMs = performance.now();
    for (const [socket, watched] of connections) {
      if (nowMs < watched.endAtMs) continue;
      connections.delete(socket);
      socket.destroy();
    }
    if (connections.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };

  server.on("connection", (socket: Duplex) => {
    connections.set(socket, { endAtMs: performance.now() + timeouts.headersMs });
    socket.on("close", () => connections.delete(socket));
    if (timer !== undefined) return;
    timer = setInterval(look, lookMs);
    timer.unref();
  });
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    const watched = connections.get(request.socket);
    if (watched === undefined) return;
    watched.endAtMs = bodyIsStream(request) ? Infinity : performance.now() + timeouts.bodyMs;
    let answered = false;
    request.on("end", () => {
      if (!answered) watched.endAtMs = Infinity;
    });
    response.on("finish", () => {
      answered = true;
      watched.endAtMs = performance.now() + timeouts.idleMs;
    });
  });
}
