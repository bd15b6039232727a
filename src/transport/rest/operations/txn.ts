/** Transactions in a form that people can read: compares, then, else; nested. */
import { create } from "@bufbuild/protobuf";
import { type Static, Type } from "@sinclair/typebox";
import type { KeyValue } from "../../../proto/gen/etcd/kv_pb";
import {
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  type Compare,
  CompareSchema,
  DeleteRangeRequestSchema,
  KV,
  PutRequestSchema,
  RangeRequestSchema,
  type RequestOp,
  RequestOpSchema,
  type TxnRequest,
  TxnRequestSchema,
  type TxnResponse,
} from "../../../proto/gen/etcd/rpc_pb";
import { refuse } from "../../../errors";
import { isLargeTxn } from "../../../service/encode-txn";
import { type Answer, json, jsonHeaders, jsonText } from "../answer";
import { optionalBytes, requiredBytes, requiredKey } from "../byte-fields";
import { keyValueJson } from "../key-json";
import { operation, type Operation } from "../operation";
import { Problem } from "../problem";
import { rangeOf } from "../ranges";
import { bytesProperties, Decimal, exactlyOne, HexIdIn, KeyValueShape, strict } from "../schemas";

const int64Max = (1n << 63n) - 1n;
/** A large answer is written in pieces of about this many characters, with a pause so often. */
const pieceCharacters = 32 * 1024;
const pieceMs = 4;

const bounds = {
  ...bytesProperties("key", "One key"),
  ...bytesProperties("prefix", "Every key that begins so"),
  ...bytesProperties("from", "Every key from this one on"),
  ...bytesProperties("to", "Every key below this one"),
};

const CompareShape = strict(
  {
    ...bytesProperties("key", "The key"),
    target: Type.Union(
      ["exists", "value", "version", "createRevision", "modRevision", "lease"].map((name) =>
        Type.Literal(name),
      ),
    ),
    is: Type.Optional(
      Type.Union(
        ["=", "!=", "<", ">"].map((sign) => Type.Literal(sign)),
        { description: "How to compare; = unless given." },
      ),
    ),
    exists: Type.Optional(Type.Boolean({ description: "For exists: whether the key has to exist." })),
    ...bytesProperties("value", "For value: what to compare with"),
    number: Type.Optional(
      Type.String({ pattern: "^(0|[1-9][0-9]{0,18})$", description: "For version and the revisions." }),
    ),
    lease: Type.Optional(
      Type.String({ pattern: "^[0-9a-fA-F]{1,16}$", description: "For lease; 0 is none." }),
    ),
  },
  exactlyOne("key"),
);

const TxnShape = Type.Recursive(
  (self) =>
    strict({
      compare: Type.Optional(
        Type.Array(CompareShape, { description: "All have to hold; none holds always." }),
      ),
      then: Type.Optional(Type.Array(operationShape(self))),
      else: Type.Optional(Type.Array(operationShape(self))),
    }),
  { $id: "Transaction" },
);

function operationShape(self: Parameters<Parameters<typeof Type.Recursive>[0]>[0]) {
  return strict(
    {
      get: Type.Optional(
        strict({
          ...bounds,
          limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
          keysOnly: Type.Optional(Type.Boolean()),
        }),
      ),
      put: Type.Optional(
        strict(
          {
            ...bytesProperties("key", "The key"),
            ...bytesProperties("value", "The value"),
            lease: Type.Optional(HexIdIn),
            prev: Type.Optional(Type.Boolean()),
          },
          exactlyOne("key", "value"),
        ),
      ),
      delete: Type.Optional(strict({ ...bounds, prev: Type.Optional(Type.Boolean()) })),
      txn: Type.Optional(self),
    },
    { minProperties: 1, maxProperties: 1, description: "One of get, put, delete, txn." },
  );
}

/** The shapes as types; the recursive one is written out, because the schema's own type has no end. */
type CompareJson = Static<typeof CompareShape>;
type RangeJson = Static<ReturnType<typeof rangeShape>>;
function rangeShape() {
  return strict(bounds);
}
interface OperationJson {
  readonly get?: RangeJson & { readonly limit?: number; readonly keysOnly?: boolean };
  readonly put?: { readonly lease?: string; readonly prev?: boolean } & Readonly<Record<string, unknown>>;
  readonly delete?: RangeJson & { readonly prev?: boolean };
  readonly txn?: TxnJson;
}
interface TxnJson {
  readonly compare?: readonly CompareJson[];
  readonly then?: readonly OperationJson[];
  readonly else?: readonly OperationJson[];
}

const ResultShape = Type.Recursive(
  (self) =>
    strict({
      succeeded: Type.Boolean({ description: "The compares held, and `then` ran; otherwise `else`." }),
      revision: Type.Optional(Decimal),
      results: Type.Array(
        strict({
          get: Type.Optional(
            strict({ keys: Type.Array(KeyValueShape), count: Decimal, more: Type.Boolean() }),
          ),
          put: Type.Optional(strict({ prev: Type.Optional(Type.Union([KeyValueShape, Type.Null()])) })),
          delete: Type.Optional(strict({ deleted: Decimal, prev: Type.Optional(Type.Array(KeyValueShape)) })),
          txn: Type.Optional(self),
        }),
      ),
    }),
  { $id: "TransactionResult" },
);

