/** Fetches pieces of files from one member, on a connection that exists while it is used. */
import type { Socket } from "node:net";
import { hexId, type MemberId } from "../../ids";
import type { CancelTimer } from "../../member/ports";
import { Http2ClientSession } from "../http2/client-session";
import type { ClientReceiver, ClientStream } from "../http2/client-stream";
import { type PeerContext, Silence } from "./context";
import { dial, targetOf } from "./dial";
import { checksumHeader, pieceQuery, type PieceRequest } from "./files";
import { filePath, helloHeaders, readRefusal } from "./handshake";
import { fileConnectionIdleMs, pieceBytesMax, pieceIdleMs } from "./limits";

const refusalBytesMax = 4096;

export class FileClient {
  #urls: readonly string[];
  #urlAt = 0;
  #connecting: Promise<Http2ClientSession> | undefined;
  #session: Http2ClientSession | undefined;
  #silence: Silence | undefined;
  #usedAtMs = 0;
  #closed = false;

  constructor(
    private readonly context: PeerContext,
    private readonly from: MemberId,
    urls: readonly string[],
  ) {
    this.#urls = urls;
  }

  setUrls(urls: readonly string[]): void {
    this.#urls = urls;
  }

  /** Rejects when the member cannot be reached, refuses, or sends something else than it announced. */
  async fetch(wanted: PieceRequest): Promise<Uint8Array> {
    const session = await this.#connection();
    this.#usedAtMs = this.context.options.clock.monotonicMs();
    return new Promise((resolve, reject) => {
      const path = `${filePath}?${pieceQuery(wanted)}`;
      const piece = new PieceReceiver(this.context, this.from, wanted.bytesMax, resolve, reject);
      const { identity } = this.context;
      piece.stream = session.request("GET", path, helloHeaders(identity, this.from), false, piece);
    });
  }

  /** Looks after the connection, `lateMs` later than planned. */
  look(nowMs: number, lateMs: number): void {
    const session = this.#session;
    if (session === undefined || this.#silence === undefined) return;
    if (session.openStreams > 0) this.#usedAtMs = nowMs;
    else if (nowMs - this.#usedAtMs > fileConnectionIdleMs) {
      session.destroy("not used any more");
      return;
    }
    const heard = session.heard;
    session.heard = false;
    if (this.#silence.look(nowMs, heard, lateMs) > this.context.deadMs) session.destroy("silent");
    else session.ping();
  }

  close(): void {
    this.#closed = true;
    this.#session?.destroy("closed");
  }

  async #connection(): Promise<Http2ClientSession> {
    if (this.#session?.usable === true) return this.#session;
    this.#connecting ??= this.#connect().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #connect(): Promise<Http2ClientSession> {
    let reason = "the member has no peer URL";
    for (let attempt = 0; attempt < this.#urls.length && !this.#closed; attempt++) {
      const url = this.#urls[this.#urlAt % this.#urls.length]!;
      const target = targetOf(url);
      if (typeof target === "string") reason = `${url}: ${target}`;
      else {
        try {
          return this.#begin(await this.#dial(target), target.authority);
        } catch (error) {
          reason = error instanceof Error ? error.message : String(error);
        }
      }
      this.#urlAt++;
    }
    throw new Error(`member ${hexId(this.from)} cannot be reached: ${this.#closed ? "closed" : reason}`);
  }

  #dial(target: Exclude<ReturnType<typeof targetOf>, string>): Promise<Socket> {
    const { dialTimeoutMs, options } = this.context;
    return new Promise((resolve, reject) => {
      dial(target, dialTimeoutMs, options.clock, resolve, (reason) => reject(new Error(reason)));
    });
  }

  #begin(socket: Socket, authority: string): Http2ClientSession {
    const session = new Http2ClientSession(socket, {
      budget: this.context.budget,
      authority,
      closed: () => {
        if (this.#session === session) this.#session = undefined;
      },
      pinged: () => {},
    });
    this.#session = session;
    this.#usedAtMs = this.context.options.clock.monotonicMs();
    this.#silence = new Silence(this.#usedAtMs);
    session.start();
    if (this.#closed) session.destroy("closed");
    return session;
  }
}

/** Hears of the answer to one question. */
class PieceReceiver implements ClientReceiver {
  stream: ClientStream | undefined;
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;
  #status = 0;
  #headers: ReadonlyMap<string, string> = new Map();
  #cancel: CancelTimer;

  constructor(
    private readonly context: PeerContext,
    private readonly from: MemberId,
    private readonly bytesMax: number,
    private readonly resolve: (piece: Uint8Array) => void,
    private readonly reject: (error: Error) => void,
  ) {
    this.#cancel = this.#watch();
  }

  onHeaders(status: number, headers: ReadonlyMap<string, string>): void {
    this.#status = status;
    this.#headers = headers;
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes += end - start;
    const limit = this.#status === 200 ? Math.min(this.bytesMax, pieceBytesMax) : refusalBytesMax;
    if (this.#bytes > limit) {
      this.#fail("the answer is longer than what was asked for");
      return;
    }
    this.#chunks.push(bytes.subarray(start, end));
    this.#cancel();
    this.#cancel = this.#watch();
  }

  onEnd(): void {
    this.#cancel();
    const body = Buffer.concat(this.#chunks);
    if (this.#status !== 200) {
      const { reason, message } = readRefusal(this.#status, body.toString("utf8"));
      this.reject(new Error(`member ${hexId(this.from)} refused: ${reason}: ${message}`));
      return;
    }
    const whole =
      this.#headers.get("content-length") === String(body.length) &&
      this.#headers.get(checksumHeader) === String(Bun.hash.crc32(body));
    if (whole) this.resolve(body);
    else this.reject(new Error(`a piece from member ${hexId(this.from)} was damaged on its way`));
  }

  onAbandoned(reason: string): void {
    this.#cancel();
    this.reject(new Error(`member ${hexId(this.from)}: ${reason}`));
  }

  onRoom(): void {}

  #watch(): CancelTimer {
    return this.context.options.clock.after(pieceIdleMs, () => this.#fail("no progress"));
  }

  #fail(reason: string): void {
    this.stream?.cancel();
    this.onAbandoned(reason);
  }
}
