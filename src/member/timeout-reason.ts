/** Why a proposal's time ran out, as far as this member can tell: etcd's three texts, chosen as etcd does. */
import { type MemberId, noMember } from "../ids";
import type { Peers } from "./ports";
import type { TimeoutReason } from "./proposals";

export interface TimeoutFacts {
  readonly self: MemberId;
  readonly leader: MemberId;
  /** When this member learned of the leader (monotonic milliseconds). */
  readonly leaderSinceMs: number;
  readonly electionTimeoutMs: number;
  readonly voters: readonly MemberId[];
  readonly peers: Peers;
}

/**
 * - A proposal from the two election timeouts before the present leader was known may have been lost with the former.
 * - One that the leader cannot have answered, because its connection (or a leader's connections to a quorum) is
 *   younger than the proposal, may have been lost with a connection.
 */
export function timeoutReason(submittedAtMs: number, facts: TimeoutFacts): TimeoutReason {
  const { self, leader, leaderSinceMs, electionTimeoutMs, voters, peers } = facts;
  if (submittedAtMs > leaderSinceMs - 2 * electionTimeoutMs && submittedAtMs < leaderSinceMs) {
    return "timeoutDueToLeaderFail";
  }
  const connected = (id: MemberId): boolean => {
    const sinceMs = peers.activeSinceMs(id);
    return id === self || (sinceMs !== undefined && sinceMs <= submittedAtMs);
  };
  if (leader === noMember) return "timeout";
  const heard = leader === self ? voters.filter(connected).length > voters.length / 2 : connected(leader);
  return heard ? "timeout" : "timeoutDueToConnectionLost";
}
