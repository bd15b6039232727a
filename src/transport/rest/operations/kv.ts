/** One key at a time: values are raw bodies, conditions are entity tags. */
import { create } from "@bufbuild/protobuf";
import { Type } from "@sinclair/typebox";
import { emptyBytes } from "../../../bytes";
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
  TxnResponseSchema,
  type TxnResponse,
} from "../../../proto/gen/etcd/rpc_pb";
import type { KeyParts } from "../../../service/kv";
import { decodeAnswer } from "../../../service/backend";
import { type Answer, json, jsonHeaders, jsonText } from "../answer";
import { entityTag, matches, type TagList, tagList } from "../etag";
import { keyHeaders, keyValueJson, metadataJson } from "../key-json";
import { operation, type Operation, rawOperation, type RestRequest, type TailParameter } from "../operation";
import { decimal, flag, hexId } from "../parameters";
import { Problem } from "../problem";
import { Decimal, KeyValueShape, strict } from "../schemas";
import type { RestServices } from "../services";
import { revisionOf, timeParameter, timeText } from "../times";
import { keyOfPath, keyOfPath64 } from "../target";

const plainKey: TailParameter = {
  name: "key",
  description:
    "Everything behind /kv/, decoded once to bytes: slashes may be literal or %2F, a plus is a plus, doubled and " +
    "trailing slashes count. Dot segments cannot be said this way: use /kv64.",
  example: "greeting",
  read: keyOfPath,
};
const codedKey: TailParameter = {
  name: "key",
  description: "The key in base64url, padded or not: this way every key can be said.",
  example: "Z3JlZXRpbmc",
  read: keyOfPath64,
};

const conditionHeaders = {
  "If-Match": {
    description: "Only when the key's present ETag is listed; * means: only when the key exists.",
    example: "*",
  },
  "If-None-Match": {
    description: "Only when the key's present ETag is not listed; * means: only when the key does not exist.",
  },
} as const;

const metadataHeaders = {
  ETag: { description: "The quoted mod revision of the key.", example: '"42"' },
  "Keelson-Revision": { description: "The revision of the store when it answered." },
  "Keelson-Mod-Revision": { description: "The revision that last changed the key." },
  "Keelson-Create-Revision": { description: "The revision that created the key." },
  "Keelson-Version": { description: "Puts since the key was created." },
  "Keelson-Time": { description: "When the key was last changed, to a second, if that is still known." },
  "Keelson-Lease": { description: "The lease that the key is attached to, if any." },
} as const;

const PutShape = strict({
  revision: Decimal,
  created: Type.Boolean(),
  version: Decimal,
  prev: Type.Optional(Type.Union([KeyValueShape, Type.Null()])),
});
const DeleteShape = strict({
  revision: Decimal,
  deleted: Decimal,
  prev: Type.Optional(Type.Union([KeyValueShape, Type.Null()])),
});

interface Conditions {
  readonly ifMatch: TagList | undefined;
  readonly ifNoneMatch: TagList | undefined;
}

function conditionsOf(request: { header(name: string): string | undefined }): Conditions {
  return {
    ifMatch: tagList(request.header("if-match"), "If-Match"),
    ifNoneMatch: tagList(request.header("if-none-match"), "If-None-Match"),
  };
}

function compareOf(
  key: Uint8Array,
  target: Target.CREATE | Target.MOD,
  result: Result,
  revision: bigint,
): Compare {
  return create(CompareSchema, {
    key,
    target,
    result,
    targetUnion:
      target === Target.CREATE
        ? { case: "createRevision", value: revision }
        : { case: "modRevision", value: revision },
  });
}

const metadataOnly = (key: Uint8Array): RequestOp =>
  create(RequestOpSchema, {
    request: { case: "requestRange", value: create(RangeRequestSchema, { key, keysOnly: true }) },
  });

/**
 * A txn that runs `then` under the conditions, and answers with the key's metadata: as the last answer either way.
 * Listed tags of If-Match are alternatives, which a txn can only say by nesting.
 */
function guarded(
  key: Uint8Array,
  { ifMatch, ifNoneMatch }: Conditions,
  then: readonly RequestOp[],
): TxnRequest {
  const always: Compare[] = [];
  if (ifNoneMatch === "*") always.push(compareOf(key, Target.CREATE, Result.EQUAL, 0n));
  else for (const tag of ifNoneMatch ?? []) always.push(compareOf(key, Target.MOD, Result.NOT_EQUAL, tag));
  if (ifMatch === "*") always.push(compareOf(key, Target.CREATE, Result.GREATER, 0n));
  const success = [...then, metadataOnly(key)];
  const failure = [metadataOnly(key)];
  if (ifMatch === undefined || ifMatch === "*") {
    return create(TxnRequestSchema, { compare: always, success, failure });
  }
  // No tag that could match: the condition fails whatever the key is.
  const [first, ...rest] = ifMatch.length > 0 ? ifMatch : [-1n];
  let txn = create(TxnRequestSchema, {
    compare: [...always, compareOf(key, Target.MOD, Result.EQUAL, first!)],
    success,
    failure,
  });
  for (const tag of rest) {
    txn = create(TxnRequestSchema, {
      compare: [...always, compareOf(key, Target.MOD, Result.EQUAL, tag)],
      success,
      failure: [create(RequestOpSchema, { request: { case: "requestTxn", value: txn } })],
    });
  }
  return txn;
}

