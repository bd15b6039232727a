/** Many keys: lists that are pinned to one revision and streamed, and range deletes. */
import { create } from "@bufbuild/protobuf";
import { Type } from "@sinclair/typebox";
import type { KeyValue } from "../../../proto/gen/etcd/kv_pb";
import {
  DeleteRangeRequestSchema,
  DeleteRangeResponseSchema,
  KV,
  RangeRequest_SortOrder as Order,
  RangeRequest_SortTarget as Target,
  type RangeRequest,
  RangeRequestSchema,
  RangeResponseSchema,
  type RangeStreamResponse,
  RangeStreamResponseSchema,
} from "../../../proto/gen/etcd/rpc_pb";
import { decodeAnswer } from "../../../service/backend";
import type { KeyParts } from "../../../service/kv";
import { type Answer, type BodyWriter, json, jsonHeaders, jsonText } from "../answer";
import type { RestCall } from "../call";
import { type Cursor, decodeCursor, encodeCursor } from "../cursor";
import { keyValueJson, metadataJson } from "../key-json";
import { operation, type Operation, type Read, type RestRequest } from "../operation";
import { base64Parameter, choice, decimal, either, flag, integer, textParameter, word } from "../parameters";
import { Problem } from "../problem";
import { PullStream } from "../pull-stream";
import { type KeyRangeBounds, rangeOf, rangeParameters } from "../ranges";
import { bytesProperties, Decimal, exactlyOne, HexId, strict } from "../schemas";
import type { RestServices } from "../services";
import { revisionOf, timeParameter } from "../times";

const pageKeysDefault = 1_000;
const pageKeysMax = 10_000;
/** As far as a list in another order than that of its keys reaches, and the most that are sorted by value. */
const sortedKeysMax = 10_000;
/** Keys that one page of a search looks at. */
const searchedKeysMax = 100_000;
/** JSON is written in pieces of about this many characters. */
const pieceCharacters = 32 * 1024;
/** Where values are read one by one, other work is let in so often. */
const pauseMs = 4;

const query = {
  ...rangeParameters,
  contains: textParameter(
    "Keys with this text in them. A page looks at 100,000 keys, and may be empty before the end.",
  ),
  contains64: base64Parameter("The same in base64url."),
  limit: integer("Keys of one page; 1,000 as JSON, all as NDJSON.", 1, pageKeysMax),
  cursor: word("Where the page before ended.", "^[A-Za-z0-9_-]{1,49152}$", "MQ"),
  keysOnly: flag("Leave values out."),
  countOnly: flag("Answer with the number of keys alone."),
  sort: choice(["key", "version", "create", "mod", "value"], "Order by this; by value up to 10,000 keys."),
  order: choice(["asc", "desc"], "Ascending unless said otherwise."),
  revision: decimal("List as of this revision.", 1n),
  time: timeParameter,
  serializable: flag("Answer from this member's own state, which may be a little behind."),
} as const;

type ListRequest = RestRequest<unknown, Read<typeof query>, unknown>;

const targets = {
  key: Target.KEY,
  version: Target.VERSION,
  create: Target.CREATE,
  mod: Target.MOD,
  value: Target.VALUE,
} as const;

const ListedKey = strict(
  {
    ...bytesProperties("key", "The key"),
    ...bytesProperties("value", "The value; absent with keysOnly"),
    createRevision: Decimal,
    modRevision: Decimal,
    version: Decimal,
    lease: Type.Optional(HexId),
  },
  exactlyOne("key"),
);
const pageEnd = {
  revision: Decimal,
  count: Decimal,
  more: Type.Boolean({ description: "There are keys behind this page." }),
  cursor: Type.Optional(Type.String({ description: "The next page's cursor." })),
};
const PageShape = strict({ keys: Type.Array(ListedKey), ...pageEnd });
const LineShape = Type.Union([ListedKey, strict({ end: Type.Literal(true), ...pageEnd })]);

