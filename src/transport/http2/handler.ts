/** What a user of this folder implements, and what it says about a connection. */
import type { OutputBudget } from "./output";
import type { RequestHeaders } from "./request";
import type { Http2Stream } from "./stream";

/** Who hears about one connection. */
export interface SessionHandler {
  /** A request came; its body follows by way of the stream's receiver, or `stream.remoteClosed` is set. */
  request(stream: Http2Stream, headers: RequestHeaders): void;
  /** A ping came in; false when it was one too many and the session was ended. */
  ping(): boolean;
  /** DATA that had waited was sent. */
  wrote(): void;
  /** The connection is gone, and every open stream was abandoned before. */
  closed(): void;
}

export interface SessionOptions {
  /** Further streams are refused; 4294967295 = any number. */
  readonly maxConcurrentStreams: number;
  /** A longer header list (RFC 9113 6.5.2) makes its request fail, a longer block the connection. */
  readonly headerListBytesMax: number;
  readonly budget: OutputBudget;
  /** How much a client may send on one stream before it was read. Default 1 MiB. */
  readonly streamWindowBytes?: number;
  readonly failed: (reason: string) => void;
}

/** Who hears about one stream. Nothing is called after `abandon`, or after the stream was reset from this side. */
export interface StreamReceiver {
  /** Bytes of the body in `bytes[start, end)`. They stay as they are, but keeping them keeps the whole chunk. */
  onData(bytes: Uint8Array, start: number, end: number): void;
  /** The client half-closed. */
  onEnd(): void;
  /** Everything that was sent has left this stream's queue. */
  onDrain(): void;
  /** The answer's end was sent. */
  onFinished(): void;
  /** The client reset the stream, or the connection is gone. */
  abandon(): void;
}