/** What a guarded txn did: the answers of the branch that ran, and the key afterwards. */
interface Outcome {
  readonly succeeded: boolean;
  readonly revision: bigint;
  readonly responses: TxnResponse["responses"];
  readonly after: KeyValue | undefined;
}

function outcomeOf(response: TxnResponse): Outcome {
  const revision = response.header?.revision ?? 0n;
  let inner = response;
  for (;;) {
    const last = inner.responses.at(-1)?.response;
    if (last?.case === "responseTxn") {
      inner = last.value;
      continue;
    }
    const after = last?.case === "responseRange" ? last.value.kvs[0] : undefined;
    return { succeeded: inner.succeeded, revision, responses: inner.responses, after };
  }
}

/** The condition did not hold: the client is told what the key is now, but never its value. */
function preconditionFailed(revision: bigint, kv: KeyParts | undefined): Problem {
  const detail =
    kv === undefined
      ? "The key does not exist."
      : `The key is at revision ${kv.modRevision}, which the condition rules out.`;
  return new Problem("precondition-failed", detail, {
    more: { current: kv === undefined ? null : metadataJson(kv) },
    headers: kv === undefined ? { "keelson-revision": String(revision) } : keyHeaders(revision, kv),
  });
}

const valueHeaders = {
  "content-type": "application/octet-stream",
  "cache-control": "no-cache",
  // A value is data, whatever a browser takes it for.
  "x-content-type-options": "nosniff",
} as const;

async function get(
  request: RestRequest<unknown, { revision: bigint; time: number; serializable: boolean }, unknown>,
  services: RestServices,
): Promise<Answer> {
  const conditions = conditionsOf(request);
  const answer = await services.kv.getKey(
    create(RangeRequestSchema, {
      key: request.tail,
      revision: await revisionOf(request.query, services),
      serializable: request.query.serializable ?? false,
    }),
  );
  const revision = BigInt(answer.revision);
  const found = answer.kv;
  const { ifMatch, ifNoneMatch } = conditions;
  if (ifMatch !== undefined && !matches(ifMatch, found?.modRevision))
    throw preconditionFailed(revision, found);
  if (found === undefined) {
    throw new Problem("key-not-found", "The key does not exist at that revision.", {
      headers: { "keelson-revision": String(revision) },
    });
  }
  const headers = keyHeaders(revision, found);
  const time = timeText(found.modRevision, services);
  if (time !== undefined) headers["keelson-time"] = time;
  if (ifNoneMatch !== undefined && matches(ifNoneMatch, found.modRevision)) {
    return { status: 304, headers: { ...headers, "cache-control": "no-cache" } };
  }
  return { status: 200, headers: { ...valueHeaders, ...headers }, body: found.value };
}

interface PutQuery {
  lease: bigint;
  ignoreLease: boolean;
  prev: boolean;
}

async function put(
  request: RestRequest<unknown, PutQuery, Uint8Array>,
  { kv }: RestServices,
): Promise<Answer> {
  const { lease = 0n, ignoreLease = false, prev = false } = request.query;
  const conditions = conditionsOf(request);
  const conditional = conditions.ifMatch !== undefined || conditions.ifNoneMatch !== undefined;
  const key = request.tail;
  const message = create(PutRequestSchema, { key, value: request.body, lease, ignoreLease, prevKv: prev });
  if (!conditional && !ignoreLease && !prev) {
    const { revision, version } = await kv.putVersion(message, request.call(KV.method.put));
    // The put made this revision, so that is the key's; created it was when this is its first version.
    const headers: Record<string, string> = {
      ...jsonHeaders,
      etag: entityTag(BigInt(revision)),
      "keelson-revision": String(revision),
      "keelson-mod-revision": String(revision),
      "keelson-version": String(version),
    };
    if (version === 1) headers["keelson-create-revision"] = String(revision);
    if (lease !== 0n) headers["keelson-lease"] = lease.toString(16).padStart(16, "0");
    const body = `{"revision":"${revision}","created":${version === 1},"version":"${version}"}`;
    return { status: version === 1 ? 201 : 200, headers, body };
  }
  const op = create(RequestOpSchema, { request: { case: "requestPut", value: message } });
  const answer = await kv.txn(guarded(key, conditions, [op]), request.call(KV.method.txn));
  const txn = decodeAnswer(TxnResponseSchema, answer);
  const { succeeded, revision, responses, after } = outcomeOf(txn);
  if (!succeeded || after === undefined) throw preconditionFailed(revision, after);
  const first = responses[0]?.response;
  const previous = first?.case === "responsePut" ? first.value.prevKv : undefined;
  const created = after.version === 1n;
  return json(
    created ? 201 : 200,
    {
      revision,
      created,
      version: after.version,
      ...(prev ? { prev: previous === undefined ? null : keyValueJson(previous) } : {}),
    },
    keyHeaders(revision, after),
  );
}

