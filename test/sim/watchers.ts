/**
 * Clients that watch. Each stream is judged by the checker of `src/watch/checker.ts` against what really happened;
 * when its member ends, its watchers go on at another member from where they were.
 */
import { create } from "@bufbuild/protobuf";
import { concatBytes } from "../../src/bytes";
import type { Revision } from "../../src/ids";
import {
  type WatchCreateRequest,
  WatchCreateRequest_FilterType as FilterType,
  WatchCreateRequestSchema,
  WatchRequestSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { Rng } from "../../src/rng";
import type { EncodedMessage } from "../../src/transport/call";
import { type ReceivedEvent, type ReceivedMessage, StreamChecker } from "../../src/watch/checker";
import { WatchClient } from "./client-streams";
import type { VirtualClock } from "./clock";
import type { SimulatedHost } from "./host";
import type { Shown } from "./operations";
import type { WorkloadOptions } from "./options";
import { Fields, revisionOf } from "./replies";
import type { Truth } from "./truth";

/** What a client wants to watch, over all the streams on which it does. */
interface Watched {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  readonly prevKv: boolean;
  readonly progressNotify: boolean;
  readonly fragment: boolean;
  readonly filters: FilterType[];
  /** Where to begin: 0 for now. */
  next: Revision;
}

interface Stream {
  readonly client: WatchClient;
  readonly checker: StreamChecker;
  readonly host: SimulatedHost;
  readonly life: number;
  /** Asked for and not yet answered, in order. */
  readonly asked: Watched[];
  readonly live: Map<bigint, Watched>;
  /** The newest revision of a message that was shown. */
  checks: number;
}

export interface WatchersContext {
  readonly clock: VirtualClock;
  readonly rng: Rng;
  readonly truth: Truth;
  readonly shown: Shown;
  readonly workload: WorkloadOptions;
  /** A member that serves, if any. */
  someHost(): SimulatedHost | undefined;
  /** Runs work as part of an event of a host. */
  at(host: SimulatedHost, work: () => void): void;
  trace(host: SimulatedHost, what: string): void;
}

/** Of one stream. */
const watchersMax = 8;

/** An event is encoded once, however many watchers get it, so its piece of a message is read once too. */
const readPieces = new WeakMap<Uint8Array, readonly ReceivedEvent[]>();
const readMessages = new WeakMap<EncodedMessage, ReceivedMessage>();

const fieldOf = {
  header: 1,
  watchId: 2,
  created: 3,
  canceled: 4,
  compactRevision: 5,
  fragment: 7,
  events: 11,
};
const eventFieldOf = { type: 1, kv: 2, prevKv: 3 };

function eventsOf(fields: Fields): ReceivedEvent[] {
  return fields.pieces(fieldOf.events).map((bytes) => {
    const event = new Fields(bytes);
    return {
      type: event.number(eventFieldOf.type),
      kv: event.piece(eventFieldOf.kv),
      prevKv: event.piece(eventFieldOf.prevKv),
    };
  });
}

/** The events of a piece that has nothing else; of others undefined. */
function eventsOfPiece(bytes: Uint8Array): readonly ReceivedEvent[] | undefined {
  let events = readPieces.get(bytes);
  if (events !== undefined) return events;
  const fields = new Fields(bytes);
  if (!fields.hasOnly(fieldOf.events)) return undefined;
  readPieces.set(bytes, (events = eventsOf(fields)));
  return events;
}

/** A message in pieces is the sum of its pieces: the first has what is not an event. */
function read(message: EncodedMessage): ReceivedMessage {
  let received = readMessages.get(message);
  if (received !== undefined) return received;
  const { chunks } = message;
  const pieces = chunks.slice(1).map(eventsOfPiece);
  received = pieces.every((events) => events !== undefined)
    ? readWhole(chunks[0]!, pieces)
    : readWhole(concatBytes(chunks), []);
  readMessages.set(message, received);
  return received;
}

function readWhole(bytes: Uint8Array, more: readonly (readonly ReceivedEvent[])[]): ReceivedMessage {
  const fields = new Fields(bytes);
  const events = eventsOf(fields);
  for (const piece of more) events.push(...piece);
  return {
    header: { revision: BigInt(revisionOf(fields)) },
    watchId: fields.bigint(fieldOf.watchId),
    created: fields.number(fieldOf.created) === 1,
    canceled: fields.number(fieldOf.canceled) === 1,
    compactRevision: fields.bigint(fieldOf.compactRevision),
    fragment: fields.number(fieldOf.fragment) === 1,
    events,
  };
}

export class Watchers {
  readonly counts = {
    streams: 0,
    resumed: 0,
    created: 0,
    events: 0,
    compacted: 0,
    progresses: 0,
    canceled: 0,
  };
  readonly #context: WatchersContext;
  readonly #streams = new Set<Stream>();
  /** Streams that ended, or were not there yet, and are about to be opened. */
  #opening = 0;
  #stopped = false;

  constructor(context: WatchersContext) {
    this.#context = context;
  }

  start(): void {
    const { workload } = this.#context;
    for (let i = 0; i < workload.watchStreams; i++) {
      const wanted = Array.from({ length: workload.watchersPerStream }, () => this.#draw());
      this.#openLater(wanted);
    }
    if (workload.watchStreams > 0) this.#fidget();
  }

  /** No further changes of mind; what is watched goes on. */
  stop(): void {
    this.#stopped = true;
  }

  #later(work: () => void): void {
    const { clock, rng } = this.#context;
    clock.after(5 + rng.below(500), work);
  }

  #draw(): Watched {
    const { rng, shown, workload } = this.#context;
    const single = rng.below(3) === 0;
    const key = Buffer.from(`k${String(rng.below(workload.keys)).padStart(2, "0")}`);
    // From now, from the past, from where nothing was compacted, or from what is still to come.
    const begin = [0, 0, Math.max(1, shown.revision - rng.below(300)), shown.revision + 1 + rng.below(60)];
    return {
      key: single ? key : rng.below(2) === 0 ? Uint8Array.of(0) : key,
      rangeEnd: single ? new Uint8Array(0) : Uint8Array.of(0),
      prevKv: rng.below(3) === 0,
      progressNotify: rng.below(2) === 0,
      fragment: rng.below(4) === 0,
      filters: rng.below(5) === 0 ? [rng.below(2) === 0 ? FilterType.NOPUT : FilterType.NODELETE] : [],
      next: begin[rng.below(begin.length)]!,
    };
  }

  #openLater(wanted: Watched[]): void {
    this.#opening++;
    this.#later(() => {
      this.#opening--;
      this.#open(wanted);
    });
  }

  #open(wanted: Watched[]): void {
    const { rng, truth, workload, clock } = this.#context;
    const host = this.#context.someHost();
    if (host?.services === undefined) {
      this.#openLater(wanted);
      return;
    }
    this.#context.at(host, () => {
      this.counts.streams++;
      const checker = new StreamChecker(truth);
      const stream: Stream = {
        checker,
        host,
        life: host.life,
        asked: [],
        live: new Map(),
        checks: 0,
        client: new WatchClient(host.services!.watch, {
          capacity: workload.watchCapacity,
          received: (message) => this.#received(stream, message),
          // In the end nobody is slow on purpose.
          full: () => void clock.after(this.#stopped ? 1 : 1 + rng.below(300), () => this.#makeRoom(stream)),
          ended: () => this.#ended(stream),
        }),
      };
      this.#streams.add(stream);
      for (const watched of wanted) this.#create(stream, watched);
    });
  }

  #create(stream: Stream, watched: Watched): void {
    const request = create(WatchCreateRequestSchema, {
      key: watched.key,
      rangeEnd: watched.rangeEnd,
      startRevision: BigInt(watched.next),
      prevKv: watched.prevKv,
      progressNotify: watched.progressNotify,
      fragment: watched.fragment,
      filters: watched.filters,
    }) satisfies WatchCreateRequest;
    stream.asked.push(watched);
    stream.checker.asked(request);
    stream.client.ask(
      create(WatchRequestSchema, { requestUnion: { case: "createRequest", value: request } }),
    );
  }

  #makeRoom(stream: Stream): void {
    if (!this.#streams.has(stream)) return;
    this.#at(stream, () => stream.client.makeRoom());
  }

  /** Only while the stream's member lives. */
  #at(stream: Stream, work: () => void): void {
    const { host, life } = stream;
    if (host.life !== life || host.state !== "up") return this.#ended(stream);
    this.#context.at(host, work);
  }

  #received(stream: Stream, encoded: EncodedMessage): void {
    const message = read(encoded);
    stream.checker.received(message);
    const revision = Number(message.header?.revision);
    if (message.created) {
      const watched = stream.asked.shift()!;
      if (message.canceled) return;
      if (watched.next === 0) watched.next = revision + 1;
      stream.live.set(message.watchId, watched);
      this.counts.created++;
      return;
    }
    if (message.canceled) {
      const watched = stream.live.get(message.watchId)!;
      stream.live.delete(message.watchId);
      this.counts.canceled++;
      if (message.compactRevision === 0n) return;
      this.counts.compacted++;
      // As a client that lists again and goes on from there.
      watched.next = Number(message.compactRevision);
      this.#create(stream, watched);
      return;
    }
    const about = message.watchId === -1n ? [...stream.live.values()] : [stream.live.get(message.watchId)!];
    if (message.events.length === 0) {
      this.counts.progresses++;
      for (const watched of about) watched.next = Math.max(watched.next, revision + 1);
    } else if (!message.fragment) {
      this.counts.events += message.events.length;
      const last = new Fields(message.events.at(-1)!.kv as Uint8Array).number(3);
      for (const watched of about) watched.next = last + 1;
      this.#context.shown.see(last);
    }
  }

  /** The member ended, or the stream: the watchers go on elsewhere. */
  #ended(stream: Stream): void {
    if (!this.#streams.delete(stream)) return;
    stream.client.close();
    const wanted = [...stream.live.values(), ...stream.asked];
    if (wanted.length === 0) return;
    this.counts.resumed++;
    this.#openLater(wanted);
  }

  /** Members die without a word. */
  hostEnded(host: SimulatedHost): void {
    for (const stream of Array.from(this.#streams)) if (stream.host === host) this.#ended(stream);
  }

  /** Something that clients do now and then: ask for progress, cancel, begin anew, move to another member. */
  #fidget(): void {
    if (this.#stopped) return;
    const { rng } = this.#context;
    const streams = [...this.#streams];
    const stream = streams[rng.below(Math.max(1, streams.length))];
    this.#later(() => this.#fidget());
    if (stream === undefined) return;
    this.#at(stream, () => {
      const ids = [...stream.live.keys()];
      const id = ids[rng.below(Math.max(1, ids.length))];
      const draw = rng.below(10);
      if (draw < 4) {
        stream.client.ask(
          create(WatchRequestSchema, { requestUnion: { case: "progressRequest", value: {} } }),
        );
      } else if (draw < 6 && id !== undefined) {
        stream.checker.canceling(id);
        stream.client.ask(
          create(WatchRequestSchema, { requestUnion: { case: "cancelRequest", value: { watchId: id } } }),
        );
        if (ids.length + stream.asked.length < watchersMax) this.#create(stream, this.#draw());
      } else if (draw < 7 && ids.length + stream.asked.length < watchersMax) {
        // Opened and closed in a tight loop, while writes go on (etcd #20655).
        for (let i = 0; i < 3; i++) this.#create(stream, this.#draw());
      } else if (draw === 7) {
        this.#ended(stream);
      }
    });
  }

  /** Every watcher has seen everything up to now. */
  get caughtUp(): boolean {
    const { truth } = this.#context;
    if (this.#opening > 0) return false;
    for (const { live, asked } of this.#streams) {
      if (asked.length > 0) return false;
      for (const watched of live.values()) if (this.#misses(watched, truth.revision)) return false;
    }
    return true;
  }

  #misses({ key, rangeEnd, next, filters }: Watched, revision: Revision): boolean {
    const { log } = this.#context.truth;
    const [low, end] = [key, rangeEnd].map((bytes) => Buffer.from(bytes).toString("latin1"));
    for (let at = Math.max(2, next); at <= revision; at++) {
      for (const change of log[at - 2]!.changes) {
        const dropped = change.type === "put" ? FilterType.NOPUT : FilterType.NODELETE;
        if (filters.includes(dropped)) continue;
        if (end === "" ? change.key === low : change.key >= low!) return true;
      }
    }
    return false;
  }

  /** At the end: reliability includes the tail. */
  finish(): void {
    for (const { checker } of this.#streams) checker.finish();
  }

  close(): void {
    for (const { client } of this.#streams) client.close();
    this.#streams.clear();
  }
}
