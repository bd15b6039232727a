/**
 * Changes as they happen: one message per revision, its id the revision, so that any member can go on behind it. A
 * revision above a mebibyte is cut into parts, with ids "revision.part.query": a whole revision is the same place for
 * every query, but which events a part holds depends on what was asked for, so its id says that, too.
 */
import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Type } from "@sinclair/typebox";
import { type Event, Event_EventType as EventType } from "../../../proto/gen/etcd/kv_pb";
import {
  Watch,
  WatchCreateRequest_FilterType as Filter,
  WatchCreateRequestSchema,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "../../../proto/gen/etcd/rpc_pb";
import { type Answer, type BodyWriter, jsonText } from "../answer";
import { keyValueJson, metadataJson } from "../key-json";
import { byteField } from "../byte-fields";
import { operation, type Operation, type Read, type RestRequest } from "../operation";
import { base64Parameter, choice, decimal, either, flag, integer, textParameter, word } from "../parameters";
import { Problem } from "../problem";
import { PullStream } from "../pull-stream";
import { rangeOf, rangeParameters } from "../ranges";
import { bytesProperties, Decimal, exactlyOne, HexId, KeyValueShape, strict } from "../schemas";
import type { RestServices } from "../services";

/** A message above this many characters is cut into parts, between events. */
const partCharactersMax = 1024 * 1024;
const heartbeatSecondsDefault = 15;
const int64Max = (1n << 63n) - 1n;

const query = {
  key: textParameter("One key."),
  key64: base64Parameter("One key in base64url."),
  ...rangeParameters,
  revision: decimal("From this revision on, itself included; without it and `after`, from now on.", 1n),
  after: word(
    "Behind this id of an earlier message; the header Last-Event-ID says the same.",
    idPattern(),
    "41",
  ),
  prev: flag("With each key as it was before."),
  only: choice(["put", "delete"], "Only changes of this kind."),
  heartbeatSeconds: integer("Seconds between heartbeats; 15 unless given.", 1, 3_600),
} as const;

type WatchQuery = Read<typeof query>;

function idPattern(): string {
  return "^[1-9][0-9]{0,18}(\\.[1-9][0-9]{0,8}\\.[0-9a-f]{8})?$";
}

const EventShape = strict(
  {
    type: Type.Union([Type.Literal("put"), Type.Literal("delete")]),
    ...bytesProperties("key", "The key"),
    ...bytesProperties("value", "The value, of a put"),
    createRevision: Type.Optional(Decimal),
    modRevision: Decimal,
    version: Type.Optional(Decimal),
    lease: Type.Optional(HexId),
    prev: Type.Optional(Type.Union([KeyValueShape, Type.Null()])),
  },
  exactlyOne("key"),
);
const MessageShape = Type.Union([
  strict({
    id: Type.String(),
    revision: Decimal,
    events: Type.Array(EventShape),
    part: Type.Optional(Type.Integer()),
    last: Type.Optional(Type.Boolean({ description: "This is the revision's final part." })),
  }),
  strict({ id: Type.String(), progress: Decimal }),
  strict({ heartbeat: Type.Literal(true) }),
  strict({ compacted: Type.Literal(true), oldestRevision: Decimal }),
]);

/** Where a watch begins: at a revision, of which some parts were seen already. */
interface Start {
  readonly revision: bigint;
  readonly partsSeen: number;
  /** The query that those parts were of, as in their ids. */
  readonly query?: string;
}

function startOf(request: RestRequest<unknown, WatchQuery, unknown>): Start {
  const { revision, after } = request.query;
  const header = request.header("last-event-id");
  // A browser that reconnects repeats its URL and adds the header, so the header is the newer word.
  const seen = header === undefined || header === "" ? after : header;
  if (seen === undefined) return { revision: revision ?? 0n, partsSeen: 0 };
  if (revision !== undefined && header === undefined)
    throw new Problem("bad-parameter", "Give revision or after, not both.");
  const found = new RegExp(idPattern()).test(seen) ? seen.split(".") : undefined;
  const whole = found === undefined ? 0n : BigInt(found[0]!);
  if (whole === 0n || whole >= int64Max)
    throw new Problem("bad-parameter", "Last-Event-ID is no id of this API.");
  return found![1] === undefined
    ? { revision: whole + 1n, partsSeen: 0 }
    : { revision: whole, partsSeen: Number(found![1]), query: found![2]! };
}

function eventJson({ type, kv, prevKv }: Event, withPrevious: boolean): Record<string, unknown> {
  const previous = withPrevious ? { prev: prevKv === undefined ? null : keyValueJson(prevKv) } : {};
  if (type === EventType.DELETE) {
    return { type: "delete", ...byteField("key", kv!.key), modRevision: kv!.modRevision, ...previous };
  }
  return { type: "put", ...metadataJson(kv!), ...byteField("value", kv!.value), ...previous };
}

/** Messages as lines or as server-sent events. */
class MessageWriter {
  /** The client does not keep up. */
  stalled = false;

  constructor(
    readonly writer: BodyWriter,
    readonly lines: boolean,
  ) {}

  /** Writes one message; `text` is its JSON. */
  async message(kind: string, id: string | undefined, text: string): Promise<void> {
    const whole = this.lines
      ? `${text}\n`
      : `event: ${kind}\n${id === undefined ? "" : `id: ${id}\n`}data: ${text}\n\n`;
    if (this.writer.write(whole)) return;
    this.stalled = true;
    await this.writer.drained();
    this.stalled = false;
  }
}

/** Turns the store's responses into messages, whole revisions at a time. */
class RevisionMessages {
  readonly #start: Start;

  constructor(
    readonly out: MessageWriter,
    start: Start,
    readonly withPrevious: boolean,
    /** What was asked for, as in the ids of parts. */
    readonly query: string,
  ) {
    this.#start = start;
  }

  /** A response never ends within a revision. */
  async write(events: readonly Event[]): Promise<void> {
    for (let at = 0; at < events.length;) {
      const revision = events[at]!.kv!.modRevision;
      let end = at + 1;
      while (end < events.length && events[end]!.kv!.modRevision === revision) end++;
      await this.#revision(revision, events.slice(at, end));
      at = end;
    }
  }

  async #revision(revision: bigint, events: readonly Event[]): Promise<void> {
    const parts = partsOf(events, this.withPrevious);
    const { revision: first, partsSeen } = this.#start;
    for (const [at, part] of parts.entries()) {
      const number = at + 1;
      if (revision === first && number <= partsSeen) continue;
      const whole = parts.length === 1;
      const id = whole ? String(revision) : `${revision}.${number}.${this.query}`;
      const about = whole ? "" : `"part":${number},"last":${number === parts.length},`;
      await this.out.message(
        "change",
        id,
        `{"id":"${id}","revision":"${revision}",${about}"events":[${part.join(",")}]}`,
      );
    }
  }
}