/** What a list needs to know, read once. */
interface ListPlan {
  readonly range: KeyRangeBounds;
  readonly cursor: Cursor | undefined;
  readonly hash: string;
  readonly limit: number;
  readonly keysOnly: boolean;
  readonly contains: Uint8Array | undefined;
  readonly lines: boolean;
  readonly base: RangeRequest;
}

async function planOf(request: ListRequest, services: RestServices): Promise<ListPlan> {
  const { query: asked } = request;
  const hash = request.queryHash(["cursor", "limit"]);
  const cursor = asked.cursor === undefined ? undefined : decodeCursor(asked.cursor, hash);
  const lines = request.prefers("application/x-ndjson", "application/json");
  const range = rangeOf(asked);
  const contains = either(asked, "contains");
  return {
    range,
    cursor,
    hash,
    lines,
    limit: asked.limit ?? (lines ? Infinity : pageKeysDefault),
    keysOnly: asked.keysOnly ?? false,
    contains: contains?.length === 0 ? undefined : contains,
    base: create(RangeRequestSchema, {
      key: range.key,
      rangeEnd: range.rangeEnd,
      revision: cursor === undefined ? await revisionOf(asked, services) : BigInt(cursor.revision),
      keysOnly: asked.keysOnly ?? false,
      serializable: asked.serializable ?? false,
    }),
  };
}

async function list(request: ListRequest, services: RestServices): Promise<Answer> {
  const { countOnly = false, sort = "key", order = "asc" } = request.query;
  const plan = await planOf(request, services);
  if (countOnly) {
    if (plan.contains !== undefined) throw new Problem("bad-parameter", "countOnly cannot count a search.");
    const { revision, count } = await pin(request, plan, services);
    return json(200, { revision, count: String(count), keys: [], more: false });
  }
  return sort === "key" && order === "asc"
    ? listInOrder(request, plan, services)
    : listSorted(request, plan, services, targets[sort], order === "desc");
}

/** The revision that all pages share, and how many keys the range holds there. */
interface Pinned {
  readonly revision: bigint;
  readonly count: number;
}

/** On the first page this is a read like any other; what follows on this member needs no further round. */
async function pin(request: ListRequest, plan: ListPlan, { kv }: RestServices): Promise<Pinned> {
  if (plan.cursor !== undefined) return { revision: plan.base.revision, count: plan.cursor.count };
  const answer = decodeAnswer(
    RangeResponseSchema,
    await kv.range(
      create(RangeRequestSchema, { ...plan.base, countOnly: true, keysOnly: false }),
      request.call(KV.method.range),
    ),
  );
  return { revision: plan.base.revision || answer.header!.revision, count: Number(answer.count) };
}

type RangeStream = PullStream<typeof RangeRequestSchema, typeof RangeStreamResponseSchema>;

/** Keys in their own order, streamed: neither side ever holds more than a chunk. */
async function listInOrder(request: ListRequest, plan: ListPlan, services: RestServices): Promise<Answer> {
  const pinned = await pin(request, plan, services);
  const call = request.call(KV.method.rangeStream);
  const last = plan.cursor?.lastKey;
  const asked = create(RangeRequestSchema, {
    ...plan.base,
    revision: pinned.revision,
    serializable: plan.base.serializable || plan.cursor === undefined,
    ...(last === undefined ? {} : { key: Buffer.concat([last, Uint8Array.of(0)]) }),
    limit: plan.contains === undefined && plan.limit !== Infinity ? BigInt(plan.limit) : 0n,
  });
  const stream: RangeStream = new PullStream<typeof RangeRequestSchema, typeof RangeStreamResponseSchema>(
    RangeStreamResponseSchema,
    [asked],
  ).start((self) => services.kv.rangeStream(self, call));
  // The first chunk, before anything is answered: a refusal must still find its status.
  const first = await stream.next();
  return {
    status: 200,
    headers: listHeaders(plan, pinned),
    body: (writer) => writeInOrder(new ListWriter(writer, plan, pinned), plan, stream, first, call),
  };
}

function listHeaders(plan: ListPlan, { revision }: Pinned): Record<string, string> {
  return {
    ...jsonHeaders,
    "keelson-revision": String(revision),
    ...(plan.lines ? { "content-type": "application/x-ndjson" } : {}),
  };
}

