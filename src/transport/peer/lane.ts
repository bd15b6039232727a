/**
 * The way of messages to one member: a queue, and the connection that empties it. Each member has two lanes, so that
 * small urgent messages never wait behind appends. What is queued when a connection fails is lost with it.
 */
import { hexId, type MemberId } from "../../ids";
import type { PeerMessage } from "../../member/peer-message";
import type { CancelTimer } from "../../member/ports";
import { Http2ClientSession } from "../http2/client-session";
import type { ClientReceiver, ClientStream } from "../http2/client-stream";
import { ByteWriter } from "./bytes";
import { encodeMessage } from "./codec";
import { type PeerContext, Silence, warnSeldom, withoutNumbers } from "./context";
import { dial, type PeerTarget, targetOf } from "./dial";
import {
  helloHeaders,
  type LaneName,
  messagePaths,
  readId,
  readRefusal,
  refusals,
  saysFresh,
} from "./handshake";
import {
  dialingQueueBytesMax,
  lingerMs,
  queueBytesKept,
  queueBytesMax,
  queueMessagesMax,
  retryFirstMs,
  retryLastMs,
  retryRefusedMs,
  settledMs,
} from "./limits";

/** Ends of sent messages are let go when there are this many. */
const sentEndsMax = 4096;
const refusalBytesMax = 4096;

export interface LaneEvents {
  /** So many bytes were given to the connection. */
  sent(bytes: number): void;
  /** Messages were lost on this side: no connection, or the queue is full. */
  dropped(messages: number): void;
  roundTrip(ms: number): void;
}

export class Lane implements ClientReceiver {
  readonly #context: PeerContext;
  readonly #to: MemberId;
  readonly #name: LaneName;
  readonly #events: LaneEvents;
  #urls: readonly string[];
  #urlAt = 0;
  #state: "waiting" | "dialing" | "greeting" | "open" | "closed" = "waiting";
  #failures = 0;
  #attemptedAtMs = -Infinity;
  #openedAtMs = 0;
  #cancel: CancelTimer | undefined;
  #session: Http2ClientSession | undefined;
  #stream: ClientStream | undefined;
  #silence: Silence | undefined;
  #pingSentAtMs: number | undefined;
  #status = 0;
  #answer: ReadonlyMap<string, string> = new Map();
  #answerBody = "";
  /** Encoded messages; those before `#sentTo` have left, perhaps in the middle of one. */
  #queue = new ByteWriter();
  #sentTo = 0;
  /** Where the queued messages end, in the queue's coordinates before `#shifted` was cut off its front. */
  #ends: number[] = [];
  #firstEnd = 0;
  #shifted = 0;
  #roomWanted = false;
  #gone: (() => void) | undefined;

  constructor(
    context: PeerContext,
    to: MemberId,
    name: LaneName,
    urls: readonly string[],
    events: LaneEvents,
  ) {
    this.#context = context;
    this.#to = to;
    this.#name = name;
    this.#urls = urls;
    this.#events = events;
    this.#attempt();
  }

  get open(): boolean {
    return this.#state === "open";
  }

  get queuedBytes(): number {
    return this.#queue.end - this.#sentTo;
  }

  get queuedMessages(): number {
    return this.#ends.length - this.#firstEnd;
  }

