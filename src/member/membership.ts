/** Changes of the cluster's membership, asked of any member and judged by the leader (reference etcd-wire 8.10). */
import type { MemberId } from "../ids";
import type { Member as MemberRecord } from "../proto/gen/etcd/rpc_pb";

/** Who is to join. */
export interface NewMember {
  readonly peerUrls: readonly string[];
  readonly isLearner: boolean;
}

/** What an addition came to. */
export interface AddedMember {
  readonly id: MemberId;
  /** The members after it, by id. */
  readonly members: readonly MemberRecord[];
}