/** Puts listed keys into the form that was asked for, in pieces. */
class ListWriter {
  #text = "";
  written = 0;

  constructor(
    readonly writer: BodyWriter,
    readonly plan: ListPlan,
    readonly pinned: Pinned,
  ) {
    if (!plan.lines) this.#text = `${jsonText(this.#head()).slice(0, -1)},"keys":[`;
  }

  #head(): Record<string, unknown> {
    return { revision: this.pinned.revision, count: String(this.pinned.count) };
  }

  /** Resolves when more may follow; false when the client left. */
  async add(kv: KeyParts): Promise<boolean> {
    const text = jsonText(this.plan.keysOnly ? metadataJson(kv) : keyValueJson(kv));
    this.#text += this.plan.lines ? `${text}\n` : `${this.written > 0 ? "," : ""}${text}`;
    this.written++;
    return this.#text.length < pieceCharacters || this.#flush();
  }

  async #flush(): Promise<boolean> {
    const piece = this.#text;
    this.#text = "";
    if (!this.writer.write(piece)) await this.writer.drained();
    return !this.writer.over;
  }

  /** Ends the list; `place` is where the next page begins, when there is one. */
  async end(
    place: { readonly lastKey: Uint8Array | undefined; readonly skipped: number } | undefined,
  ): Promise<void> {
    const { revision, count } = this.pinned;
    const more = {
      more: place !== undefined,
      ...(place === undefined
        ? {}
        : { cursor: encodeCursor({ revision: Number(revision), count, ...place }, this.plan.hash) }),
    };
    this.#text += this.plan.lines
      ? `${jsonText({ end: true, ...this.#head(), ...more })}\n`
      : `],${jsonText(more).slice(1)}`;
    await this.#flush();
  }
}

async function writeInOrder(
  out: ListWriter,
  plan: ListPlan,
  stream: RangeStream,
  first: RangeStreamResponse | undefined,
  call: RestCall,
): Promise<void> {
  const { contains } = plan;
  // A search that is streamed to its end needs no place to stop.
  const lookMax = contains === undefined || plan.limit === Infinity ? Infinity : searchedKeysMax;
  let looked = 0;
  let lastKey: Uint8Array | undefined;
  let more = false;
  try {
    for (let chunk = first; chunk !== undefined; chunk = await stream.next()) {
      for (const kv of chunk.rangeResponse?.kvs ?? []) {
        if (out.written >= plan.limit || looked >= lookMax) {
          more = true;
          break;
        }
        looked++;
        lastKey = kv.key;
        if (contains !== undefined && !Buffer.from(kv.key).includes(contains)) continue;
        if (!(await out.add(kv))) return;
      }
      if (more) break;
      if (chunk.rangeResponse?.more === true) more = true;
    }
  } finally {
    call.cancel();
    stream.close();
  }
  await out.end(more ? { lastKey, skipped: 0 } : undefined);
}

