/**
 * Requests of one connection, begun one after the other: what was sent behind a write sees that write (RFC 9112,
 * section 9.3.2), and whoever sends ahead without end waits with what they send.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

/** Requests that may wait behind the one that is being answered; with more the connection is not read. */
const waitingMax = 16;

interface Waiting {
  readonly response: ServerResponse;
  readonly begin: () => void;
}

/** The lines in which requests of connections wait. */
export class OneByOne {
  readonly #waiting = new WeakMap<Duplex, Waiting[]>();

  /** Calls `begin` once everything that came before on this connection is answered; never when the client left. */
  take({ socket }: IncomingMessage, response: ServerResponse, begin: () => void): void {
    const line = this.#waiting.get(socket);
    if (line === undefined) {
      this.#waiting.set(socket, []);
      this.#begin(socket, response, begin);
      return;
    }
    line.push({ response, begin });
    if (line.length >= waitingMax) socket.pause();
  }

  #begin(socket: Duplex, response: ServerResponse, begin: () => void): void {
    begin();
    let over = false;
    const next = (): void => {
      if (over) return;
      over = true;
      this.#next(socket);
    };
    // A response that cannot be written any more never finishes.
    response.on("finish", next);
    response.on("close", next);
  }

  #next(socket: Duplex): void {
    const line = this.#waiting.get(socket);
    const first = line?.shift();
    if (first === undefined || socket.destroyed) {
      this.#waiting.delete(socket);
      return;
    }
    if (line!.length < waitingMax / 2 && socket.isPaused()) socket.resume();
    this.#begin(socket, first.response, first.begin);
  }
}
