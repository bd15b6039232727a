/** What the lock, election and watch services need from the rest of a member, and how they read answers. */
import { fromBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { concatBytes } from "../bytes";
import type { StoreError } from "../errors";
import type {
  DeleteRangeRequestSchema,
  DeleteRangeResponseSchema,
  LeaseGrantRequestSchema,
  LeaseGrantResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  TxnRequestSchema,
  TxnResponseSchema,
  WatchCreateRequest,
} from "../proto/gen/etcd/rpc_pb";
import type { Answer, Call, UnaryHandler } from "../transport/call";
import { EncodedMessage } from "../transport/call";
import type { WatchHub } from "../watch/hub";

/** The watch side of a member. */
export interface WatchBackend {
  readonly hub: WatchHub;
  /** The member's monotonic clock. */
  monotonicMs(): number;
  /** True once the member is stopping. */
  readonly stopping: boolean;
  /** Calls back once when the member stops (at once if it already does); the answer removes the listener. */
  onStop(listener: () => void): () => void;
  /** Says why this caller may not watch this range, if so (auth). Absent: everyone may. */
  refusal?(request: WatchCreateRequest, call: Call): StoreError | undefined;
}

/** The KV and lease operations on which locks and elections are built; the services' own methods fit. */
export interface KvBackend {
  range: UnaryHandler<typeof RangeRequestSchema, typeof RangeResponseSchema>;
  deleteRange: UnaryHandler<typeof DeleteRangeRequestSchema, typeof DeleteRangeResponseSchema>;
  txn: UnaryHandler<typeof TxnRequestSchema, typeof TxnResponseSchema>;
  leaseGrant: UnaryHandler<typeof LeaseGrantRequestSchema, typeof LeaseGrantResponseSchema>;
}

/** The message of an answer, decoded if a service put it together from stored bytes. */
export function decodeAnswer<Output extends DescMessage>(
  schema: Output,
  answer: Answer<Output>,
): MessageShape<Output> {
  return answer instanceof EncodedMessage ? fromBinary(schema, concatBytes(answer.chunks)) : answer;
}
