/**
 * What locks and elections share: a queue of keys under a prefix, ordered by create revision, each bound to a
 * lease. Whoever has the lowest create revision is first (etcd-wire section 9).
 */
import { create } from "@bufbuild/protobuf";
import { prefixRangeEnd } from "../bytes";
import { GrpcCode, StoreError } from "../errors";
import { hexId, type LeaseId } from "../ids";
import type { KeyValue } from "../proto/gen/etcd/kv_pb";
import type { RangeRequest, RangeResponse, RequestOp, TxnResponse } from "../proto/gen/etcd/rpc_pb";
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  CompareSchema,
  DeleteRangeRequestSchema,
  LeaseGrantRequestSchema,
  LeaseGrantResponseSchema,
  PutRequestSchema,
  RangeRequest_SortOrder as SortOrder,
  RangeRequest_SortTarget as SortTarget,
  RangeRequestSchema,
  RangeResponseSchema,
  RequestOpSchema,
  TxnRequestSchema,
  TxnResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { Call } from "../transport/call";
import type { KvBackend, WatchBackend } from "./backend";
import { decodeAnswer } from "./backend";
import { InternalWatch, Lifeline } from "./internal-watch";

/** The lease that the server makes for a caller without one; nobody renews it. */
const sessionTtlSeconds = 60n;

/** What a caller may want to try again, or asked for itself. */
const passedOn: ReadonlySet<GrpcCode> = new Set<GrpcCode>([
  GrpcCode.unavailable,
  GrpcCode.canceled,
  GrpcCode.deadlineExceeded,
]);

/** An error of these services: etcd gives them all code Unknown. */
export function programError(text: string): StoreError {
  return new StoreError(GrpcCode.unknown, text);
}

/**
 * Runs a call of these services, whose inner refusals reach the client with etcd's text but code Unknown: its
 * programs pass errors on without their code. Codes that tell a caller to try elsewhere stay.
 */
export async function runProgram<Result>(
  call: Call,
  watch: WatchBackend,
  program: (lifeline: Lifeline) => Promise<Result>,
): Promise<Result> {
  const lifeline = new Lifeline(call, watch);
  try {
    return await program(lifeline);
  } catch (error) {
    if (error instanceof StoreError && !passedOn.has(error.code)) {
      throw new StoreError(GrpcCode.unknown, error.message, error.definite);
    }
    throw error;
  } finally {
    lifeline.release();
  }
}

/** A place in the queue. */
export interface Place {
  readonly key: Uint8Array;
  /** The fencing number: it grows from holder to holder. */
  readonly createRevision: bigint;
}

/** The key prefix of a lock or an election. */
export function queuePrefix(name: Uint8Array): Uint8Array {
  return Buffer.concat([name, Buffer.from("/")]);
}

/** The key of one participant. */
export function placeKey(name: Uint8Array, lease: LeaseId): Uint8Array {
  return Buffer.concat([name, Buffer.from(`/${hexId(lease)}`)]);
}

/** The caller's lease, or a new one of 60 s. */
export async function sessionLease(kv: KvBackend, lease: LeaseId, call: Call): Promise<LeaseId> {
  if (lease !== 0n) return lease;
  const request = create(LeaseGrantRequestSchema, { TTL: sessionTtlSeconds });
  return decodeAnswer(LeaseGrantResponseSchema, await kv.leaseGrant(request, call)).ID;
}

/** The oldest key of a queue: its holder. */
export function oldestRequest(prefix: Uint8Array): RangeRequest {
  return create(RangeRequestSchema, {
    key: prefix,
    rangeEnd: prefixRangeEnd(prefix),
    limit: 1n,
    sortOrder: SortOrder.ASCEND,
    sortTarget: SortTarget.CREATE,
  });
}

export async function range(kv: KvBackend, request: RangeRequest, call: Call): Promise<RangeResponse> {
  return decodeAnswer(RangeResponseSchema, await kv.range(request, call));
}

