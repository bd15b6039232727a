/**
 * Which changes of membership are refused, in etcd's order and words (reference etcd-wire 8.10). Judged by the leader:
 * it knows best who is heard and how far each log is.
 */
import type { ProgressStatus } from "../consensus/raft";
import type { RefusalName } from "../errors";
import type { LogIndex, MemberId } from "../ids";
import type { Member as MemberRecord } from "../proto/gen/etcd/rpc_pb";

/** A member counts as connected when it has been heard for this long (etcd's health interval). */
const healthIntervalMs = 5_000;
/** A learner is in sync when it has this share of the leader's log. */
const readyShare = 0.9;

/** A change as an operator asks for it. */
export type MembershipChange =
  | {
      readonly type: "add";
      readonly id: MemberId;
      readonly peerUrls: readonly string[];
      readonly isLearner: boolean;
    }
  | { readonly type: "promote" | "remove"; readonly id: MemberId };

/** What the leader knows when it judges. */
export interface MembershipView {
  readonly self: MemberId;
  readonly members: readonly MemberRecord[];
  readonly isRemoved: (id: MemberId) => boolean;
  readonly nowMs: number;
  /** Since when a member has been heard; undefined: it is not. */
  readonly activeSinceMs: (id: MemberId) => number | undefined;
  readonly progress: readonly ProgressStatus[];
  readonly lastIndex: LogIndex;
}

export interface MembershipLimits {
  /** Refuse what could cost the quorum. */
  readonly strict: boolean;
  readonly learnersMax: number;
}

/** Why the change is refused; undefined: it may be proposed. */
export function membershipRefusal(
  change: MembershipChange,
  view: MembershipView,
  limits: MembershipLimits,
): RefusalName | undefined {
  switch (change.type) {
    case "add":
      return additionRefusal(change, view, limits);
    case "promote":
      return promotionRefusal(change.id, view, limits);
    case "remove":
      return removalRefusal(change.id, view, limits);
  }
}

function votersOf(view: MembershipView): MemberRecord[] {
  return view.members.filter(({ isLearner }) => !isLearner);
}

/** A member that has made itself known; one that was added and never ran has no name. */
function isStarted({ name }: MemberRecord): boolean {
  return name !== "";
}

function quorumOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

/** How many of the members have been heard for the health interval, this one included. */
function connected(members: readonly MemberRecord[], view: MembershipView): number {
  return members.filter(({ ID }) => {
    const sinceMs = view.activeSinceMs(ID);
    return ID === view.self || (sinceMs !== undefined && sinceMs <= view.nowMs - healthIntervalMs);
  }).length;
}

function additionRefusal(
  { id, peerUrls, isLearner }: Extract<MembershipChange, { type: "add" }>,
  view: MembershipView,
  { strict, learnersMax }: MembershipLimits,
): RefusalName | undefined {
  const voters = votersOf(view);
  if (strict) {
    const started = voters.filter(isStarted).length;
    // The newcomer enlarges the quorum before it has started. A single started member may always grow.
    const lone = voters.length === 1 && started === 1;
    if (!isLearner && !lone && started < quorumOf(voters.length + 1)) return "memberNotEnoughStarted";
    if (voters.length > 1 && connected(voters, view) < quorumOf(voters.length + 1)) return "unhealthy";
  }
  if (view.isRemoved(id)) return "memberNotFound";
  if (view.members.some(({ ID }) => ID === id)) return "memberExist";
  const taken = new Set(view.members.flatMap(({ peerURLs }) => peerURLs));
  if (peerUrls.some((url) => taken.has(url))) return "peerURLExist";
  if (isLearner && view.members.length - voters.length >= learnersMax) return "tooManyLearners";
  return undefined;
}

function promotionRefusal(
  id: MemberId,
  view: MembershipView,
  { strict }: MembershipLimits,
): RefusalName | undefined {
  const member = view.members.find(({ ID }) => ID === id);
  if (member === undefined) return "memberNotFound";
  if (!member.isLearner) return "memberNotLearner";
  const match = view.progress.find((progress) => progress.id === id)?.match ?? 0;
  if (match < view.lastIndex * readyShare) return "learnerNotReady";
  const voters = votersOf(view);
  // The learner counts as started.
  if (strict && voters.filter(isStarted).length + 1 < quorumOf(voters.length + 1)) {
    return "memberNotEnoughStarted";
  }
  return undefined;
}

function removalRefusal(
  id: MemberId,
  view: MembershipView,
  { strict }: MembershipLimits,
): RefusalName | undefined {
  const member = view.members.find(({ ID }) => ID === id);
  if (strict && member?.isLearner !== true) {
    const voters = votersOf(view);
    const rest = voters.filter(({ ID }) => ID !== id);
    if (rest.filter(isStarted).length < quorumOf(rest.length)) return "memberNotEnoughStarted";
    // One that is down is no part of the active quorum and may go.
    const isDown = id !== view.self && view.activeSinceMs(id) === undefined;
    if (!isDown && connected(voters, view) - 1 < 1 + Math.floor((voters.length - 1) / 2)) return "unhealthy";
  }
  // Even an unsafe change leaves somebody who can vote.
  if (member !== undefined && !member.isLearner && votersOf(view).length === 1)
    return "memberNotEnoughStarted";
  return member === undefined ? "memberNotFound" : undefined;
}
