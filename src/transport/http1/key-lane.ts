/**
 * A short way for requests of single keys over HTTP/1.1. A connection whose requests are plain is answered here, from
 * socket to socket; at the first request that is not, it goes over to the full server, bytes and all, for good.
 */
import type { IncomingHttpHeaders, Server } from "node:http";
import type { Duplex } from "node:stream";
import { ConnectionDeadlines, type ConnectionTimeouts } from "../http/connection-deadlines";
import { answerBytes } from "./answer-bytes";
import { type HeaderBlock, headBytesMax, readHead, type RequestHead } from "./request-head";

/** A body beyond this is left to the full server. */
const bodyBytesMax = 64 * 1024;
/** A head that comes in more pieces than this is left to the full server, which need not begin anew with each. */
const headPiecesMax = 4;
/** Bytes of requests under way, over all connections; more are left to the full server, which has a budget. */
const pendingBytesMaxDefault = 32 * 1024 * 1024;

/** An answer as plain data. */
export interface LaneAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | undefined;
}

/** One request, whose body is there. */
export interface LaneRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Uint8Array;
  /** Undefined for a Unix socket. */
  readonly remoteAddress: string | undefined;
  /** A request of this connection with these very headers was let in before. */
  readonly admitted: boolean;
  /** Headers like these need no checking again on this connection. */
  admit(): void;
  /** Calls back when the client leaves before the answer. */
  onClose(listener: () => void): void;
}

export interface LaneHandler {
  /** Whether a request for this target can be answered with plain data. */
  takes(target: string): boolean;
  /** Never rejects. */
  answer(request: LaneRequest): Promise<LaneAnswer>;
}

export interface KeyLaneOptions {
  readonly handler: LaneHandler;
  /** Whether the door lets such headers in without further ado; otherwise the full server says why not. */
  readonly letsIn: (method: string, headers: IncomingHttpHeaders, encrypted: boolean) => boolean;
  readonly timeouts: ConnectionTimeouts;
  /** An answer with this status was written. */
  readonly answered: (status: number) => void;
  readonly pendingBytesMax?: number;
}

type Emitter = Pick<Server, "emit">;

/** What the listener hands connections to: the lane, with the full server behind it. */
export class KeyLane {
  readonly deadlines: ConnectionDeadlines;
  pendingBytes = 0;
  readonly pendingBytesMax: number;

  constructor(
    readonly server: Emitter,
    readonly options: KeyLaneOptions,
  ) {
    this.deadlines = new ConnectionDeadlines(options.timeouts);
    this.pendingBytesMax = options.pendingBytesMax ?? pendingBytesMaxDefault;
  }

  emit(_event: "connection", socket: Duplex): boolean {
    const connection = new LaneConnection(this, socket);
    connection.begin();
    return true;
  }
}

const nothing: Buffer = Buffer.alloc(0);

class LaneConnection {
  readonly #encrypted: boolean;
  readonly #remoteAddress: string | undefined;
  /** What has come and was not answered yet. */
  #pending = nothing;
  /** The head of the request whose body is still coming. */
  #head: RequestHead | undefined;
  #headPieces = 0;
  #block: HeaderBlock | undefined;
  #admittedBlock: HeaderBlock | undefined;
  #busy = false;
  #blocked = false;
  #closed = false;
  #leaving: (() => void)[] | undefined;
  readonly #onData = (chunk: Buffer): void => this.#receive(chunk);
  readonly #onDrain = (): void => this.#drained();
  readonly #onClose = (): void => this.#end();

  constructor(
    readonly lane: KeyLane,
    readonly socket: Duplex,
  ) {
    const { encrypted, remoteAddress } = socket as Duplex & { encrypted?: boolean; remoteAddress?: string };
    this.#encrypted = encrypted === true;
    this.#remoteAddress = remoteAddress;
  }