  setUrls(urls: readonly string[]): void {
    if (urls.length === this.#urls.length && urls.every((url, at) => url === this.#urls[at])) return;
    this.#urls = urls;
    this.#urlAt = 0;
    this.kick();
  }

  /**
   * Queues a message, to leave at the end of this turn; false: dropped, because there is no room or no connection.
   * Proposals do not wait for a connection, whose failure would take them down: their sender keeps them until there is one.
   */
  send(message: PeerMessage): boolean {
    if (this.#state === "waiting" || this.#state === "closed") {
      this.#events.dropped(1);
      return false;
    }
    if (message.kind === "propose" && this.#state !== "open") return false;
    const start = this.#queue.end;
    encodeMessage(this.#queue, message);
    const bytesMax = this.#state === "open" ? queueBytesMax[this.#name] : dialingQueueBytesMax;
    const tooLong = this.#queue.end - start > this.#context.messageBytesMax;
    if (tooLong || this.queuedBytes > bytesMax || this.queuedMessages >= queueMessagesMax[this.#name]) {
      this.#refuseMessage(start, message.kind, tooLong);
      return false;
    }
    this.#ends.push(this.#queue.end + this.#shifted);
    if (this.#state !== "open" || this.#roomWanted) return true;
    this.#roomWanted = true;
    this.#stream!.wantRoom();
    return true;
  }

  /** What is queued leaves now, as far as the connection takes it. */
  flush(): void {
    if (this.#roomWanted) this.#session?.flush();
  }

  /** The member was just heard of: a pause between attempts to reach it ends. */
  kick(): void {
    if (this.#state !== "waiting") return;
    if (this.#context.options.clock.monotonicMs() - this.#attemptedAtMs < retryFirstMs) return;
    this.#cancel?.();
    this.#attempt();
  }

  /** Looks after the connection, `lateMs` later than planned. */
  look(nowMs: number, lateMs: number): void {
    const session = this.#session;
    if (session === undefined || this.#silence === undefined) return;
    const heard = session.heard;
    session.heard = false;
    const silentMs = this.#silence.look(nowMs, heard, lateMs);
    if (silentMs > this.#context.deadMs) {
      session.destroy(`nothing was heard for ${Math.round(silentMs)} ms`);
      return;
    }
    if (this.#pingSentAtMs !== undefined) return;
    this.#pingSentAtMs = nowMs;
    session.ping();
  }

  /** Sends what is queued if the connection takes it, and is silent from then on. Resolves when it is gone. */
  close(): Promise<void> {
    if (this.#state === "closed") return Promise.resolve();
    this.#state = "closed";
    this.#cancel?.();
    const session = this.#session;
    if (session === undefined) return Promise.resolve();
    session.finish();
    return new Promise((resolve) => {
      this.#gone = resolve;
      this.#cancel = this.#context.options.clock.after(lingerMs, () => session.destroy("closed"));
    });
  }

  // The connection's life.

  #attempt(): void {
    const { options, dialTimeoutMs } = this.#context;
    this.#attemptedAtMs = options.clock.monotonicMs();
    this.#cancel = undefined;
    const url = this.#urls[this.#urlAt % Math.max(1, this.#urls.length)];
    const target = url === undefined ? "the member has no peer URL" : targetOf(url);
    if (typeof target === "string") {
      this.#failed(`${url ?? ""}: ${target}`, retryRefusedMs);
      return;
    }
    this.#state = "dialing";
    this.#cancel = dial(
      target,
      dialTimeoutMs,
      options.clock,
      (socket) => {
        this.#greet(target, socket);
      },
      (reason) => this.#failed(reason),
    );
  }

  #greet({ authority }: PeerTarget, socket: ConstructorParameters<typeof Http2ClientSession>[0]): void {
    const { options, identity, budget, dialTimeoutMs } = this.#context;
    this.#state = "greeting";
    this.#status = 0;
    this.#answerBody = "";
    const session = new Http2ClientSession(socket, {
      budget,
      authority,
      closed: (reason) => {
        if (this.#session === session) this.#lost(reason);
      },
      pinged: () => this.#pinged(),
    });
    this.#session = session;
    this.#cancel = options.clock.after(dialTimeoutMs, () =>
      session.destroy(`no answer from ${authority} in time`),
    );
    session.start();
    this.#stream = session.request(
      "POST",
      messagePaths[this.#name],
      helloHeaders(identity, this.#to),
      true,
      this,
    );
  }

  onHeaders(status: number, headers: ReadonlyMap<string, string>): void {
    this.#status = status;
    this.#answer = headers;
    if (status !== 200 || this.#state !== "greeting") return;
    if (!this.#answeredByPeer()) {
      this.#session?.destroy("another member answers at this peer URL");
      return;
    }
    const { handler } = this.#context;
    if (saysFresh((name) => headers.get(name)) && handler.hasLived?.(this.#to) === true) {
      this.#session?.destroy(refusals["lost-data"].text);
      return;
    }
    const { clock } = this.#context.options;
    this.#cancel?.();
    this.#cancel = undefined;
    this.#state = "open";
    this.#openedAtMs = clock.monotonicMs();
    this.#silence = new Silence(this.#openedAtMs);
    this.#pingSentAtMs = this.#openedAtMs;
    this.#session?.ping();
    if (this.queuedBytes === 0) return;
    this.#roomWanted = true;
    this.#stream!.wantRoom();
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    // Accepted streams are answered by nothing but their headers.
    if (this.#answerBody.length > refusalBytesMax || this.#state !== "greeting") return;
    this.#answerBody += Buffer.from(bytes.subarray(start, end)).toString("utf8");
  }

  onEnd(): void {
    if (this.#state === "greeting" && this.#status !== 200) this.#refused();
    else this.#session?.destroy("the member ended the stream");
  }

  onAbandoned(reason: string): void {
    this.#session?.destroy(reason);
  }

  /** The turn ends, or there is room again. */
  onRoom(stream: ClientStream): void {
    this.#roomWanted = false;
    const queue = this.#queue;
    const bytes = stream.write(queue.bytes, this.#sentTo, queue.end);
    if (bytes > 0) this.#events.sent(bytes);
    this.#sentTo += bytes;
    if (this.#sentTo === queue.end) {
      this.#empty();
      return;
    }
    this.#forgetSent();
    this.#roomWanted = true;
    stream.wantRoom();
  }

  #answeredByPeer(): boolean {
    return (
      readId(this.#answer.get("keelson-from")) === this.#to &&
      readId(this.#answer.get("keelson-cluster")) === this.#context.identity.clusterId
    );
  }

  #refused(): void {
    const { reason, message, retry } = readRefusal(this.#status, this.#answerBody);
    const gone = this.#status === 410 && this.#answeredByPeer();
    this.#endSession();
    this.#failed(`refused as ${reason}: ${message}`, retry ? undefined : retryRefusedMs);
    const { handler } = this.#context;
    if (gone && reason === "removed") handler.removed(this.#to);
    if (gone && reason === "lost-data") handler.lostData?.(this.#to);
  }

  #lost(reason: string): void {
    const lasted = this.#state === "open" ? this.#context.options.clock.monotonicMs() - this.#openedAtMs : 0;
    this.#endSession();
    if (this.#state === "closed") {
      this.#cancel?.();
      this.#gone?.();
      return;
    }
    if (lasted >= settledMs) this.#failures = 0;
    this.#failed(reason);
  }

  #endSession(): void {
    const session = this.#session;
    this.#session = undefined;
    this.#stream = undefined;
    this.#silence = undefined;
    this.#pingSentAtMs = undefined;
    this.#roomWanted = false;
    session?.destroy("refused");
  }

  /** Everything queued is lost; the next attempt follows after a pause. */
  #failed(reason: string, pauseMs?: number): void {
    const { options } = this.#context;
    this.#cancel?.();
    if (this.#state === "closed") return;
    if (this.queuedMessages > 0) this.#events.dropped(this.queuedMessages);
    this.#empty();
    this.#state = "waiting";
    this.#urlAt++;
    // The other URLs are tried at once.
    const moreUrls = this.#urls.length > 1 && this.#urlAt % this.#urls.length !== 0;
    const longestMs = moreUrls
      ? retryFirstMs
      : (pauseMs ?? Math.min(retryLastMs, retryFirstMs * 2 ** Math.min(this.#failures, 20)));
    if (!moreUrls) this.#failures++;
    const waitMs = longestMs * (0.5 + options.rng.below(512) / 1024);
    this.#cancel = options.clock.after(waitMs, () => this.#attempt());
    warnSeldom(this.#context, `${hexId(this.#to)}:${withoutNumbers(reason)}`, "a member cannot be reached", {
      member: hexId(this.#to),
      lane: this.#name,
      urls: this.#urls,
      reason,
    });
  }

  #pinged(): void {
    if (this.#pingSentAtMs === undefined) return;
    this.#events.roundTrip(this.#context.options.clock.monotonicMs() - this.#pingSentAtMs);
    this.#pingSentAtMs = undefined;
  }

  // The queue.

  #refuseMessage(start: number, kind: string, tooLong: boolean): void {
    const bytes = this.#queue.end - start;
    this.#queue.end = start;
    this.#events.dropped(1);
    const message = tooLong ? "a message is too long for the peer protocol" : "the queue to a member is full";
    warnSeldom(this.#context, `${hexId(this.#to)}:${this.#name}`, message, {
      member: hexId(this.#to),
      lane: this.#name,
      kind,
      bytes,
      queuedBytes: this.queuedBytes,
    });
  }

  #empty(): void {
    if (this.#queue.bytes.length > queueBytesKept) this.#queue = new ByteWriter();
    this.#queue.end = 0;
    this.#sentTo = 0;
    this.#shifted = 0;
    this.#firstEnd = 0;
    if (this.#ends.length > 0) this.#ends = [];
  }

  /** Lets go of messages that have left, and of their bytes once these are the larger part. */
  #forgetSent(): void {
    const sent = this.#sentTo + this.#shifted;
    while (this.#firstEnd < this.#ends.length && this.#ends[this.#firstEnd]! <= sent) this.#firstEnd++;
    if (this.#firstEnd >= sentEndsMax) {
      this.#ends.splice(0, this.#firstEnd);
      this.#firstEnd = 0;
    }
    const queue = this.#queue;
    if (this.#sentTo < queueBytesKept || this.#sentTo * 2 < queue.end) return;
    queue.bytes.copyWithin(0, this.#sentTo, queue.end);
    queue.end -= this.#sentTo;
    this.#shifted += this.#sentTo;
    this.#sentTo = 0;
  }
}
