/**
 * Majority arithmetic over two sets of voters. Single-server changes use one set; the second is there so that a
 * joint configuration (thesis §4.3) needs no new arithmetic. A decision needs a majority of each set that is not empty.
 */
import type { LogIndex, MemberId } from "../ids";

export interface VoterSets {
  readonly incoming: readonly MemberId[];
  /** Empty outside a joint configuration. */
  readonly outgoing: readonly MemberId[];
}

export type VoteResult = "won" | "lost" | "pending";

/** How many of `count` make a majority. */
export function majority(count: number): number {
  return Math.floor(count / 2) + 1;
}

/** Whether `id` alone decides everything. */
export function isAlone(voters: VoterSets, id: MemberId): boolean {
  return voters.incoming.length === 1 && voters.outgoing.length === 0 && voters.incoming[0] === id;
}

export function isVoter(voters: VoterSets, id: MemberId): boolean {
  return voters.incoming.includes(id) || voters.outgoing.includes(id);
}

/** The highest index that a majority of each set holds; 0 when there are no voters at all. */
export function quorumIndex(voters: VoterSets, matchOf: (id: MemberId) => LogIndex): LogIndex {
  const incoming = majorityIndex(voters.incoming, matchOf);
  if (voters.outgoing.length === 0) return incoming;
  const outgoing = majorityIndex(voters.outgoing, matchOf);
  return voters.incoming.length === 0 ? outgoing : Math.min(incoming, outgoing);
}

function majorityIndex(set: readonly MemberId[], matchOf: (id: MemberId) => LogIndex): LogIndex {
  if (set.length === 0) return 0;
  if (set.length === 1) return matchOf(set[0]!);
  const matches = set.map(matchOf).sort((a, b) => b - a);
  return matches[majority(set.length) - 1]!;
}

/** How a vote stands: `undefined` means not answered yet. */
export function voteResult(voters: VoterSets, voteOf: (id: MemberId) => boolean | undefined): VoteResult {
  const incoming = majorityVote(voters.incoming, voteOf);
  const outgoing = voters.outgoing.length === 0 ? "won" : majorityVote(voters.outgoing, voteOf);
  if (incoming === "lost" || outgoing === "lost") return "lost";
  return incoming === "won" && outgoing === "won" ? "won" : "pending";
}

/** A set without voters decides nothing: nobody must ever win an election that nobody took part in. */
function majorityVote(set: readonly MemberId[], voteOf: (id: MemberId) => boolean | undefined): VoteResult {
  const needed = majority(set.length);
  let granted = 0;
  let refused = 0;
  for (const id of set) {
    const vote = voteOf(id);
    if (vote === true) granted++;
    else if (vote === false) refused++;
  }
  if (granted >= needed) return "won";
  return set.length - refused < needed ? "lost" : "pending";
}

/** Whether a majority of each set satisfies `holds`. */
export function quorumHolds(voters: VoterSets, holds: (id: MemberId) => boolean): boolean {
  return voteResult(voters, (id) => (holds(id) ? true : undefined)) === "won";
}