/**
 * The events of one revision as JSON, cut where it grows too large. Previous values do not count: whether they are
 * there depends on how far history was compacted, and a cut has to fall at the same place at every reading.
 */
function partsOf(events: readonly Event[], withPrevious: boolean): string[][] {
  const parts: string[][] = [[]];
  let characters = 0;
  for (const event of events) {
    const plain = jsonText(eventJson(event, false));
    const text = withPrevious ? jsonText(eventJson(event, true)) : plain;
    const part = parts[parts.length - 1]!;
    if (part.length > 0 && characters + plain.length > partCharactersMax) {
      parts.push([text]);
      characters = plain.length;
    } else {
      part.push(text);
      characters += plain.length;
    }
  }
  return parts;
}

function requestOf(request: RestRequest<unknown, WatchQuery, unknown>, start: Start): WatchRequest {
  const asked = request.query;
  const key = either(asked, "key");
  const ranged = [asked.prefix, asked.prefix64, asked.from, asked.from64, asked.to, asked.to64].some(
    (one) => one !== undefined,
  );
  if (key !== undefined && ranged)
    throw new Problem("bad-parameter", "Give a key, or a prefix, or from and to.");
  if (key === undefined && !ranged)
    throw new Problem("bad-parameter", "Say what to watch: key, prefix, or from and to.");
  if (key?.length === 0) throw new Problem("empty-key", "`key` is empty.");
  const range = key === undefined ? rangeOf(asked) : { key, rangeEnd: new Uint8Array(0) };
  if (range.rangeEnd.length > 1 || (range.rangeEnd[0] ?? 0) !== 0) {
    if (Buffer.compare(range.rangeEnd, range.key) <= 0)
      throw new Problem("bad-parameter", "The range is empty.");
  }
  return create(WatchRequestSchema, {
    requestUnion: {
      case: "createRequest",
      value: create(WatchCreateRequestSchema, {
        key: range.key,
        rangeEnd: range.rangeEnd,
        startRevision: start.revision,
        prevKv: asked.prev ?? false,
        filters: asked.only === "put" ? [Filter.NODELETE] : asked.only === "delete" ? [Filter.NOPUT] : [],
        watchId: 1n,
      }),
    },
  });
}

/** What decides which events a part holds: the range, and which kinds of change. */
function queryName({ requestUnion }: WatchRequest): string {
  if (requestUnion.case !== "createRequest") return "";
  const { key, rangeEnd, filters } = requestUnion.value;
  const hash = createHash("sha256").update(`${key.length} ${rangeEnd.length} ${filters.join()}\n`);
  return hash.update(key).update(rangeEnd).digest("hex").slice(0, 8);
}

const progressRequest = create(WatchRequestSchema, {
  requestUnion: { case: "progressRequest", value: {} },
});

type Responses = PullStream<typeof WatchRequestSchema, typeof WatchResponseSchema>;

function oldestOf({ compactRevision }: WatchResponse): bigint {
  return compactRevision > 0n ? compactRevision : 1n;
}

