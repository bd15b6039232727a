/**
 * What clients noted down: one record per request, with when it was sent, when its answer came, and what it said.
 * Every checker of this folder reads these records, whether they come from real processes or from the simulator.
 */
import type {
  CompactionRequest,
  CompactionResponse,
  DeleteRangeRequest,
  DeleteRangeResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
  LeaseRevokeRequest,
  LeaseRevokeResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  TxnRequest,
  TxnResponse,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { RevisionChanges } from "../../src/state/types";

/** The requests that a history knows, with what answers them. */
export interface Exchanges {
  range: { request: RangeRequest; reply: RangeResponse };
  put: { request: PutRequest; reply: PutResponse };
  deleteRange: { request: DeleteRangeRequest; reply: DeleteRangeResponse };
  txn: { request: TxnRequest; reply: TxnResponse };
  compaction: { request: CompactionRequest; reply: CompactionResponse };
  leaseGrant: { request: LeaseGrantRequest; reply: LeaseGrantResponse };
  leaseRevoke: { request: LeaseRevokeRequest; reply: LeaseRevokeResponse };
  /** One renewal; a TTL of 0 in the answer says that there is no such lease. */
  leaseKeepAlive: { request: LeaseKeepAliveRequest; reply: LeaseKeepAliveResponse };
  leaseTimeToLive: { request: LeaseTimeToLiveRequest; reply: LeaseTimeToLiveResponse };
}

export type OperationKind = keyof Exchanges;

export type Outcome<Reply> =
  | { readonly kind: "replied"; readonly reply: Reply }
  /** Failed; `definite` says that the server promises that it had no effect and never will. */
  | { readonly kind: "failed"; readonly definite: boolean; readonly code: number; readonly text: string }
  /** No answer until the end of the run, or the connection broke. */
  | { readonly kind: "unanswered" };

/** One request of one client. A client has one request under way at a time. */
export interface OperationOf<Kind extends OperationKind> {
  /** Unique in the history. */
  readonly id: number;
  readonly client: number;
  /** Which member was asked, for the reader of a failure. */
  readonly member: string;
  readonly kind: Kind;
  readonly request: Exchanges[Kind]["request"];
  /** Monotonic time at which it was sent, in the unit of the run (real: milliseconds). */
  readonly callAt: number;
  /** When its answer came; Infinity when none did. */
  readonly returnAt: number;
  readonly outcome: Outcome<Exchanges[Kind]["reply"]>;
}

export type Operation = { [Kind in OperationKind]: OperationOf<Kind> }[OperationKind];

/** Everything that one run shows to the checkers. */
export interface History {
  readonly operations: readonly Operation[];
  /**
   * All changes from revision 2 on, without gaps: from a watch of everything that was open all along, or from the
   * log of a simulation.
   */
  readonly log: readonly RevisionChanges[];
}

/** What a checker found. */
export interface Verdict {
  /** What is wrong, each with the operations that clash; empty when all is well. */
  readonly problems: readonly string[];
  /** How much was looked at, by name: a run that checked nothing shows nothing. */
  readonly counts: Readonly<Record<string, number>>;
}

/** True when nobody may conclude that this operation had no effect, or that it had one. */
export function outcomeUnknown({ outcome }: Operation): boolean {
  return outcome.kind === "unanswered" || (outcome.kind === "failed" && !outcome.definite);
}
