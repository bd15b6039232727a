/** The checks that etcd makes before a request may reach the log; each throws the refusal (etcd-wire 5.1, 8.2–8.4). */
import type { DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest } from "../proto/gen/etcd/rpc_pb";

/** Throws `emptyKey` or `invalidSortOption`. */
export function checkRange(_request: RangeRequest): void {
  throw new Error("not written");
}
/** Throws `emptyKey`, `valueProvided` or `leaseProvided`. */
export function checkPut(_request: PutRequest): void {
  throw new Error("not written");
}
/** Throws `emptyKey`. */
export function checkDeleteRange(_request: DeleteRangeRequest): void {
  throw new Error("not written");
}
/** Throws `tooManyOps`, `duplicateKey`, or what a part of the txn is refused for. */
export function checkTxn(_request: TxnRequest, _txnOpsMax: number): void {
  throw new Error("not written");
}
/** True when the txn has nothing but ranges in both branches: it need not go through the log. */
export function isReadOnlyTxn(_request: TxnRequest): boolean {
  throw new Error("not written");
}