const results = { "=": Result.EQUAL, "!=": Result.NOT_EQUAL, "<": Result.LESS, ">": Result.GREATER } as const;

/** The one key or the range that an operation names. */
function boundsOf(json: RangeJson): { key: Uint8Array; rangeEnd: Uint8Array } {
  const key = optionalBytes(json, "key");
  const range = {
    prefix: optionalBytes(json, "prefix"),
    from: optionalBytes(json, "from"),
    to: optionalBytes(json, "to"),
  };
  const ranged = Object.values(range).some((bytes) => bytes !== undefined);
  if (key !== undefined && ranged) throw new Problem("bad-body", "Give a key, or prefix, or from and to.");
  if (key?.length === 0) throw new Problem("empty-key", '"key" is empty.');
  if (key !== undefined) return { key, rangeEnd: new Uint8Array(0) };
  if (!ranged) throw new Problem("bad-body", "An operation needs a key, a prefix, or from and to.");
  return rangeOf(range);
}

function compareOf(json: CompareJson): Compare {
  const key = requiredKey(json);
  const result = results[(json.is ?? "=") as keyof typeof results];
  const given = (["exists", "number", "lease"] as const).filter((name) => json[name] !== undefined);
  if (optionalBytes(json, "value") !== undefined) given.push("value" as never);
  const wanted =
    json.target === "exists" || json.target === "value" || json.target === "lease" ? json.target : "number";
  if (given.length !== 1 || given[0] !== wanted) {
    throw new Problem(
      "bad-body",
      `A compare of ${json.target} takes ${wanted === "value" ? "value or value64" : wanted}, and nothing else to compare with.`,
    );
  }
  const compare = (target: Target, targetUnion: Compare["targetUnion"], how = result): Compare =>
    create(CompareSchema, { key, target, result: how, targetUnion });
  switch (json.target) {
    case "exists":
      if (json.is !== undefined) throw new Problem("bad-body", "A compare of exists takes no `is`.");
      return compare(
        Target.CREATE,
        { case: "createRevision", value: 0n },
        json.exists === true ? Result.GREATER : Result.EQUAL,
      );
    case "value":
      return compare(Target.VALUE, { case: "value", value: requiredBytes(json, "value") });
    case "lease":
      return compare(Target.LEASE, { case: "lease", value: int64(BigInt(`0x${json.lease!}`)) });
    case "version":
      return compare(Target.VERSION, { case: "version", value: int64(BigInt(json.number!)) });
    case "createRevision":
      return compare(Target.CREATE, { case: "createRevision", value: int64(BigInt(json.number!)) });
    default:
      return compare(Target.MOD, { case: "modRevision", value: int64(BigInt(json.number!)) });
  }
}

function int64(value: bigint): bigint {
  if (value > int64Max) throw new Problem("bad-body", `${value} does not fit into 63 bits.`);
  return value;
}

function operationOf(json: OperationJson, operationsMax: number): RequestOp {
  const op = (request: RequestOp["request"]): RequestOp => create(RequestOpSchema, { request });
  if (json.get !== undefined) {
    const { limit = 1_000, keysOnly = false } = json.get;
    const value = create(RangeRequestSchema, { ...boundsOf(json.get), limit: BigInt(limit), keysOnly });
    return op({ case: "requestRange", value });
  }
  if (json.put !== undefined) {
    const { lease, prev = false } = json.put;
    const value = create(PutRequestSchema, {
      key: requiredKey(json.put),
      value: requiredBytes(json.put, "value"),
      lease: lease === undefined ? 0n : int64(BigInt(`0x${lease}`)),
      prevKv: prev,
    });
    return op({ case: "requestPut", value });
  }
  if (json.delete !== undefined) {
    const value = create(DeleteRangeRequestSchema, {
      ...boundsOf(json.delete),
      prevKv: json.delete.prev ?? false,
    });
    return op({ case: "requestDeleteRange", value });
  }
  return op({ case: "requestTxn", value: txnOf(json.txn!, operationsMax) });
}

/** Throws at once for what the store would refuse for its size: thousands of operations take long to put together. */
function txnOf(json: TxnJson, operationsMax: number): TxnRequest {
  const { compare = [], then = [], else: otherwise = [] } = json;
  if (Math.max(compare.length, then.length, otherwise.length) > operationsMax) throw refuse("tooManyOps");
  return create(TxnRequestSchema, {
    compare: compare.map(compareOf),
    success: then.map((one) => operationOf(one, operationsMax)),
    failure: otherwise.map((one) => operationOf(one, operationsMax)),
  });
}

const listed = (kvs: readonly KeyValue[]): unknown[] => kvs.map(keyValueJson);

