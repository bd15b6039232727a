/** The checks that etcd makes before a request may reach the log; each throws the refusal (etcd-wire 5.1, 8.2–8.4). */
import { toBinaryString } from "../bytes";
import { refuse } from "../errors";
import {
  type Compare,
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  type RequestOp,
  type TxnRequest,
} from "../proto/gen/etcd/rpc_pb";
import { KeyRanges } from "./mvcc/key-ranges";

/** Throws `emptyKey` or `invalidSortOption`. */
export function checkRange(request: RangeRequest): void {
  if (request.key.length === 0) throw refuse("emptyKey");
  if (
    RangeRequest_SortOrder[request.sortOrder] === undefined ||
    RangeRequest_SortTarget[request.sortTarget] === undefined
  ) {
    throw refuse("invalidSortOption");
  }
}

/** Throws `emptyKey`, `valueProvided` or `leaseProvided`. */
export function checkPut(request: PutRequest): void {
  if (request.key.length === 0) throw refuse("emptyKey");
  if (request.ignoreValue && request.value.length > 0) throw refuse("valueProvided");
  if (request.ignoreLease && request.lease !== 0n) throw refuse("leaseProvided");
}

/** Throws `emptyKey`. */
export function checkDeleteRange(request: DeleteRangeRequest): void {
  if (request.key.length === 0) throw refuse("emptyKey");
}

/**
 * Throws `tooManyOps`, `duplicateKey`, or what a part of the txn is refused for. `txnOpsMax` bounds each list of
 * the txn; what the longest one leaves is the bound for txns nested inside.
 */
export function checkTxn(request: TxnRequest, txnOpsMax: number): void {
  checkShape(request, txnOpsMax);
  // Only one of the two outermost branches runs, so they may touch the same keys.
  touchedBy(request.success);
  touchedBy(request.failure);
}

function checkShape(request: TxnRequest, opsMax: number): void {
  const longest = Math.max(request.compare.length, request.success.length, request.failure.length);
  if (longest > opsMax) throw refuse("tooManyOps");
  for (const compare of request.compare) checkCompare(compare);
  for (const op of request.success) checkOp(op, opsMax - longest);
  for (const op of request.failure) checkOp(op, opsMax - longest);
}

function checkCompare(compare: Compare): void {
  if (compare.key.length === 0) throw refuse("emptyKey");
}

function checkOp({ request }: RequestOp, opsMax: number): void {
  switch (request.case) {
    case "requestRange":
      return checkRange(request.value);
    case "requestPut":
      return checkPut(request.value);
    case "requestDeleteRange":
      return checkDeleteRange(request.value);
    case "requestTxn":
      return checkShape(request.value, opsMax);
    default:
      throw refuse("keyNotFound");
  }
}

interface Touched {
  readonly puts: Set<string>;
  readonly deletes: KeyRanges;
}

/**
 * The keys that a list of ops may put and delete, refusing those that one txn must not touch twice. Like etcd, a
 * delete "to the end" (range_end of one zero byte) is taken literally here, as a range that holds nothing: such
 * txns run in order on etcd, and apply copes with what they do (`Overlay` in txn.ts).
 */
function touchedBy(ops: readonly RequestOp[]): Touched {
  const deletes = new KeyRanges();
  const puts = new Set<string>();
  for (const { request } of ops) {
    if (request.case !== "requestDeleteRange") continue;
    const low = toBinaryString(request.value.key);
    const { rangeEnd } = request.value;
    deletes.add(low, rangeEnd.length === 0 ? `${low}\0` : toBinaryString(rangeEnd));
  }
  for (const { request } of ops) {
    if (request.case !== "requestTxn") continue;
    const success = touchedBy(request.value.success);
    const failure = touchedBy(request.value.failure);
    for (const key of success.puts) addPut(key, puts, deletes);
    for (const key of failure.puts) {
      // Only one branch of a nested txn runs, so its branches may share a key.
      if (puts.has(key) && success.puts.has(key)) refuseDeleted(key, deletes);
      else addPut(key, puts, deletes);
    }
    deletes.addAll(success.deletes);
    deletes.addAll(failure.deletes);
  }
  for (const { request } of ops) {
    if (request.case === "requestPut") addPut(toBinaryString(request.value.key), puts, deletes);
  }
  return { puts, deletes };
}

function addPut(key: string, puts: Set<string>, deletes: KeyRanges): void {
  if (puts.has(key)) throw refuse("duplicateKey");
  refuseDeleted(key, deletes);
  puts.add(key);
}

function refuseDeleted(key: string, deletes: KeyRanges): void {
  if (deletes.holds(key)) throw refuse("duplicateKey");
}

/** True when the txn has nothing but ranges in both branches: it need not go through the log. */
export function isReadOnlyTxn(request: TxnRequest): boolean {
  const reads = ({ request: op }: RequestOp): boolean => op.case === "requestRange";
  return request.success.every(reads) && request.failure.every(reads);
}
