/** The watch hub of a member; README.md beside it draws how events flow, rules.md lists what it promises. */
import { assert } from "../assert";
import { toBinaryString } from "../bytes";
import { refusals, StoreError } from "../errors";
import type { Revision } from "../ids";
import { toCounter } from "../ids";
import type { WatchCreateRequest } from "../proto/gen/etcd/rpc_pb";
import { WatchCreateRequest_FilterType } from "../proto/gen/etcd/rpc_pb";
import type { History, RevisionChanges } from "../state/types";
import { EncodedMessage } from "../transport/call";
import {
  fragmentBytesDefault,
  pendingBytesMax,
  pendingEventsMax,
  progressIntervalMsDefault,
  scanBytesMax,
  scanComparisonsMax,
  scanRevisionsMax,
  scanWatchersMax,
} from "./bounds";
import { endOfKeys, IntervalIndex } from "./interval-index";
import { RevisionEvents } from "./revision-events";
import { HubStream } from "./stream";
import { Tail } from "./tail";
import type { WatchHubOptions, WatchSink, WatchStats, WorkBudget } from "./types";
import type { Interest, PendingEvent } from "./watcher";
import { Group, interestName, wantsKey, wantsType, Watcher } from "./watcher";
import { controlResponse, fragmentField, headerField, responsePrefix, watchIdField } from "./wire";

export type { HubStream as WatchStream } from "./stream";

/** The id in answers that concern no single watcher: stream-wide progress and refused creates. */
const noWatcher = -1n;

/** All watchers of a member. Deterministic: no clock, no timer, no socket; time enters as an argument. */
export class WatchHub {
  readonly #header: (revision: Revision) => Uint8Array;
  readonly #wakeMember: () => void;
  readonly #fragmentBytes: number;
  readonly #progressIntervalMs: number;
  readonly #jitter: () => number;
  #history: History;
  #revision: Revision;

  readonly #streams = new Set<HubStream>();
  readonly #groups = new Map<string, Group>();
  /** Groups that want one key, by that key. */
  readonly #exact = new Map<string, Group[]>();
  readonly #ranges = new IntervalIndex<Group>();
  readonly #tail: Tail;
  /** Streams with watchers behind and a reader that keeps up, in the order in which they are served. */
  readonly #runnable = new Set<HubStream>();
  /** Streams that have watchers with periodic progress. */
  readonly #notified = new Set<HubStream>();

  /** Groups with pending events. */
  #dirty: Group[] = [];
  #pendingEvents = 0;
  #pendingBytes = 0;
  /** Header fields by revision, for one flush: ids and term do not change within. */
  readonly #flushHeaders = new Map<Revision, Uint8Array>();
  #watchers = 0;
  #eventsSent = 0;
  /** The member was woken, and calls {@link work} until it answers false. */
  #awake = false;
  #progressDueAtMs = Infinity;

  constructor(options: WatchHubOptions) {
    this.#history = options.history;
    this.#revision = options.history.revision;
    this.#tail = new Tail(this.#revision + 1);
    this.#header = options.header;
    this.#wakeMember = options.wake ?? (() => {});
    this.#fragmentBytes = options.fragmentBytes ?? fragmentBytesDefault;
    this.#progressIntervalMs = options.progressIntervalMs ?? progressIntervalMsDefault;
    this.#jitter = options.jitter ?? (() => 0);
  }

  /** The newest revision that was published. */
  get revision(): Revision {
    return this.#revision;
  }

  /** True while {@link work} has something to do. */
  get hasWork(): boolean {
    return this.#runnable.size > 0;
  }

  /** Counters and gauges; walks the streams, so not for hot paths. */
  get stats(): WatchStats {
    let catchingUp = 0;
    let paused = 0;
    for (const stream of this.#streams) {
      catchingUp += stream.behind.size;
      if (stream.paused) paused++;
    }
    return {
      streams: this.#streams.size,
      watchers: this.#watchers,
      catchingUp,
      paused,
      eventsSent: this.#eventsSent,
      eventsPending: this.#pendingEvents,
      revisionsInMemory: this.#tail.size,
    };
  }