/** A transaction guarded by the create revision of one key; 0 means that the key is absent. */
export async function guarded(
  kv: KvBackend,
  place: Place,
  then: readonly RequestOp[],
  otherwise: readonly RequestOp[],
  call: Call,
): Promise<TxnResponse> {
  const compare = create(CompareSchema, {
    key: place.key,
    result: Compare_CompareResult.EQUAL,
    target: Compare_CompareTarget.CREATE,
    targetUnion: { case: "createRevision", value: place.createRevision },
  });
  const request = create(TxnRequestSchema, {
    compare: [compare],
    success: [...then],
    failure: [...otherwise],
  });
  return decodeAnswer(TxnResponseSchema, await kv.txn(request, call));
}

export function putOp(key: Uint8Array, value: Uint8Array, lease: LeaseId): RequestOp {
  const put = create(PutRequestSchema, { key, value, lease });
  return create(RequestOpSchema, { request: { case: "requestPut", value: put } });
}

export function rangeOp(request: RangeRequest): RequestOp {
  return create(RequestOpSchema, { request: { case: "requestRange", value: request } });
}

export function keyRequest(key: Uint8Array): RangeRequest {
  return create(RangeRequestSchema, { key });
}

/** The records that a range inside a transaction found. */
export function foundBy(response: TxnResponse, index: number): readonly KeyValue[] {
  const answer = response.responses[index]?.response;
  return answer?.case === "responseRange" ? answer.value.kvs : [];
}

/** Gives a place up, if it is still the same; the answer tells the revision. */
export async function leave(kv: KvBackend, place: Place, call: Call): Promise<TxnResponse> {
  const remove = create(DeleteRangeRequestSchema, { key: place.key });
  const op = create(RequestOpSchema, { request: { case: "requestDeleteRange", value: remove } });
  return guarded(kv, place, [op], [], call);
}

/** Gives a place up after the caller is gone. False when that failed: then it ends with the lease. */
export async function leaveQuietly(kv: KvBackend, place: Place, call: Call): Promise<boolean> {
  const detached: Call = {
    method: call.method,
    door: "internal",
    metadata: (name) => call.metadata(name),
    deadlineAtMs: undefined,
    canceled: false,
    onCancel: () => {},
  };
  try {
    await leave(kv, place, detached);
    return true;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return false;
  }
}

/**
 * Waits until every older key under the prefix is gone, the newest of them first, so that each departure wakes
 * one waiter. Answers the read that showed the own place still there, or undefined when it went (its lease ended
 * while waiting), which is noticed at once.
 */
export async function waitForTurn(
  kv: KvBackend,
  watch: WatchBackend,
  prefix: Uint8Array,
  place: Place,
  call: Call,
  lifeline: Lifeline,
): Promise<RangeResponse | undefined> {
  const olderRequest = create(RangeRequestSchema, {
    key: prefix,
    rangeEnd: prefixRangeEnd(prefix),
    limit: 1n,
    sortOrder: SortOrder.DESCEND,
    sortTarget: SortTarget.CREATE,
    maxCreateRevision: place.createRevision - 1n,
  });
  for (;;) {
    lifeline.check();
    const older = await range(kv, olderRequest, call);
    const predecessor = older.kvs[0];
    if (predecessor === undefined) break;
    if (!(await waitUntilGone(watch, predecessor.key, place.key, older.header!.revision, lifeline))) break;
  }
  lifeline.check();
  const own = await range(kv, keyRequest(place.key), call);
  lifeline.check();
  return own.kvs[0]?.createRevision === place.createRevision ? own : undefined;
}

/** Waits for a delete of the predecessor (true) or of the own key (false) after a revision. */
async function waitUntilGone(
  backend: WatchBackend,
  predecessor: Uint8Array,
  own: Uint8Array,
  revision: bigint,
  lifeline: Lifeline,
): Promise<boolean> {
  const watch = new InternalWatch(backend, lifeline);
  try {
    watch.watch(1n, { key: predecessor }, revision + 1n, "deletes");
    watch.watch(2n, { key: own }, revision + 1n, "deletes");
    const response = await watch.next();
    // A cancel means that history is gone already: look again.
    return response.canceled || response.watchId === 1n;
  } finally {
    watch.close();
  }
}
