/** One committed command and what it does: a result at once, or steps when it may take several slices. */
import { toBinaryString } from "../bytes";
import type { RefusalName } from "../errors";
import type { Term } from "../ids";
import { leaseTtlSecondsMax } from "../limits";
import {
  AlarmType,
  type CompactionRequest,
  type LeaseCheckpointRequest,
  type LeaseGrantRequest,
  type PutRequest,
  type RequestOp,
  type TxnRequest,
} from "../proto/gen/etcd/rpc_pb";
import type { Command, LeaseRevoke } from "../proto/gen/keelson/command_pb";
import type { ClusterTable } from "./cluster-table";
import type { KeptResults } from "./kept-results";
import type { LeaseTable } from "./lease/lease-table";
import { keyRange } from "./mvcc/key-range";
import { SortedRuns } from "./mvcc/sorted-runs";
import type { MvccStore } from "./mvcc/store";
import type { ApplyResult } from "./results";
import type { TimeMarks } from "./time-marks";
import { deleteRange, resolvePut, type Slice, spend, type Steps, TxnRun } from "./txn";

/** The newest command envelope that this build understands. */
export const commandVersion = 1;

/** An entry that this build cannot apply; going on would make members differ. */
export class UnknownCommandError extends Error {
  override readonly name = "UnknownCommandError";
}

export interface ApplyContext {
  readonly store: MvccStore;
  readonly leases: LeaseTable;
  readonly cluster: ClusterTable;
  readonly kept: KeptResults;
  readonly times: TimeMarks;
  readonly slice: Slice;
}

/** Applies a command; one under an idempotency key at most once, see `kept-results.ts`. */
export function applyCommand(
  context: ApplyContext,
  term: Term,
  command: Command,
): ApplyResult | Steps<ApplyResult> {
  if (command.idempotencyKey.length === 0) return applyOperation(context, term, command);
  const { kept, times, store } = context;
  const nowMs = kept.timeAt(command, times.lastMs);
  const known = kept.find(command, nowMs);
  if (typeof known === "string") return refused(store, known);
  return known ?? applyAndKeep(context, term, command, nowMs);
}

function* applyAndKeep(
  context: ApplyContext,
  term: Term,
  command: Command,
  nowMs: number,
): Steps<ApplyResult> {
  const outcome = applyOperation(context, term, command);
  const result = "kind" in outcome ? outcome : yield* outcome;
  context.kept.keep(command, nowMs, result);
  return result;
}

function applyOperation(
  context: ApplyContext,
  term: Term,
  command: Command,
): ApplyResult | Steps<ApplyResult> {
  const { operation } = command;
  if (command.version > commandVersion || operation.case === undefined) {
    throw new UnknownCommandError(
      `the log holds a command of version ${command.version} that this build (version ${commandVersion}) does not ` +
        "know; start a newer Keelson on this data directory",
    );
  }
  const { store, leases, cluster } = context;
  const forbidden = forbiddenBy(cluster, operation);
  if (forbidden !== undefined) return refused(store, forbidden);
  switch (operation.case) {
    case "put":
      return put(store, operation.value);
    case "deleteRange": {
      const { key, rangeEnd, prevKv } = operation.value;
      return plainDelete(context, key, rangeEnd, prevKv);
    }
    case "txn":
      return txn(context, operation.value);
    case "compaction":
      return compact(store, operation.value);
    case "leaseGrant":
      return grant(store, leases, operation.value);
    case "leaseRevoke":
      return revoke(context, term, operation.value);
    case "leaseCheckpoint":
      return checkpoint(store, leases, operation.value);
    case "alarm":
      return { kind: "alarm", revision: store.revision, alarms: cluster.alarm(operation.value) };
    case "publishMember":
      cluster.publish(operation.value);
      return { kind: "publish", revision: store.revision, memberId: operation.value.memberId };
    case "updateMember": {
      const refusal = cluster.update(operation.value);
      if (refusal !== undefined) return refused(store, refusal);
      return { kind: "member-update", revision: store.revision, memberId: operation.value.memberId };
    }
    case "clusterVersion":
      cluster.setVersion(operation.value.version);
      return { kind: "cluster-version", revision: store.revision, version: operation.value.version };
  }
}

function refused(store: MvccStore, name: RefusalName): ApplyResult {
  return { kind: "refused", name, revision: store.revision };
}

/** What alarms forbid, for all members alike (etcd-wire 8.2, 8.9). */
function forbiddenBy(cluster: ClusterTable, operation: Command["operation"]): RefusalName | undefined {
  switch (operation.case) {
    case "put":
    case "leaseGrant":
      if (cluster.isRaised(AlarmType.CORRUPT)) return "corrupt";
      return cluster.isRaised(AlarmType.NOSPACE) ? "noSpace" : undefined;
    case "txn":
      if (cluster.isRaised(AlarmType.CORRUPT)) return "corrupt";
      return cluster.isRaised(AlarmType.NOSPACE) && puts(operation.value) ? "noSpace" : undefined;
    case "deleteRange":
    case "compaction":
    case "leaseRevoke":
      return cluster.isRaised(AlarmType.CORRUPT) ? "corrupt" : undefined;
    default:
      return undefined;
  }
}

