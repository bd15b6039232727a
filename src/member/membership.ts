/** Changes of the cluster's membership, asked of any member and judged by the leader (reference etcd-wire 8.10). */
import type { MemberId } from "../ids";
import type { Member as MemberRecord } from "../proto/gen/etcd/rpc_pb";
import type { StateMachine } from "../state/state-machine";
import type { JoinPlan } from "./join-plan";
import type { PeerAddress } from "./ports";

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

/**
 * The other members, with their addresses. A joiner's log leads it through the configurations of the past; until it
 * meets itself there, those that it was told of stay, or it would part from the leader that feeds it.
 */
export function othersOf(self: MemberId, state: StateMachine, joining: JoinPlan | undefined): PeerAddress[] {
  const known = state.members();
  const others = known.map(({ ID: id, peerURLs: peerUrls }): PeerAddress => ({ id, peerUrls }));
  if (joining !== undefined && !known.some(({ ID }) => ID === self)) {
    for (const seed of joining.members) {
      if (!others.some(({ id }) => id === seed.id) && !state.isRemovedMember(seed.id)) others.push(seed);
    }
  }
  return others.filter(({ id }) => id !== self);
}
