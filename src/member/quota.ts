/** What a write costs against the space quota, by etcd's estimate (reference etcd-wire 8.9). */
import type { RequestOp } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";

const putOverheadBytes = 256;
const leaseGrantBytes = 64;

/** Bytes by which the operation may grow the store; 0 for one that the quota never refuses. */
export function operationCost(operation: Command["operation"]): number {
  switch (operation.case) {
    case "put":
      return putOverheadBytes + operation.value.key.length + operation.value.value.length;
    case "leaseGrant":
      return leaseGrantBytes;
    case "txn":
      return Math.max(branchCost(operation.value.success), branchCost(operation.value.failure));
    default:
      return 0;
  }
}

/** Puts of nested txns count as well (etcd bug #22140). */
function branchCost(operations: readonly RequestOp[]): number {
  let cost = 0;
  for (const { request } of operations) {
    if (request.case === "requestPut") cost += operationCost({ case: "put", value: request.value });
    else if (request.case === "requestTxn") cost += operationCost({ case: "txn", value: request.value });
  }
  return cost;
}
