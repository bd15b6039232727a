/** One Watch stream of a client inside the hub: its watchers, and the order of what is sent. */
import type { WatchCreateRequest } from "../proto/gen/etcd/rpc_pb";
import { EncodedMessage } from "../transport/call";
import type { WatchSink } from "./types";
import type { Watcher } from "./watcher";
import type { WatchHub } from "./hub";

/**
 * Operations of the client arrive here. While {@link paused}, the owner reads no further request, so that what
 * waits in the outbox stays within one batch of events and one answer.
 */
export class HubStream {
  readonly watchers = new Map<bigint, Watcher>();
  /** Watchers that wait for history, in the order in which they are served. */
  readonly behind = new Set<Watcher>();
  /**
   * The reader takes messages again and nobody who is behind had a turn yet: live events wait their turn, or the
   * watchers that happen to come first would use the room up every time.
   */
  owes = false;
  /** Watchers with periodic progress notifications. */
  readonly notified = new Set<Watcher>();
  nextProgressAtMs = 0;
  closed = false;

  readonly #hub: WatchHub;
  readonly #sink: WatchSink;
  #paused = false;
  #outbox: EncodedMessage[] = [];
  #nextId = 0n;

  /** Built by {@link WatchHub.openStream} alone. */
  constructor(hub: WatchHub, sink: WatchSink) {
    this.#hub = hub;
    this.#sink = sink;
  }

  /** True while the reader does not keep up. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Messages that wait until the reader keeps up. */
  get queued(): number {
    return this.#outbox.length;
  }

  /** Starts a watcher, or answers why not. */
  create(request: WatchCreateRequest): void {
    if (!this.closed) this.#hub.createWatcher(this, request);
  }

  /** Answers a create request that may not be served: created and canceled at once, with the reason. */
  reject(reason: string): void {
    if (!this.closed) this.#hub.rejectWatcher(this, reason);
  }

  /** Ends one watcher and confirms it; an unknown id gets no answer. */
  cancel(watchId: bigint): void {
    if (!this.closed) this.#hub.cancelWatcher(this, watchId);
  }

  /** Answers that everything up to now was sent, if that is so; otherwise says nothing. */
  requestProgress(): void {
    if (!this.closed) this.#hub.answerProgress(this);
  }

  /** The sink accepts messages again. */
  drained(): void {
    if (this.closed || !this.#paused) return;
    this.#paused = false;
    const waiting = this.#outbox;
    let sent = 0;
    while (sent < waiting.length && !this.#paused) this.#pass(waiting[sent++]!);
    this.#outbox = waiting.slice(sent);
    if (!this.#paused) this.#hub.streamResumed(this);
  }

  /** Ends every watcher of the stream without a word. */
  close(): void {
    if (!this.closed) this.#hub.closeStream(this);
  }

  /** Sends, or queues behind what already waits. */
  send(message: EncodedMessage): void {
    if (this.#paused) this.#outbox.push(message);
    else this.#pass(message);
  }

  /** The next id that the hub assigns: 0, 1, 2 … without those in use. */
  assignId(): bigint {
    while (this.watchers.has(this.#nextId)) this.#nextId++;
    return this.#nextId++;
  }

  discardQueue(): void {
    this.#outbox = [];
  }

  #pass(message: EncodedMessage): void {
    if (this.#sink.send(message)) return;
    this.#paused = true;
    this.#hub.streamPaused(this);
  }
}