  begin(): void {
    const { lane, socket } = this;
    lane.deadlines.set(socket, lane.options.timeouts.headersMs);
    socket.on("data", this.#onData);
    socket.on("drain", this.#onDrain);
    socket.on("close", this.#onClose);
  }

  #receive(chunk: Buffer): void {
    this.lane.pendingBytes += chunk.length;
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    if (!this.#busy && !this.#blocked) this.#next();
    // A client that sends ahead waits in its own buffers.
    else if (this.#pending.length > headBytesMax) this.socket.pause();
  }

  /** Answers the next request if all of it is there. */
  #next(): void {
    const { lane, socket } = this;
    if (this.#pending.length === 0) return;
    const bytes = this.#pending;
    let head = this.#head;
    if (head === undefined) {
      const read = readHead(bytes, this.#block);
      if (
        read === "incomplete" &&
        ++this.#headPieces < headPiecesMax &&
        lane.pendingBytes <= lane.pendingBytesMax
      )
        return;
      if (read === "incomplete" || read === "unusual" || !this.#takes(read)) {
        this.#handOver();
        return;
      }
      head = read;
      this.#headPieces = 0;
      this.#block = head.block;
    }
    const end = head.end + head.block.contentLength;
    if (bytes.length < end) {
      if (lane.pendingBytes > lane.pendingBytesMax) {
        this.#handOver();
        return;
      }
      if (this.#head === undefined) lane.deadlines.set(socket, lane.options.timeouts.bodyMs);
      this.#head = head;
      return;
    }
    this.#head = undefined;
    this.#pending = bytes.length === end ? nothing : bytes.subarray(end);
    lane.pendingBytes -= end;
    this.#busy = true;
    lane.deadlines.set(socket, Infinity);
    void this.#serve(head, bytes.subarray(head.end, end));
  }

  #takes({ method, target, block }: RequestHead): boolean {
    const { handler, letsIn } = this.lane.options;
    if (block.contentLength > bodyBytesMax || !handler.takes(target)) return false;
    return block === this.#admittedBlock || letsIn(method, block.headers, this.#encrypted);
  }

  async #serve({ method, target, block }: RequestHead, body: Uint8Array): Promise<void> {
    const answer = await this.lane.options.handler.answer({
      method,
      target,
      headers: block.headers,
      body,
      remoteAddress: this.#remoteAddress,
      admitted: this.#admittedBlock === block,
      admit: () => {
        this.#admittedBlock = block;
      },
      onClose: (listener) => {
        if (this.#closed) listener();
        else if (this.#leaving === undefined) this.#leaving = [listener];
        else this.#leaving.push(listener);
      },
    });
    if (this.#closed) return;
    this.#leaving = undefined;
    const close = block.close || answer.headers["connection"] === "close";
    const bytes = answerBytes(answer, close);
    this.lane.options.answered(answer.status);
    this.#busy = false;
    if (close) {
      this.#forget();
      this.#hangUp(bytes);
      return;
    }
    this.#blocked = !this.socket.write(bytes);
    this.lane.deadlines.set(this.socket, this.lane.options.timeouts.idleMs);
    if (!this.#blocked) this.#goOn();
  }

  /** Sends the last bytes. A client that does not close its side holds the connection only so long. */
  #hangUp(bytes: Uint8Array): void {
    const { lane, socket } = this;
    socket.on("error", () => socket.destroy());
    socket.on("close", () => lane.deadlines.forget(socket));
    lane.deadlines.set(socket, lane.options.timeouts.idleMs);
    socket.end(bytes);
    // What is still sent is not read, or the connection's end would be a reset.
    socket.resume();
  }

  #drained(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    if (!this.#busy) this.#goOn();
  }

  #goOn(): void {
    if (this.#pending.length > 0) this.#next();
    if (this.socket.isPaused() && this.#pending.length <= headBytesMax && !this.#closed) this.socket.resume();
  }

  /** From here on this connection is the full server's. */
  #handOver(): void {
    const { lane, socket } = this;
    const pending = this.#pending;
    this.#forget();
    this.#closed = true;
    socket.pause();
    if (pending.length > 0) socket.unshift(pending);
    lane.server.emit("connection", socket);
    socket.resume();
  }

  /** Lets go of the socket and of what it had sent. */
  #forget(): void {
    const { lane, socket } = this;
    socket.removeListener("data", this.#onData);
    socket.removeListener("drain", this.#onDrain);
    socket.removeListener("close", this.#onClose);
    lane.deadlines.forget(socket);
    lane.pendingBytes -= this.#pending.length;
    this.#pending = nothing;
  }

  #end(): void {
    this.#closed = true;
    this.#forget();
    const leaving = this.#leaving;
    this.#leaving = undefined;
    for (const listener of leaving ?? []) listener();
  }
}