async function remove(
  request: RestRequest<unknown, { prev: boolean }, unknown>,
  { kv }: RestServices,
): Promise<Answer> {
  const { prev = false } = request.query;
  const key = request.tail;
  const message = create(DeleteRangeRequestSchema, { key, prevKv: prev });
  const op = create(RequestOpSchema, { request: { case: "requestDeleteRange", value: message } });
  const conditions = conditionsOf(request);
  const answer = await kv.txn(guarded(key, conditions, [op]), request.call(KV.method.txn));
  const txn = decodeAnswer(TxnResponseSchema, answer);
  const { succeeded, revision, responses, after } = outcomeOf(txn);
  if (!succeeded) throw preconditionFailed(revision, after);
  const first = responses[0]?.response;
  const { deleted = 0n, prevKvs = [] } = first?.case === "responseDeleteRange" ? first.value : {};
  const previous = prevKvs[0];
  return {
    status: 200,
    headers: { ...jsonHeaders, "keelson-revision": String(revision) },
    body: jsonText({
      revision,
      deleted,
      ...(prev ? { prev: previous === undefined ? null : keyValueJson(previous) } : {}),
    }),
  };
}

function operationsAt(path: string, tail: TailParameter, suffix: string, example: string): Operation[] {
  return [
    operation({
      id: `getKey${suffix}`,
      method: "GET",
      path,
      tag: "keys",
      summary: "Read a key",
      description:
        "The value is the body. Reads see every write acknowledged before them, unless serializable.",
      permission: "read",
      learner: "serializable",
      write: "no",
      tail,
      query: {
        revision: decimal("Read as of this revision.", 1n),
        time: timeParameter,
        serializable: flag("Answer from this member's own state, which may be a little behind."),
      },
      headers: conditionHeaders,
      answers: {
        200: {
          description: "The value.",
          headers: metadataHeaders,
          content: [
            { kind: "raw", mediaType: "application/octet-stream", description: "The value as it is." },
          ],
        },
        304: { description: "The key still has a listed ETag.", headers: metadataHeaders },
      },
      problems: ["bad-parameter", "key-not-found", "precondition-failed", "compacted"],
      examples: [
        {
          summary: "Read a key",
          target: `${path.slice(0, path.indexOf("{"))}${example}`,
          status: 200,
          after: [`putKey${suffix}`],
        },
      ],
      handle: get,
    }),
    rawOperation({
      id: `putKey${suffix}`,
      method: "PUT",
      path,
      tag: "keys",
      summary: "Write a key",
      description: "The body, whatever its type, is the value.",
      permission: "write",
      write: "replicated",
      tail,
      query: {
        lease: hexId("Attach the key to this lease.", 63),
        ignoreLease: flag("Keep the lease that the key has; the key must exist."),
        prev: flag("Answer with the key as it was before."),
      },
      headers: conditionHeaders,
      body: { kind: "raw", description: "The value.", mayBeEmpty: true },
      answers: {
        200: {
          description: "The key existed and has this value now.",
          headers: metadataHeaders,
          content: [{ kind: "json", schema: PutShape }],
        },
        201: {
          description: "The key was created.",
          headers: metadataHeaders,
          content: [{ kind: "json", schema: PutShape }],
        },
      },
      problems: [
        "bad-parameter",
        "precondition-failed",
        "lease-not-found",
        "key-not-found",
        "no-space",
        "corrupt",
      ],
      examples: [
        {
          summary: "Write a key",
          target: `${path.slice(0, path.indexOf("{"))}${example}`,
          body: "hello",
          status: 201,
        },
      ],
      handle: put,
    }),
    operation({
      id: `deleteKey${suffix}`,
      method: "DELETE",
      path,
      tag: "keys",
      summary: "Delete a key",
      description: "Deleting a key that does not exist is fine: `deleted` is then 0.",
      permission: "write",
      write: "replicated",
      tail,
      query: { prev: flag("Answer with the key as it was before.") },
      headers: conditionHeaders,
      answers: {
        200: {
          description: "The key is gone.",
          headers: { "Keelson-Revision": metadataHeaders["Keelson-Revision"] },
          content: [{ kind: "json", schema: DeleteShape }],
        },
      },
      problems: ["bad-parameter", "precondition-failed", "corrupt"],
      examples: [
        {
          summary: "Delete a key",
          target: `${path.slice(0, path.indexOf("{"))}${example}`,
          status: 200,
          after: [`putKey${suffix}`],
        },
      ],
      handle: remove,
    }),
  ];
}

export const kvOperations: readonly Operation[] = [
  ...operationsAt("/kv/{key}", plainKey, "", "greeting"),
  ...operationsAt("/kv64/{key}", codedKey, "64", "Z3JlZXRpbmc"),
];

export { codedKey, emptyBytes, plainKey };