/** Whether any branch of a txn, nested ones too, puts something. */
function puts({ success, failure }: TxnRequest): boolean {
  const put = ({ request }: RequestOp): boolean =>
    request.case === "requestPut" || (request.case === "requestTxn" && puts(request.value));
  return success.some(put) || failure.some(put);
}

function put(store: MvccStore, request: PutRequest): ApplyResult {
  const key = toBinaryString(request.key);
  const resolved = resolvePut(store, request, key);
  if (resolved.refused !== undefined) return refused(store, resolved.refused);
  const version = store.put(key, request.key, resolved.value, resolved.lease);
  return { kind: "put", revision: store.writingRevision, version, previous: resolved.previous };
}

function* plainDelete(
  { store, slice }: ApplyContext,
  key: Uint8Array,
  rangeEnd: Uint8Array,
  withPrevious: boolean,
): Steps<ApplyResult> {
  const outcome = yield* deleteRange(store, keyRange(key, rangeEnd), withPrevious, slice);
  return { kind: "delete-range", revision: store.writingRevision, ...outcome };
}

function* txn({ store, slice }: ApplyContext, request: TxnRequest): Steps<ApplyResult> {
  const outcome = yield* new TxnRun(store, request, store.revision, slice, "write").run();
  if (outcome.refused !== undefined) return refused(store, outcome.refused);
  return { kind: "txn", revision: store.writingRevision, response: outcome.response };
}

/** Reads below the revision are refused from now on; rows go later, in steps. */
function compact(store: MvccStore, { revision: asked }: CompactionRequest): ApplyResult {
  if (asked <= BigInt(store.compactedRevision)) return refused(store, "compacted");
  if (asked > BigInt(store.revision)) return refused(store, "futureRev");
  const compactedRevision = Number(asked);
  store.journal.write(0);
  store.journal.position.compactedRevision = compactedRevision;
  return { kind: "compaction", revision: store.revision, compactedRevision };
}

/** The TTL was raised to the minimum, and an id chosen, by whoever proposed: both depend on configuration. */
function grant(store: MvccStore, leases: LeaseTable, { ID: id, TTL: ttl }: LeaseGrantRequest): ApplyResult {
  if (id === 0n) return refused(store, "leaseNotFound");
  if (ttl > BigInt(leaseTtlSecondsMax)) return refused(store, "leaseTTLTooLarge");
  if (leases.get(id) !== undefined) return refused(store, "leaseExist");
  const ttlSeconds = Math.max(1, Number(ttl));
  leases.grant(id, ttlSeconds);
  return { kind: "lease-grant", revision: store.revision, id, ttlSeconds };
}

/** Removes a lease and deletes its keys, in key order and in one revision. There may be a million of them. */
function* revoke(context: ApplyContext, term: Term, { id, expiredInTerm }: LeaseRevoke): Steps<ApplyResult> {
  const { store, leases, slice } = context;
  if (expiredInTerm !== 0n && expiredInTerm !== BigInt(term)) {
    return { kind: "lease-revoke", revision: store.revision, id, ignored: true, deleted: 0 };
  }
  const lease = leases.get(id);
  if (lease === undefined) return refused(store, "leaseNotFound");
  const deleted = lease.keys.size;
  const { keys, sorted } = yield* inKeyOrder(lease.keys, slice);
  for (let left = deleted; left > 0;) {
    const places = sorted.take(Math.min(slice.keys, left));
    for (const place of places) store.delete(keys[place]!);
    left -= places.length;
    yield* spend(slice, places.length);
  }
  leases.remove(lease);
  return { kind: "lease-revoke", revision: store.writingRevision, id, ignored: false, deleted };
}

/** Sorts many keys, a slice at a time: their places in `keys` come out in order. */
function* inKeyOrder(
  unordered: Iterable<string>,
  slice: Slice,
): Steps<{ readonly keys: readonly string[]; readonly sorted: SortedRuns }> {
  const keys = [...unordered];
  const sorted = new SortedRuns(false);
  for (let from = 0; from < keys.length; from += slice.keys) {
    const part = keys.slice(from, from + slice.keys);
    sorted.add(part.map((rank, at) => ({ sequence: from + at, position: from + at, rank })));
    // Sorting a key costs a fraction of deleting it.
    yield* spend(slice, Math.ceil(part.length / 4));
  }
  return { keys, sorted };
}

/** Stores what remains of leases, so that a new leader need not start them afresh; 0 means the granted TTL. */
function checkpoint(
  store: MvccStore,
  leases: LeaseTable,
  { checkpoints }: LeaseCheckpointRequest,
): ApplyResult {
  for (const { ID: id, remainingTTL: remaining } of checkpoints) {
    const lease = leases.get(id);
    if (lease === undefined) continue;
    leases.checkpoint(lease, remaining > 0n ? Number(remaining) : lease.grantedTtlSeconds);
  }
  return { kind: "lease-checkpoint", revision: store.revision };
}
