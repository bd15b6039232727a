/** The operation table. */
import type { Operation } from "../operation";
import { clusterOperations } from "./cluster";
import { historyOperations } from "./history";
import { keysOperations } from "./keys";
import { kvOperations } from "./kv";
import { leaseOperations, lockOperations } from "./leases";
import { maintenanceOperations } from "./maintenance";
import { txnOperations } from "./txn";
import { watchOperations } from "./watch";

export const operations: readonly Operation[] = [
  ...kvOperations,
  ...keysOperations,
  ...historyOperations,
  ...txnOperations,
  ...watchOperations,
  ...leaseOperations,
  ...lockOperations,
  ...clusterOperations,
  ...maintenanceOperations,
];
