/** The operation table. */
import type { Operation } from "../operation";
import { keysOperations } from "./keys";
import { kvOperations } from "./kv";
import { leaseOperations, lockOperations } from "./leases";
import { txnOperations } from "./txn";
import { watchOperations } from "./watch";

export const operations: readonly Operation[] = [
  ...kvOperations,
  ...keysOperations,
  ...txnOperations,
  ...watchOperations,
  ...leaseOperations,
  ...lockOperations,
];