/** The answer beside the request that it answers: only there it says whether previous values were asked for. */
function resultOf(response: TxnResponse, request: TxnRequest): Record<string, unknown> {
  const branch = response.succeeded ? request.success : request.failure;
  return {
    succeeded: response.succeeded,
    results: response.responses.map(({ response: answer }, at) => oneResult(answer, branch[at]?.request)),
  };
}

function oneResult(
  answer: TxnResponse["responses"][number]["response"],
  asked: RequestOp["request"] | undefined,
): Record<string, unknown> {
  switch (answer.case) {
    case "responseRange":
      return {
        get: { keys: listed(answer.value.kvs), count: answer.value.count, more: answer.value.more },
      };
    case "responsePut": {
      const wanted = asked?.case === "requestPut" && asked.value.prevKv;
      const { prevKv } = answer.value;
      return { put: wanted ? { prev: prevKv === undefined ? null : keyValueJson(prevKv) } : {} };
    }
    case "responseDeleteRange": {
      const wanted = asked?.case === "requestDeleteRange" && asked.value.prevKv;
      return {
        delete: {
          deleted: answer.value.deleted,
          ...(wanted ? { prev: listed(answer.value.prevKvs) } : {}),
        },
      };
    }
    case "responseTxn":
      return {
        txn: resultOf(answer.value, asked?.case === "requestTxn" ? asked.value : create(TxnRequestSchema)),
      };
    default:
      return {};
  }
}

const revisionOf = ({ header }: TxnResponse): bigint => header?.revision ?? 0n;

/** The same text as of {@link resultOf} in pieces, none of them larger than a key with its value makes it. */
function* resultPieces(response: TxnResponse, request: TxnRequest, head: object): Generator<string> {
  yield `${jsonText({ ...head, succeeded: response.succeeded }).slice(0, -1)},"results":[`;
  const branch = response.succeeded ? request.success : request.failure;
  for (const [at, { response: answer }] of response.responses.entries()) {
    if (at > 0) yield ",";
    const asked = branch[at]?.request;
    if (answer.case === "responseRange") {
      const { kvs, count, more } = answer.value;
      yield '{"get":{"keys":[';
      yield* listPieces(kvs);
      yield `],${jsonText({ count, more }).slice(1)}}`;
    } else if (answer.case === "responseTxn" && asked?.case === "requestTxn") {
      yield '{"txn":';
      yield* resultPieces(answer.value, asked.value, {});
      yield "}";
    } else if (
      answer.case === "responseDeleteRange" &&
      asked?.case === "requestDeleteRange" &&
      asked.value.prevKv
    ) {
      yield `{"delete":{"deleted":"${answer.value.deleted}","prev":[`;
      yield* listPieces(answer.value.prevKvs);
      yield "]}}";
    } else yield jsonText(oneResult(answer, asked));
  }
  yield "]}";
}

function* listPieces(kvs: readonly KeyValue[]): Generator<string> {
  for (const [at, kv] of kvs.entries()) yield (at > 0 ? "," : "") + jsonText(keyValueJson(kv));
}

/** Megabytes of JSON, written with pauses and no faster than the client takes it. */
function largeAnswer(response: TxnResponse, request: TxnRequest): Answer {
  return {
    status: 200,
    headers: jsonHeaders,
    async body(writer) {
      let text = "";
      let sinceMs = performance.now();
      for (const piece of resultPieces(response, request, { revision: revisionOf(response) })) {
        text += piece;
        if (text.length < pieceCharacters) continue;
        if (!writer.write(text)) await writer.drained();
        text = "";
        if (writer.over) return;
        if (performance.now() - sinceMs < pieceMs) continue;
        await new Promise<void>((resolve) => setImmediate(resolve));
        sinceMs = performance.now();
      }
      writer.write(text);
    },
  };
}

export const txnOperations: readonly Operation[] = [
  operation({
    id: "transact",
    method: "POST",
    path: "/txn",
    tag: "transactions",
    summary: "Compare, then or else, as one change",
    description:
      "All compares, nested ones too, are looked at before anything runs; then one of the lists runs, in order and in one revision. No key may be " +
      "changed twice in it.",
    permission: "txn",
    write: "replicated",
    body: { kind: "json", schema: TxnShape },
    answers: {
      200: { description: "One of the lists ran.", content: [{ kind: "json", schema: ResultShape }] },
    },
    problems: ["bad-base64", "empty-key", "lease-not-found", "key-not-found", "no-space", "corrupt"],
    examples: [
      {
        summary: "Create a key unless it exists",
        target: "/txn",
        body: {
          compare: [{ key: "leader", target: "exists", exists: false }],
          then: [{ put: { key: "leader", value: "me" } }],
          else: [{ get: { key: "leader" } }],
        },
        status: 200,
      },
    ],
    async handle(request, { kv }) {
      const txn = txnOf(request.body as TxnJson, kv.txnOpsMax);
      const response = await kv.txnResponse(txn, request.call(KV.method.txn));
      if (isLargeTxn(response)) return largeAnswer(response, txn);
      return json(200, { revision: revisionOf(response), ...resultOf(response, txn) });
    },
  }),
];
