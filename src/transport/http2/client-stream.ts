/** One request of a client session, and who hears of its answer. */
import type { Http2ClientSession } from "./client-session";
import { errorCode, frameType } from "./protocol";

export type SentHeaders = readonly (readonly [name: string, value: string])[];

/** Nothing is called after `onEnd` or `onAbandoned`, or after {@link ClientStream.cancel}. */
export interface ClientReceiver {
  onHeaders(status: number, headers: ReadonlyMap<string, string>): void;
  /** Bytes of the answer's body in `bytes[start, end)`; keeping them keeps the whole chunk. */
  onData(bytes: Uint8Array, start: number, end: number): void;
  /** The answer is complete. */
  onEnd(): void;
  /** The stream was reset, or the connection is gone. */
  onAbandoned(reason: string): void;
  /** Asked for by {@link ClientStream.wantRoom}: the turn ends, or there is room again. */
  onRoom(stream: ClientStream): void;
}

export class ClientStream {
  receiver: ClientReceiver | undefined;
  /** This side has sent its end. */
  localClosed = false;
  /** Received bytes that were not given back to the window. */
  receivedBytes = 0;
  /** In the session's list of streams that want to send. */
  listed = false;
  /** Wanted to send, and the window was shut. */
  waitsForWindow = false;

  constructor(
    readonly session: Http2ClientSession,
    readonly id: number,
    public sendWindow: number,
    receiver: ClientReceiver,
  ) {
    this.receiver = receiver;
  }

  /** Asks for `onRoom`, once, at the end of the turn or as soon as windows and socket allow. */
  wantRoom(): void {
    if (this.sendWindow > 0) this.session.list(this);
    else this.waitsForWindow = true;
  }

  /** Sends what windows and output have room for, and answers how many bytes of `bytes[start, end)` that were. */
  write(bytes: Uint8Array, start: number, end: number): number {
    const { session } = this;
    const { output } = session;
    let at = start;
    while (at < end) {
      const length = session.roomFor(this, end - at);
      if (length <= 0) break;
      output.frame(length, frameType.data, 0, this.id);
      output.append(bytes.subarray(at, at + length));
      this.sendWindow -= length;
      session.sent(length);
      at += length;
    }
    return at - start;
  }

  /** Gives up; the receiver hears nothing more. */
  cancel(): void {
    if (this.receiver === undefined) return;
    this.receiver = undefined;
    this.session.reset(this, errorCode.cancel);
  }

  /** To be called by the session. */
  ended(): void {
    const { receiver } = this;
    this.receiver = undefined;
    receiver?.onEnd();
  }

  /** To be called by the session. */
  abandon(reason: string): void {
    const { receiver } = this;
    this.receiver = undefined;
    receiver?.onAbandoned(reason);
  }
}
