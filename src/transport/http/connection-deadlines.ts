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

/** The defaults of the HTTP/1.1 door. */
export const timeoutsDefault: ConnectionTimeouts = { headersMs: 10_000, idleMs: 300_000, bodyMs: 120_000 };

/** When each connection is to end; one timer looks at all of them twice within the shortest timeout. */
export class ConnectionDeadlines {
  readonly #endAtMs = new Map<Duplex, number>();
  readonly #lookMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor({ headersMs, idleMs, bodyMs }: ConnectionTimeouts) {
    this.#lookMs = Math.max(10, Math.min(headersMs, idleMs, bodyMs, 2000) / 2);
  }

  /** Whether the connection is watched. */
  has(socket: Duplex): boolean {
    return this.#endAtMs.has(socket);
  }

  /** Ends the connection after this long, whatever was said before; Infinity while a request is being answered. */
  set(socket: Duplex, afterMs: number): void {
    this.#endAtMs.set(socket, afterMs === Infinity ? Infinity : performance.now() + afterMs);
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#look(), this.#lookMs);
    this.#timer.unref();
  }

  forget(socket: Duplex): void {
    this.#endAtMs.delete(socket);
  }

  #look(): void {
    const nowMs = performance.now();
    for (const [socket, endAtMs] of this.#endAtMs) {
      if (nowMs < endAtMs) continue;
      this.#endAtMs.delete(socket);
      socket.destroy();
    }
    if (this.#endAtMs.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** Watches all connections of a server. Answers what is to be called when a request begins to be looked at. */
export function watchConnections(
  server: Server,
  timeouts: ConnectionTimeouts,
  bodyIsStream: (request: IncomingMessage) => boolean,
): (request: IncomingMessage, response: ServerResponse) => void {
  const deadlines = new ConnectionDeadlines(timeouts);
  server.on("connection", (socket: Duplex) => {
    deadlines.set(socket, timeouts.headersMs);
    socket.on("close", () => deadlines.forget(socket));
  });
  return (request, response) => {
    const { socket } = request;
    if (!deadlines.has(socket)) return;
    // The end of a body that is not there is told only to those who read it, and nobody does.
    deadlines.set(socket, !hasBody(request) || bodyIsStream(request) ? Infinity : timeouts.bodyMs);
    let answered = false;
    request.on("end", () => {
      if (!answered && deadlines.has(socket)) deadlines.set(socket, Infinity);
    });
    response.on("finish", () => {
      answered = true;
      if (deadlines.has(socket)) deadlines.set(socket, timeouts.idleMs);
    });
  };
}
