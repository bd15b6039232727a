/**
 * Checks what one stream received against the full history: the watch promises P7–P13, and the rules that a
 * single response can break. Used by tests of every kind; it knows nothing of the hub.
 */
import { toBinary } from "@bufbuild/protobuf";
import { assert } from "../assert";
import { toBinaryString } from "../bytes";
import type { Revision } from "../ids";
import { Event_EventType, type KeyValue, KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import type { WatchCreateRequest } from "../proto/gen/etcd/rpc_pb";
import { WatchCreateRequest_FilterType } from "../proto/gen/etcd/rpc_pb";
import type { Change, RevisionChanges } from "../state/types";

/** The truth that a checker compares with. */
export interface Truth {
  readonly revision: Revision;
  readonly compactedRevision: Revision;
  /** Every revision since the beginning, compacted ones too. */
  readonly log: readonly RevisionChanges[];
  /** The record just before a revision, compacted or not. */
  recordBefore(key: string, revision: Revision): Uint8Array | undefined;
}

/** What is looked at of a response; any `WatchResponse` will do. */
export interface ReceivedMessage {
  readonly header?: { readonly revision: bigint } | undefined;
  readonly watchId: bigint;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: bigint;
  readonly fragment: boolean;
  readonly events: readonly ReceivedEvent[];
}

/** Keys and values as messages, or as the bytes that came. */
export interface ReceivedEvent {
  readonly type: Event_EventType;
  readonly kv?: KeyValue | Uint8Array | undefined;
  readonly prevKv?: KeyValue | Uint8Array | undefined;
}

interface Watched {
  readonly request: WatchCreateRequest;
  readonly floor: Revision;
  /** Position in the log of the next revision to look at. */
  position: number;
  /** The newest revision that was seen or vouched for. */
  reached: Revision;
  /** Events of fragments whose last piece is still to come. */
  pieces: ReceivedMessage[];
}

export class StreamChecker {
  /** Requests in the order sent, not yet answered. */
  readonly #asked: WatchCreateRequest[] = [];
  readonly #watched = new Map<bigint, Watched>();
  readonly #canceling = new Set<bigint>();
  #created = 0;
  #canceled = 0;
  #compacted = 0;
  #progress: Revision = 0;
  #progresses = 0;
  #events = 0;

  constructor(readonly truth: Truth) {}

  get counts() {
    return {
      created: this.#created,
      canceled: this.#canceled,
      compacted: this.#compacted,
      progresses: this.#progresses,
      events: this.#events,
    };
  }

  /** Ids of watchers that live, as far as the client knows. */
  get ids(): bigint[] {
    return [...this.#watched.keys()];
  }

  asked(request: WatchCreateRequest): void {
    this.#asked.push(request);
  }

  canceling(id: bigint): void {
    if (this.#watched.has(id)) this.#canceling.add(id);
  }

  /** Checks the next message; throws with the reason when it breaks a promise. */
  received(message: ReceivedMessage): void {
    const revision = Number(message.header?.revision);
    assert(message.header !== undefined, "a response has a header");
    assert(revision <= this.truth.revision, () => `header ${revision} is ahead of the store`);
    if (message.created) return this.#onCreated(message, revision);
    if (message.canceled) return this.#onCanceled(message);
    if (message.events.length === 0) return this.#onProgress(message, revision);
    return this.#onEvents(message, revision);
  }

  /** At the end every live watcher has seen everything. */
  finish(): void {
    assert(this.#asked.length === 0, () => `${this.#asked.length} create requests were never answered`);
    for (const [id, watched] of this.#watched) {
      const missing = this.#next(watched, this.truth.revision);
      assert(missing === undefined, () => `watcher ${id} never saw revision ${missing?.revision}`);
      assert(watched.pieces.length === 0, () => `watcher ${id} waits for the last fragment`);
    }
  }

  #onCreated(message: ReceivedMessage, revision: Revision): void {
    const request = this.#asked.shift();
    assert(request !== undefined, "a created answer without a request");
    assert(message.events.length === 0, "the created answer carries no events");
    this.#created++;
    const emptyRange =
      request.rangeEnd.length > 0 &&
      !(request.rangeEnd.length === 1 && request.rangeEnd[0] === 0) &&
      toBinaryString(request.rangeEnd) <= (toBinaryString(request.key) || "\0");
    const duplicate = request.watchId !== 0n && this.#watched.has(request.watchId);
    const refused = request.startRevision < 0n || emptyRange || duplicate;
    assert(message.canceled === refused, () => `created answer: canceled is ${message.canceled}`);
    if (refused) {
      assert(message.watchId === -1n, "a refused watcher has id -1");
      return;
    }
    assert(!this.#watched.has(message.watchId), () => `id ${message.watchId} is in use`);
    assert(request.watchId === 0n || request.watchId === message.watchId, "the id asked for");
    const start = Number(request.startRevision);
    const floor = start === 0 ? revision + 1 : start;
    this.#watched.set(message.watchId, {
      request,
      floor,
      position: this.#positionOf(floor),
      reached: 0,
      pieces: [],
    });
  }

  /** Of the first revision in the log that is not below this one. */
  #positionOf(revision: Revision): number {
    const { log } = this.truth;
    let low = 0;
    let high = log.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (log[middle]!.revision < revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #onCanceled(message: ReceivedMessage): void {
    const watched = this.#watched.get(message.watchId);
    assert(watched !== undefined, () => `canceled answer for unknown watcher ${message.watchId}`);
    this.#watched.delete(message.watchId);
    this.#canceled++;
    if (message.compactRevision === 0n) {
      assert(this.#canceling.delete(message.watchId), "canceled without being asked");
      return;
    }
    this.#compacted++;
    this.#canceling.delete(message.watchId);
    const compacted = Number(message.compactRevision);
    assert(compacted <= this.truth.compactedRevision, "compacted revision is ahead of the store");
    const position = Math.max(watched.floor, watched.reached + 1);
    assert(
      position < compacted,
      () => `canceled at ${compacted} although position ${position} was still there`,
    );
  }

  #onProgress(message: ReceivedMessage, revision: Revision): void {
    assert(revision >= this.#progress, () => `progress went from ${this.#progress} back to ${revision}`);
    this.#progresses++;
    const about =
      message.watchId === -1n ? [...this.#watched.values()] : [this.#watched.get(message.watchId)];
    if (message.watchId === -1n) {
      assert(about.length > 0, "progress on a stream without watchers");
      this.#progress = revision;
    }
    for (const watched of about) {
      assert(watched !== undefined, () => `progress for unknown watcher ${message.watchId}`);
      assert(watched.pieces.length === 0, "progress between fragments");
      assert(revision >= Number(watched.request.startRevision), "progress before the start");
      assert(revision >= watched.reached, "progress below what was seen");
      const missing = this.#next(watched, revision);
      assert(missing === undefined, () => `progress at ${revision} overtook revision ${missing?.revision}`);
      watched.reached = revision;
    }
  }

  #onEvents(message: ReceivedMessage, revision: Revision): void {
    const watched = this.#watched.get(message.watchId);
    assert(watched !== undefined, () => `events for watcher ${message.watchId}, which does not exist`);
    assert(!message.fragment || watched.request.fragment, "a fragment nobody asked for");
    const first = watched.pieces[0];
    assert(
      first === undefined || first.header!.revision === message.header!.revision,
      "fragments of one batch share a header",
    );
    watched.pieces.push(message);
    if (message.fragment) return;
    const events = first === undefined ? message.events : watched.pieces.flatMap((piece) => piece.events);
    watched.pieces = [];
    let at = 0;
    while (at < events.length) {
      const expected = this.#next(watched, this.truth.revision);
      assert(expected !== undefined, "an event that never happened, or was seen before");
      assert(expected.revision <= revision, () => `event ${expected.revision} under header ${revision}`);
      for (const change of expected.changes) {
        const event = events[at++];
        assert(event !== undefined, () => `revision ${expected.revision} was cut in two`);
        this.#compare(watched.request, change, event);
        this.#events++;
      }
      watched.reached = expected.revision;
      watched.position++;
    }
  }

  #compare(request: WatchCreateRequest, change: Change, event: ReceivedEvent): void {
    const type = event.type === Event_EventType.DELETE ? "delete" : "put";
    const hold = (holds: boolean, otherwise: string): void =>
      assert(
        holds,
        () => `${change.type} of ${JSON.stringify(change.key)} at ${change.revision}: ${otherwise}`,
      );
    hold(type === change.type, type === "put" ? "a put" : "a delete");
    if (event.kv === undefined) return hold(false, "no kv");
    hold(Buffer.compare(recordOf(event.kv), change.record) === 0, "another record");
    const before = request.prevKv ? this.truth.recordBefore(change.key, change.revision) : undefined;
    if (event.prevKv === undefined) {
      const gone = change.revision - 1 < this.truth.compactedRevision;
      return hold(before === undefined || gone, "prev_kv is missing");
    }
    if (before === undefined) return hold(false, "prev_kv of nothing");
    hold(Buffer.compare(recordOf(event.prevKv), before) === 0, "another prev_kv");
  }

  /** The next revision up to `limit` of which this watcher wants something; `position` is left at it. */
  #next(watched: Watched, limit: Revision): { revision: Revision; changes: readonly Change[] } | undefined {
    const { log } = this.truth;
    for (; watched.position < log.length; watched.position++) {
      const { revision, changes: all } = log[watched.position]!;
      if (revision < watched.floor) continue;
      if (revision > limit) return undefined;
      const changes =
        all.length > 1
          ? all.filter((change) => wants(watched.request, change))
          : wants(watched.request, all[0]!)
            ? all
            : [];
      if (changes.length > 0) return { revision, changes };
    }
    return undefined;
  }
}

const records = new WeakMap<KeyValue, Uint8Array>();

/** Encoded once, also when many watchers were sent the very same event. */
function recordOf(kv: KeyValue | Uint8Array): Uint8Array {
  if (kv instanceof Uint8Array) return kv;
  let record = records.get(kv);
  if (record === undefined) records.set(kv, (record = toBinary(KeyValueSchema, kv)));
  return record;
}

/** Written apart from the hub's own matching, on purpose: over bytes, from the request. */
function wants(request: WatchCreateRequest, change: Change): boolean {
  const dropped =
    change.type === "put" ? WatchCreateRequest_FilterType.NOPUT : WatchCreateRequest_FilterType.NODELETE;
  if (request.filters.includes(dropped)) return false;
  const { key } = change;
  const start = request.key.length === 0 ? zeroKey : request.key;
  if (request.rangeEnd.length === 0) return compare(key, start) === 0;
  if (compare(key, start) < 0) return false;
  if (request.rangeEnd.length === 1 && request.rangeEnd[0] === 0) return true;
  return compare(key, request.rangeEnd) < 0;
}

const zeroKey = Uint8Array.of(0);

/** A key's bytes, one per character, against others. */
function compare(key: string, bytes: Uint8Array): number {
  const shared = Math.min(key.length, bytes.length);
  for (let at = 0; at < shared; at++) {
    const difference = key.charCodeAt(at) - bytes[at]!;
    if (difference !== 0) return difference;
  }
  return key.length - bytes.length;
}