/** Keys in another order: sorted as a whole, so only so far. */
async function listSorted(
  request: ListRequest,
  plan: ListPlan,
  services: RestServices,
  sortTarget: Target,
  descending: boolean,
): Promise<Answer> {
  if (plan.contains !== undefined) {
    throw new Problem("bad-parameter", "A search answers in the order of keys: leave sort and order out.");
  }
  const limit = Math.min(plan.limit, pageKeysDefault);
  const skipped = plan.cursor?.skipped ?? 0;
  if (skipped + limit > sortedKeysMax) {
    throw new Problem("unprocessable", `A sorted list reaches ${sortedKeysMax} keys.`, {
      fix: "Narrow the range, or list in the order of keys.",
    });
  }
  const pinned = await pin(request, plan, services);
  if (sortTarget === Target.VALUE && pinned.count > sortedKeysMax) {
    throw new Problem(
      "unprocessable",
      `Only up to ${sortedKeysMax} keys are sorted by value; these are ${pinned.count}.`,
      { fix: "Narrow the range." },
    );
  }
  const found = decodeAnswer(
    RangeResponseSchema,
    await services.kv.range(
      create(RangeRequestSchema, {
        ...plan.base,
        revision: pinned.revision,
        serializable: plan.base.serializable || plan.cursor === undefined,
        limit: BigInt(skipped + limit),
        // Values come one by one as they are written: together they could be a gigabyte.
        keysOnly: true,
        sortTarget,
        sortOrder: descending ? Order.DESCEND : Order.ASCEND,
      }),
      request.call(KV.method.range),
    ),
  );
  const page = found.kvs.slice(skipped);
  return {
    status: 200,
    headers: listHeaders(plan, pinned),
    body: async (writer) => {
      const out = new ListWriter(writer, plan, pinned);
      let sinceMs = performance.now();
      for (const kv of page) {
        if (!(await out.add(plan.keysOnly ? kv : await withValue(kv, pinned, services)))) return;
        if (performance.now() - sinceMs < pauseMs) continue;
        await new Promise<void>((resolve) => setImmediate(resolve));
        sinceMs = performance.now();
      }
      await out.end(found.more ? { lastKey: undefined, skipped: skipped + page.length } : undefined);
    },
  };
}

/** A listed key with its value at the list's revision; what was compacted meanwhile breaks the list off. */
async function withValue({ key }: KeyValue, { revision }: Pinned, { kv }: RestServices): Promise<KeyParts> {
  const request = create(RangeRequestSchema, { key, revision, serializable: true });
  const found = (await kv.getKey(request)).kv;
  if (found === undefined) throw new Error("a listed key is gone from its revision");
  return found;
}

const deleteQuery = {
  ...rangeParameters,
  all: flag("Delete although the range is open at an end."),
} as const;

export const keysOperations: readonly Operation[] = [
  operation({
    id: "listKeys",
    method: "GET",
    path: "/keys",
    tag: "lists",
    summary: "List keys",
    description:
      "By prefix, or from one key up to another. All pages show one revision: the next page's cursor works on any " +
      "member until that revision is compacted. Accept: application/x-ndjson gives a line per key, and a last one " +
      'with "end": true; a list that broke off has none.',
    permission: "read",
    learner: "serializable",
    write: "no",
    query,
    answers: {
      200: {
        description: "The keys.",
        content: [
          { kind: "json", schema: PageShape },
          {
            kind: "stream",
            mediaType: "application/x-ndjson",
            schema: LineShape,
            description: "One object a line.",
          },
        ],
      },
    },
    problems: ["bad-parameter", "compacted", "unprocessable"],
    examples: [
      {
        summary: "Keys that begin with gr",
        target: "/keys?prefix=gr&keysOnly=true",
        status: 200,
        after: ["putKey"],
      },
    ],
    handle: list,
  }),
  operation({
    id: "deleteKeys",
    method: "DELETE",
    path: "/keys",
    tag: "lists",
    summary: "Delete a range of keys",
    description: "A prefix that is not empty, or from and to; whoever means more says all=true.",
    permission: "write",
    write: "replicated",
    query: deleteQuery,
    answers: {
      200: {
        description: "They are gone.",
        content: [{ kind: "json", schema: strict({ revision: Decimal, deleted: Decimal }) }],
      },
    },
    problems: ["bad-parameter", "corrupt"],
    examples: [{ summary: "Delete a folder", target: "/keys?prefix=folder/", status: 200 }],
    async handle(request, { kv }) {
      const range = rangeOf(request.query);
      if (!range.bounded && request.query.all !== true) {
        throw new Problem("bad-parameter", "This would delete without a bound.", {
          fix: "Name a prefix that is not empty, or from and to, or say all=true.",
        });
      }
      const { key, rangeEnd } = range;
      const answer = decodeAnswer(
        DeleteRangeResponseSchema,
        await kv.deleteRange(
          create(DeleteRangeRequestSchema, { key, rangeEnd }),
          request.call(KV.method.deleteRange),
        ),
      );
      return json(200, { revision: answer.header!.revision, deleted: answer.deleted });
    },
  }),
];
