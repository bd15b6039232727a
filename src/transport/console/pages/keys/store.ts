/** Reads and guarded writes of keys, through the functions that every door calls. */
import { create } from "@bufbuild/protobuf";
import { emptyBytes, prefixRangeEnd } from "../../../../bytes";
import type { KeyValue } from "../../../../proto/gen/etcd/kv_pb";
import {
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  type Compare,
  CompareSchema,
  DeleteRangeRequestSchema,
  KV,
  PutRequestSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  type RequestOp,
  RequestOpSchema,
  type TxnResponse,
  TxnRequestSchema,
  TxnResponseSchema,
} from "../../../../proto/gen/etcd/rpc_pb";
import { decodeAnswer } from "../../../../service/backend";
import { RestCall } from "../../../rest/call";
import type { ConsoleServices } from "../../page";

/** A range as the store takes it. */
export interface Range {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
}

/** Keys with a prefix; all keys when it is empty. */
export function prefixRange(prefix: Uint8Array): Range {
  const start = prefix.length === 0 ? new Uint8Array(1) : prefix;
  return { key: start, rangeEnd: prefix.length === 0 ? new Uint8Array(1) : prefixRangeEnd(prefix) };
}

export interface Found {
  /** The store's revision when it answered. */
  readonly revision: number;
  readonly kv: KeyValue | undefined;
}

/** A key as this member holds it; confirm first that this is the newest, where it matters. */
export async function getKey({ kv }: ConsoleServices, key: Uint8Array, revision = 0): Promise<Found> {
  const request = create(RangeRequestSchema, { key, revision: BigInt(revision), serializable: true });
  const answer = decodeAnswer(
    RangeResponseSchema,
    await kv.range(request, new RestCall(KV.method.range, undefined)),
  );
  return { revision: Number(answer.header!.revision), kv: answer.kvs[0] };
}

/** How many keys a range holds at a revision. */
export async function countKeys({ kv }: ConsoleServices, range: Range, revision = 0): Promise<number> {
  const request = create(RangeRequestSchema, {
    ...range,
    countOnly: true,
    revision: BigInt(revision),
    serializable: true,
  });
  const answer = decodeAnswer(
    RangeResponseSchema,
    await kv.range(request, new RestCall(KV.method.range, undefined)),
  );
  return Number(answer.count);
}

/** The compare that holds while a key was last changed at this revision; 0: while it does not exist. */
export function unchanged(key: Uint8Array, modRevision: bigint): Compare {
  return create(CompareSchema, {
    key,
    target: Target.MOD,
    result: Result.EQUAL,
    targetUnion: { case: "modRevision", value: modRevision },
  });
}

/** The compare that holds while nothing in a range was written after a revision. Deletions do not break it. */
export function quietSince({ key, rangeEnd }: Range, revision: bigint): Compare {
  return create(CompareSchema, {
    key,
    rangeEnd,
    target: Target.MOD,
    result: Result.LESS,
    targetUnion: { case: "modRevision", value: revision + 1n },
  });
}

export function putOp(key: Uint8Array, value: Uint8Array, ignoreLease = false): RequestOp {
  return create(RequestOpSchema, {
    request: { case: "requestPut", value: create(PutRequestSchema, { key, value, ignoreLease }) },
  });
}

export function deleteOp({ key, rangeEnd }: Range): RequestOp {
  return create(RequestOpSchema, {
    request: { case: "requestDeleteRange", value: create(DeleteRangeRequestSchema, { key, rangeEnd }) },
  });
}

/** A key alone, as a range. */
export function oneKey(key: Uint8Array): Range {
  return { key, rangeEnd: emptyBytes };
}

/** Runs operations if all compares hold. Throws StoreErrors. */
export async function guarded(
  { kv }: ConsoleServices,
  compare: readonly Compare[],
  success: readonly RequestOp[],
): Promise<TxnResponse> {
  const request = create(TxnRequestSchema, { compare: [...compare], success: [...success] });
  return decodeAnswer(TxnResponseSchema, await kv.txn(request, new RestCall(KV.method.txn, undefined)));
}

/** Keys that only show when asked for, and keys that others rely on. */
export function kubernetesPart(key: Uint8Array): "secret" | "registry" | undefined {
  const text = Buffer.from(key.subarray(0, 64)).toString("latin1");
  if (text.startsWith("/registry/secrets/")) return "secret";
  return text.startsWith("/registry/") ? "registry" : undefined;
}