async function watch(
  request: RestRequest<unknown, WatchQuery, unknown>,
  services: RestServices,
): Promise<Answer> {
  const start = startOf(request);
  const asked = requestOf(request, start);
  const query = queryName(asked);
  if (start.query !== undefined && start.query !== query) {
    throw new Problem("bad-parameter", "The id is of a part of another query's revision.", {
      fix:
        "Go on with the query that the id came from, or behind a whole revision: the number before the first dot, " +
        "less one, repeats that revision from its beginning.",
    });
  }
  const call = request.call(Watch.method.watch);
  const stream: Responses = new PullStream<typeof WatchRequestSchema, typeof WatchResponseSchema>(
    WatchResponseSchema,
    [asked],
    true,
  ).start((self) => services.watch.watch(self, call));
  call.onCancel(() => stream.close());
  const created = await stream.next();
  // A start that is compacted is told at once, in a second answer.
  const second = stream.poll();
  const refused = second?.canceled === true ? second : created?.canceled === true ? created : undefined;
  if (refused !== undefined) {
    call.cancel();
    if (refused.compactRevision > 0n || refused === second) {
      throw new Problem("compacted", "The history that this watch needs was compacted.", {
        more: { oldestRevision: oldestOf(refused) },
      });
    }
    throw new Problem("bad-parameter", refused.cancelReason);
  }
  const lines = request.prefers("application/x-ndjson", "text/event-stream");
  const heartbeatMs = 1_000 * (request.query.heartbeatSeconds ?? heartbeatSecondsDefault);
  const withPrevious = request.query.prev ?? false;
  return {
    status: 200,
    headers: {
      "content-type": lines ? "application/x-ndjson" : "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      "keelson-revision": String(created?.header?.revision ?? 0n),
    },
    body: async (writer) => {
      const out = new MessageWriter(writer, lines);
      const messages = new RevisionMessages(out, start, withPrevious, query);
      const progress = new Heartbeats(out, stream, heartbeatMs);
      // What a client may go on behind, if nothing happens before its connection breaks.
      const now = created!.header!.revision;
      if (start.revision === 0n) await out.message("progress", String(now), progressText(now));
      try {
        for (let next = second ?? (await stream.next()); next !== undefined; next = await stream.next()) {
          if (next.canceled) {
            await out.message(
              "compacted",
              undefined,
              jsonText({ compacted: true, oldestRevision: oldestOf(next) }),
            );
            return;
          }
          if (next.events.length > 0) await messages.write(next.events);
          else await progress.answered(next.header!.revision);
          if (writer.over) return;
        }
      } finally {
        progress.stop();
        call.cancel();
      }
    },
  };
}

function progressText(revision: bigint): string {
  return jsonText({ id: String(revision), progress: revision });
}

/** Asks for progress now and then; where the watch is not current, a heartbeat only says that it is alive. */
class Heartbeats {
  readonly #timer: ReturnType<typeof setInterval>;
  #due = false;

  constructor(
    readonly out: MessageWriter,
    stream: Responses,
    intervalMs: number,
  ) {
    this.#timer = setInterval(() => {
      // The last question was not answered: the watch is catching up, or waits for a revision of the future.
      if (this.#due && !out.stalled) void out.message("heartbeat", undefined, '{"heartbeat":true}');
      this.#due = true;
      stream.ask(progressRequest);
    }, intervalMs);
  }

  async answered(revision: bigint): Promise<void> {
    this.#due = false;
    await this.out.message("progress", String(revision), progressText(revision));
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

export const watchOperations: readonly Operation[] = [
  operation({
    id: "watch",
    method: "GET",
    path: "/watch",
    tag: "watch",
    summary: "Watch a key or a range",
    description:
      "One message per revision with all its events, as server-sent events or, with Accept: application/x-ndjson, as " +
      "lines. Whoever was cut off goes on behind the last id, on any member, and misses and repeats nothing. A " +
      "revision above 1 MiB comes in parts, whose ids are good for the same query only. A progress message vouches for everything up to its id.",
    permission: "watch",
    write: "no",
    endless: true,
    query,
    headers: { "Last-Event-ID": { description: "Go on behind this id; browsers send it by themselves." } },
    answers: {
      200: {
        description: "Messages until the client leaves, or history was compacted away.",
        headers: {
          "X-Accel-Buffering": { description: "no: proxies are to pass messages on at once." },
          "Keelson-Revision": { description: "The revision of the store when the watch began." },
        },
        content: [
          {
            kind: "stream",
            mediaType: "text/event-stream",
            schema: MessageShape,
            description: "Server-sent events; this is their data.",
          },
          {
            kind: "stream",
            mediaType: "application/x-ndjson",
            schema: MessageShape,
            description: "One object a line.",
          },
        ],
      },
    },
    problems: ["bad-parameter", "empty-key", "compacted"],
    examples: [{ summary: "Watch a folder", target: "/watch?prefix=folder/", status: 200 }],
    handle: watch,
  }),
];