  // --- What the member reports -------------------------------------------------------------------------------

  /** Takes what one revision changed; revisions come in order. Sent by the next {@link flush}. */
  publish(source: RevisionChanges): void {
    assert(
      source.revision > this.#revision,
      () => `revision ${source.revision} published after ${this.#revision}`,
    );
    this.#revision = source.revision;
    if (this.#watchers === 0) return;
    const entry = new RevisionEvents(source, this.#history);
    this.#tail.push(entry);
    for (let index = 0; index < source.changes.length; index++) {
      const { key } = source.changes[index]!;
      const exact = this.#exact.get(key);
      if (exact !== undefined) for (const group of exact) this.#queue(group, entry, index);
      if (this.#ranges.size > 0) this.#ranges.stab(key, (group) => this.#queue(group, entry, index));
    }
    if (this.#pendingEvents > pendingEventsMax || this.#pendingBytes > pendingBytesMax) this.flush();
  }

  /** Moves the revision over revisions without changes. */
  advance(revision: Revision): void {
    assert(revision >= this.#revision, () => `revision ${revision} after ${this.#revision}`);
    this.#revision = revision;
  }

  /** Sends what was published since the last flush: call it once after each batch of applied entries. */
  flush(): void {
    if (this.#dirty.length === 0) return;
    const dirty = this.#dirty;
    this.#dirty = [];
    this.#flushHeaders.clear();
    this.#pendingEvents = 0;
    this.#pendingBytes = 0;
    for (const group of dirty) {
      const { pending } = group;
      group.pending = [];
      this.#deliverToGroup(group, pending);
    }
  }

  /**
   * The store was compacted: watchers that still need something below are canceled, each when its reader
   * takes messages.
   */
  compacted(revision: Revision): void {
    assert(revision <= this.#revision, `compaction at ${revision} above revision ${this.#revision}`);
    this.#wake();
  }

  /** The state was replaced by a snapshot: everyone continues from where they are, out of the new history. */
  reset(history: History): void {
    assert(
      history.revision >= this.#revision,
      `snapshot at revision ${history.revision} would take watchers back from ${this.#revision}`,
    );
    this.flush();
    const reached = this.#revision + 1;
    this.#history = history;
    this.#revision = history.revision;
    this.#tail.restart(history.revision + 1);
    for (const group of this.#groups.values()) {
      for (const watcher of group.synced) {
        const next = Math.max(watcher.floor, reached);
        if (next <= this.#revision) this.#fallBehind(watcher, next);
      }
    }
    this.#wake();
  }

  /**
   * Feeds watchers that are behind: one scan of history, shared by all that are within its window. Call it again,
   * yielding now and then, while it answers true.
   */
  work(budget: Partial<WorkBudget> = {}): boolean {
    this.flush();
    const lead = this.#nextLead();
    if (lead !== undefined) this.#workFor(lead, budget);
    this.#awake = this.hasWork;
    return this.#awake;
  }

  #workFor(lead: Watcher, budget: Partial<WorkBudget>): void {
    const window = this.#scan(
      lead.next,
      budget.revisionsMax ?? scanRevisionsMax,
      budget.bytesMax ?? scanBytesMax,
    );
    if (window === undefined) return this.#cancelCompacted(lead);
    let changes = 0;
    for (const entry of window.entries) changes += entry.changes.length;
    const share = Math.max(1, Math.floor(scanComparisonsMax / Math.max(1, changes)));
    const fed = this.#gather(lead, window.next, Math.min(budget.watchersMax ?? scanWatchersMax, share));
    const shared = new Map<Group, SharedBatch>();
    for (const watcher of fed) this.#feed(watcher, window, shared);
  }

  /** Sends the periodic progress notifications that are due at this monotonic time. */
  tick(nowMs: number): void {
    if (nowMs < this.#progressDueAtMs) return;
    this.flush();
    let dueAtMs = Infinity;
    for (const stream of this.#notified) {
      if (nowMs >= stream.nextProgressAtMs) {
        stream.nextProgressAtMs = nowMs + this.#progressDelayMs();
        for (const watcher of stream.notified) {
          if (watcher.quiet && !stream.paused && this.#isCurrent(watcher)) {
            stream.send(new EncodedMessage([controlResponse(this.#header(this.#revision), watcher.id, {})]));
          }
          watcher.quiet = true;
        }
      }
      dueAtMs = Math.min(dueAtMs, stream.nextProgressAtMs);
    }
    this.#progressDueAtMs = dueAtMs;
  }

  /** Opens a stream; the monotonic time starts its clock for periodic progress. */
  openStream(sink: WatchSink, nowMs: number): HubStream {
    const stream = new HubStream(this, sink);
    stream.nextProgressAtMs = nowMs + this.#progressDelayMs();
    this.#streams.add(stream);
    return stream;
  }

  // --- What streams ask for (called by HubStream alone) --------------------------------------------------------

  /** Starts a watcher: created is answered first, history and events follow. */
  createWatcher(stream: HubStream, request: WatchCreateRequest): void {
    this.flush();
    if (request.startRevision < 0n) return this.rejectWatcher(stream, refusals.compacted.text);
    const start = request.key.length === 0 ? "\0" : toBinaryString(request.key);
    const toTheEnd = request.rangeEnd.length === 1 && request.rangeEnd[0] === 0;
    let end: string | undefined;
    if (toTheEnd) end = endOfKeys;
    else if (request.rangeEnd.length > 0) end = toBinaryString(request.rangeEnd);
    if (end !== undefined && end <= start) return this.rejectWatcher(stream, "mvcc: watcher range is empty");
    if (request.watchId !== 0n && stream.watchers.has(request.watchId)) {
      return this.rejectWatcher(stream, "mvcc: duplicate watch ID provided on the WatchStream");
    }
    const id = request.watchId === 0n ? stream.assignId() : request.watchId;
    const startRevision = toCounter(
      request.startRevision > BigInt(Number.MAX_SAFE_INTEGER)
        ? BigInt(Number.MAX_SAFE_INTEGER)
        : request.startRevision,
      "start revision",
    );
    this.#answer(stream, id, { created: true });
    if (startRevision !== 0 && startRevision < this.#history.compactedRevision) {
      this.#sendCompacted(stream, id);
      return;
    }
    const interest: Interest = {
      start,
      end,
      noPut: request.filters.includes(WatchCreateRequest_FilterType.NOPUT),
      noDelete: request.filters.includes(WatchCreateRequest_FilterType.NODELETE),
      previous: request.prevKv,
    };
    const watcher = new Watcher(
      id,
      watchIdField(id),
      stream,
      this.#join(interest),
      startRevision === 0 ? this.#revision + 1 : startRevision,
      startRevision,
      request.fragment,
      request.progressNotify,
    );
    stream.watchers.set(id, watcher);
    if (this.#watchers++ === 0) this.#tail.restart(this.#revision + 1);
    if (watcher.progressNotify) {
      stream.notified.add(watcher);
      this.#notified.add(stream);
      this.#progressDueAtMs = Math.min(this.#progressDueAtMs, stream.nextProgressAtMs);
    }
    if (watcher.floor > this.#revision) {
      this.#catchUpDone(watcher);
    } else {
      this.#fallBehind(watcher, watcher.floor);
      this.#wake();
    }
  }

  /** Answers a create request with created, canceled and the reason. */
  rejectWatcher(stream: HubStream, reason: string): void {
    this.flush();
    this.#answer(stream, noWatcher, { created: true, canceled: true, reason });
  }

  /** Ends a watcher and confirms it. */
  cancelWatcher(stream: HubStream, watchId: bigint): void {
    const watcher = stream.watchers.get(watchId);
    if (watcher === undefined) return;
    this.flush();
    this.#remove(watcher);
    this.#answer(stream, watchId, { canceled: true });
  }

  /** One answer for the whole stream, when every watcher of it is current. */
  answerProgress(stream: HubStream): void {
    this.flush();
    if (stream.watchers.size === 0) return;
    for (const watcher of stream.watchers.values()) if (!this.#isCurrent(watcher)) return;
    this.#answer(stream, noWatcher, {});
  }

  /** The sink refused: watchers of this stream fall behind as their events come. */
  streamPaused(stream: HubStream): void {
    this.#runnable.delete(stream);
  }

  /** The sink takes messages again. */
  streamResumed(stream: HubStream): void {
    if (stream.behind.size === 0) return;
    stream.owes = true;
    this.#runnable.add(stream);
    this.#wake();
  }

  /** Forgets a stream and its watchers. */
  closeStream(stream: HubStream): void {
    stream.closed = true;
    stream.discardQueue();
    for (const watcher of stream.watchers.values()) this.#remove(watcher);
    this.#streams.delete(stream);
  }

  // --- Live events ---------------------------------------------------------------------------------------------

  #queue(group: Group, entry: RevisionEvents, index: number): void {
    if (group.synced.size === 0 || !wantsType(group.interest, entry.changes[index]!)) return;
    const bytes = entry.event(index, group.interest.previous);
    if (group.pending.length === 0) this.#dirty.push(group);
    group.pending.push({ revision: entry.revision, bytes });
    this.#pendingEvents++;
    this.#pendingBytes += bytes.length;
  }

  #deliverToGroup(group: Group, pending: readonly PendingEvent[]): void {
    const first = pending[0]!.revision;
    const { revision } = pending[pending.length - 1]!;
    let header = this.#flushHeaders.get(revision);
    if (header === undefined) {
      header = headerField(this.#header(revision));
      this.#flushHeaders.set(revision, header);
    }
    const { chunks, bytes } = payloadOf(pending, group.synced.size > 1);
    // Many streams have their only watcher under one id: those get the very same message.
    let shared: EncodedMessage | undefined;
    let sharedId: bigint | undefined;
    for (const watcher of group.synced) {
      const { stream } = watcher;
      if (watcher.floor > first) {
        if (watcher.floor > revision) continue;
        const wanted = pending.filter((event) => event.revision >= watcher.floor);
        if (stream.paused || stream.owes) this.#fallBehind(watcher, wanted[0]!.revision);
        else this.#sendEvents(watcher, header, wanted);
      } else if (stream.paused || stream.owes) {
        this.#fallBehind(watcher, first);
      } else if (watcher.fragment && bytes >= this.#fragmentBytes) {
        this.#sendEvents(watcher, header, pending);
      } else {
        if (shared === undefined || sharedId !== watcher.id) {
          shared = new EncodedMessage([responsePrefix(header, watcher.idField), ...chunks]);
          sharedId = watcher.id;
        }
        watcher.quiet = false;
        this.#eventsSent += pending.length;
        stream.send(shared);
      }
    }
  }

  /** Sends events of one watcher as one response, or as fragments if it asked for them and they are too big. */
  #sendEvents(watcher: Watcher, header: Uint8Array, events: readonly PendingEvent[]): void {
    watcher.quiet = false;
    this.#eventsSent += events.length;
    const prefix = responsePrefix(header, watcher.idField);
    if (watcher.fragment && events.length > 1) {
      const pieces = cut(events, this.#fragmentBytes - prefix.length - fragmentField.length);
      for (let index = 0; index < pieces.length - 1; index++) {
        watcher.stream.send(new EncodedMessage([prefix, fragmentField, ...pieces[index]!]));
      }
      watcher.stream.send(new EncodedMessage([prefix, ...pieces[pieces.length - 1]!]));
      return;
    }
    watcher.stream.send(new EncodedMessage([prefix, ...payloadOf(events, false).chunks]));
  }

  // --- Catching up -----------------------------------------------------------------------------------------------

  /** The watcher whose turn it is, after canceling those whose history is gone; the queues rotate. */
  #nextLead(): Watcher | undefined {
    for (const stream of this.#runnable) {
      this.#runnable.delete(stream);
      for (const watcher of stream.behind) {
        if (this.#isLost(watcher)) {
          this.#cancelCompacted(watcher);
          if (stream.paused) break;
          continue;
        }
        stream.behind.delete(watcher);
        stream.behind.add(watcher);
        this.#runnable.add(stream);
        return watcher;
      }
    }
    return undefined;
  }

  /** True when what the watcher needs next was compacted and is not in memory either. */
  #isLost(watcher: Watcher): boolean {
    return watcher.next < this.#history.compactedRevision && watcher.next < this.#tail.from;
  }

  /** Reads a window that starts at `from`; undefined when the history no longer reaches there. */
  #scan(from: Revision, revisionsMax: number, bytesMax: number): ScanWindow | undefined {
    if (from >= this.#tail.from) {
      const entries = this.#tail.read(from, revisionsMax, bytesMax);
      const last = entries[entries.length - 1];
      // The newest revision may lie above the last one with changes.
      const complete = last === undefined || last === this.#tail.newest;
      return { from, entries, next: complete ? this.#revision + 1 : last.revision + 1 };
    }
    try {
      const read = this.#history.changes(from, this.#revision, revisionsMax, bytesMax);
      assert(read.next > from, `history made no progress from revision ${from}`);
      return {
        from,
        entries: read.revisions.map((source) => new RevisionEvents(source, this.#history)),
        next: Math.min(read.next, this.#revision + 1),
      };
    } catch (error) {
      if (error instanceof StoreError && error.message === refusals.compacted.text) return undefined;
      throw error;
    }
  }

  /** The lead and others whose position lies within the window; bounded also in how many it looks at. */
  #gather(lead: Watcher, windowNext: Revision, watchersMax: number): Watcher[] {
    const fed = [lead];
    let looks = watchersMax * 4;
    for (const stream of this.#runnable) {
      for (const watcher of stream.behind) {
        if (fed.length >= watchersMax || looks-- <= 0) return fed;
        if (watcher !== lead && watcher.next >= lead.next && watcher.next < windowNext) fed.push(watcher);
      }
    }
    return fed;
  }

  #feed(watcher: Watcher, window: ScanWindow, shared: Map<Group, SharedBatch>): void {
    const { stream, group } = watcher;
    // An earlier watcher of the same stream may have filled its sink meanwhile.
    if (stream.paused) return;
    stream.owes = false;
    const position = watcher.next;
    // Readers that fell behind together find the same events.
    let batch = shared.get(group);
    if (batch === undefined || batch.position !== position) {
      batch = { position, events: eventsFrom(window, group.interest, position), message: undefined, id: 0n };
      shared.set(group, batch);
    }
    watcher.next = window.next;
    if (watcher.next > this.#revision) this.#catchUpDone(watcher);
    if (batch.events.length === 0) return;
    if (watcher.fragment) {
      this.#sendEvents(watcher, headerField(this.#header(this.#revision)), batch.events);
      return;
    }
    if (batch.message === undefined || batch.id !== watcher.id) {
      const header = headerField(this.#header(this.#revision));
      // The payload of the first message serves the next ones too.
      const payload = batch.message?.chunks.slice(1) ?? payloadOf(batch.events, true).chunks;
      batch.message = new EncodedMessage([responsePrefix(header, watcher.idField), ...payload]);
      batch.id = watcher.id;
    }
    watcher.quiet = false;
    this.#eventsSent += batch.events.length;
    stream.send(batch.message);
  }

  #catchUpDone(watcher: Watcher): void {
    assert(watcher.group.pending.length === 0, "a watcher joins while events of its group wait");
    this.#leaveBehind(watcher);
    watcher.synced = true;
    watcher.group.synced.add(watcher);
  }

  #fallBehind(watcher: Watcher, next: Revision): void {
    const { stream } = watcher;
    watcher.group.synced.delete(watcher);
    watcher.synced = false;
    watcher.next = next;
    stream.behind.add(watcher);
    if (!stream.paused) this.#runnable.add(stream);
  }

  #leaveBehind(watcher: Watcher): void {
    const { stream } = watcher;
    stream.behind.delete(watcher);
    if (stream.behind.size > 0) return;
    stream.owes = false;
    this.#runnable.delete(stream);
  }

  #cancelCompacted(watcher: Watcher): void {
    this.#remove(watcher);
    this.#sendCompacted(watcher.stream, watcher.id);
  }

  /** etcd leaves the header's revision out here: the answer vouches for nothing. */
  #sendCompacted(stream: HubStream, watchId: bigint): void {
    const compactRevision = this.#history.compactedRevision;
    stream.send(
      new EncodedMessage([controlResponse(this.#header(0), watchId, { canceled: true, compactRevision })]),
    );
  }

  #wake(): void {
    if (this.#awake || !this.hasWork) return;
    this.#awake = true;
    this.#wakeMember();
  }

  // --- Small things ------------------------------------------------------------------------------------------------

  /** Caught up, and not waiting for a revision of the future: progress would be true. */
  #isCurrent(watcher: Watcher): boolean {
    return watcher.synced && watcher.startRevision <= this.#revision;
  }

  #answer(stream: HubStream, watchId: bigint, about: Parameters<typeof controlResponse>[2]): void {
    stream.send(new EncodedMessage([controlResponse(this.#header(this.#revision), watchId, about)]));
  }

  #progressDelayMs(): number {
    return this.#progressIntervalMs * (1 + this.#jitter() / 10);
  }

  #join(interest: Interest): Group {
    const name = interestName(interest);
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = new Group(name, interest);
      this.#groups.set(name, group);
      if (interest.end !== undefined) this.#ranges.insert(interest.start, interest.end, group);
      else {
        const others = this.#exact.get(interest.start);
        if (others === undefined) this.#exact.set(interest.start, [group]);
        else others.push(group);
      }
    }
    group.members++;
    return group;
  }

  #remove(watcher: Watcher): void {
    const { stream, group } = watcher;
    stream.watchers.delete(watcher.id);
    if (stream.notified.delete(watcher) && stream.notified.size === 0) this.#notified.delete(stream);
    this.#leaveBehind(watcher);
    group.synced.delete(watcher);
    watcher.synced = false;
    if (--this.#watchers === 0) this.#tail.restart(this.#revision + 1);
    if (--group.members > 0) return;
    const { start, end } = group.interest;
    this.#groups.delete(group.name);
    if (end !== undefined) {
      this.#ranges.remove(start, end, group);
      return;
    }
    const rest = this.#exact.get(start)!.filter((other) => other !== group);
    if (rest.length === 0) this.#exact.delete(start);
    else this.#exact.set(start, rest);
  }
}

/** A stretch of history that a scan read: [from, next). */
interface ScanWindow {
  readonly from: Revision;
  readonly entries: readonly RevisionEvents[];
  readonly next: Revision;
}

/** What watchers of one group at one position get out of a scan. */
interface SharedBatch {
  readonly position: Revision;
  readonly events: readonly PendingEvent[];
  /** The message of the last watcher, under this id. */
  message: EncodedMessage | undefined;
  id: bigint;
}

/** The events of a window that an interest wants from a revision on. */
function eventsFrom(window: ScanWindow, interest: Interest, from: Revision): PendingEvent[] {
  const events: PendingEvent[] = [];
  for (const entry of window.entries) {
    if (entry.revision < from) continue;
    for (let index = 0; index < entry.changes.length; index++) {
      const change = entry.changes[index]!;
      if (!wantsKey(interest, change.key) || !wantsType(interest, change)) continue;
      events.push({ revision: entry.revision, bytes: entry.event(index, interest.previous) });
    }
  }
  return events;
}

/** The chunks of events, joined into one when several responses will share them. */
function payloadOf(
  events: readonly PendingEvent[],
  join: boolean,
): { readonly chunks: readonly Uint8Array[]; readonly bytes: number } {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (const event of events) {
    chunks.push(event.bytes);
    bytes += event.bytes.length;
  }
  return { chunks: join && chunks.length > 1 ? [Buffer.concat(chunks)] : chunks, bytes };
}

/** Cuts events into pieces below `bytesMax`, each with at least one event. */
function cut(events: readonly PendingEvent[], bytesMax: number): Uint8Array[][] {
  const pieces: Uint8Array[][] = [];
  let piece: Uint8Array[] = [];
  let bytes = 0;
  for (const event of events) {
    if (piece.length > 0 && bytes + event.bytes.length >= bytesMax) {
      pieces.push(piece);
      piece = [];
      bytes = 0;
    }
    piece.push(event.bytes);
    bytes += event.bytes.length;
  }
  pieces.push(piece);
  return pieces;
}
