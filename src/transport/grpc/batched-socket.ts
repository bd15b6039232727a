/**
 * A connection that gathers what HTTP/2 writes within one turn of the event loop into one send. Given the socket
 * itself, node:http2 makes a system call for every answered stream, which under load costs more than all else
 * that is done for a call (measurements in README.md).
 */
import { Duplex } from "node:stream";

/** Gathered bytes that are sent without waiting for the end of the turn. */
const gatheredBytesMax = 64 * 1024;

export class BatchedSocket extends Duplex {
  /** The connection beneath: its addresses and certificates are asked here. */
  readonly socket: Duplex;
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #scheduled = false;

  constructor(socket: Duplex) {
    super({ allowHalfOpen: true });
    this.socket = socket;
    // Straight to the listener of the session, which takes every chunk at once: no second queue for input.
    socket.on("data", (chunk: Buffer) => this.emit("data", chunk));
    socket.on("drain", () => this.emit("drain"));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  /** Bypasses the queue of a Duplex: bytes are gathered here, and the socket's own queue says when to wait. */
  override write(chunk: Uint8Array): boolean {
    if (this.destroyed || this.writableEnded) return false;
    this.#gathered.push(chunk);
    this.#gatheredBytes += chunk.length;
    if (this.#gatheredBytes >= gatheredBytesMax) {
      this.#send();
    } else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#turnEnded);
    }
    return !this.socket.writableNeedDrain;
  }

  override _read(): void {
    this.socket.resume();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#send();
    this.socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // What was written before goes out, such as the GOAWAY that says why.
    this.#send();
    if (error === null) this.socket.end(() => this.socket.destroy());
    else this.socket.destroy();
    done(error);
  }

  readonly #turnEnded = (): void => {
    this.#scheduled = false;
    this.#send();
  };

  #send(): void {
    const gathered = this.#gathered;
    if (gathered.length === 0 || this.socket.destroyed || this.socket.writableEnded) return;
    this.#gathered = [];
    this.#gatheredBytes = 0;
    this.socket.write(gathered.length === 1 ? gathered[0]! : Buffer.concat(gathered));
  }
}
