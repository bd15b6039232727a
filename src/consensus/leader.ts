/** The leader: takes proposals, replicates, commits, proves its leadership to readers and resigns without a quorum. */
import { assert } from "../assert";
import { emptyBytes } from "../bytes";
import { noMember, type MemberId } from "../ids";
import { changed } from "./configuration";
import { encodeConfigurationChange } from "./configuration-change";
import type { Core } from "./core";
import { Leadership } from "./leadership";
import type { MessageOf } from "./messages";
import type { ConfigurationResult, ProposalResult, ReadResult, TransferResult } from "./options";
import { isVoter, quorumHolds, quorumIndex } from "./quorum";
import { flushAppends } from "./replication";
import type { ConfigurationChange, SnapshotPosition } from "./types";

/** A leader's own state; only to be asked for while leading. */
export function leadershipOf(core: Core): Leadership {
  assert(core.leadership !== undefined, () => `member ${core.id} is ${core.role}, not leader`);
  return core.leadership;
}

/** Won the election: opens the term with an empty entry (thesis §6.4), so that older entries can commit. */
export function becomeLeader(core: Core): void {
  assert(core.role === "candidate", `a ${core.role} cannot become leader`);
  const { log } = core;
  const leadership = new Leadership();
  core.role = "leader";
  core.leader = core.id;
  core.electionElapsed = 0;
  core.votes.clear();
  core.leadership = leadership;
  leadership.follow(core.configuration, core.id, log.lastIndex, core.options);
  leadership.pendingConfigurationIndex = log.lastIndex;
  leadership.openingIndex = log.push(core.term, "command", emptyBytes);
  leadership.uncommittedBytes = log.bytesBetween(log.commit + 1, log.lastIndex);
  leadership.flushDue = true;
}

/** R13: whether an entry of the leader's own term is committed. */
export function committedInTerm(core: Core): boolean {
  return core.leadership !== undefined && core.log.commit >= core.leadership.openingIndex;
}

export function tickLeader(core: Core): void {
  const leadership = leadershipOf(core);
  core.electionElapsed++;
  if (leadership.transferee !== noMember) {
    leadership.transferElapsed++;
    if (leadership.transferElapsed >= core.options.electionTicks) leadership.transferee = noMember;
  }
  if (core.electionElapsed >= core.options.electionTicks) {
    core.electionElapsed = 0;
    if (core.options.checkQuorum && !checkQuorum(core, leadership)) {
      core.becomeFollower(core.term, noMember);
      return;
    }
  }
  leadership.heartbeatElapsed++;
  if (leadership.heartbeatElapsed >= core.options.heartbeatTicks) {
    leadership.heartbeatElapsed = 0;
    sendHeartbeats(core, leadership, true);
  }
}

/** Whether a quorum was heard since the last time (thesis §6.2). */
function checkQuorum(core: Core, leadership: Leadership): boolean {
  const { progress } = leadership;
  const heard = quorumHolds(core.voters, (id) => id === core.id || progress.get(id)!.recentlyActive);
  for (const follower of progress.values()) follower.recentlyActive = false;
  return heard;
}

/** Heartbeats carry no more of the commit index than the follower surely holds. Learners are not asked about reads. */
function sendHeartbeats(core: Core, leadership: Leadership, learnersToo: boolean): void {
  const readRound = leadership.reads.round;
  for (const follower of leadership.progress.values()) {
    if (follower.learner && !learnersToo) continue;
    const commit = Math.min(follower.match, core.log.commit);
    follower.sentCommit = Math.max(follower.sentCommit, commit);
    core.sendNow.push({
      kind: "heartbeat",
      from: core.id,
      to: follower.id,
      term: core.term,
      commit,
      readRound,
    });
  }
}

export function proposeCommands(core: Core, payloads: readonly Uint8Array[]): ProposalResult {
  const { leadership, log, term } = core;
  if (leadership === undefined) return refuseFollower(core);
  if (leadership.transferee !== noMember) return { ok: false, reason: "transferring", leader: core.leader };
  const before = log.tailBytes;
  if (!admits(core, leadership, payloads)) return { ok: false, reason: "overloaded", leader: core.leader };
  const firstIndex = log.lastIndex + 1;
  for (let i = 0; i < payloads.length; i++) log.push(term, "command", payloads[i]!);
  leadership.uncommittedBytes += log.tailBytes - before;
  leadership.flushDue = true;
  return { ok: true, firstIndex, term };
}

/** The bound never stops a proposal when nothing else waits, or a large one could never pass. */
function admits(core: Core, leadership: Leadership, payloads: readonly Uint8Array[]): boolean {
  if (leadership.uncommittedBytes === 0) return true;
  let bytes = leadership.uncommittedBytes;
  for (let i = 0; i < payloads.length; i++) bytes += payloads[i]!.length;
  return bytes <= core.options.uncommittedBytesMax;
}

function refuseFollower(core: Core): {
  readonly ok: false;
  readonly reason: "no-leader" | "not-leader";
  readonly leader: MemberId;
} {
  return { ok: false, reason: core.leader === noMember ? "no-leader" : "not-leader", leader: core.leader };
}

/** R9: one change at a time, and none before an entry of the own term is committed. */
export function proposeChange(core: Core, change: ConfigurationChange): ConfigurationResult {
  const { leadership, log, leader } = core;
  if (leadership === undefined) return refuseFollower(core);
  if (leadership.transferee !== noMember) return { ok: false, reason: "transferring", leader };
  if (!committedInTerm(core)) return { ok: false, reason: "not-ready", leader };
  if (log.applied < leadership.pendingConfigurationIndex)
    return { ok: false, reason: "pending-change", leader };
  if (changed(core.configuration, change) === undefined) return { ok: false, reason: "invalid", leader };
  const before = log.tailBytes;
  const firstIndex = log.push(core.term, "configuration", encodeConfigurationChange(change));
  leadership.uncommittedBytes += log.tailBytes - before;
  leadership.pendingConfigurationIndex = firstIndex;
  leadership.flushDue = true;
  return { ok: true, firstIndex, term: core.term };
}

export function requestRead(core: Core, context: number): ReadResult {
  if (core.leadership === undefined) return refuseFollower(core);
  core.leadership.reads.add(context);
  core.leadership.flushDue = true;
  return { ok: true };
}

/** Thesis §3.10. A second request names a new target; the same target again changes nothing. */
export function requestTransfer(core: Core, to: MemberId): TransferResult {
  const { leadership } = core;
  if (leadership === undefined) return refuseFollower(core);
  if (to === core.id || !isVoter(core.voters, to))
    return { ok: false, reason: "invalid", leader: core.leader };
  if (leadership.transferee === to) return { ok: true };
  leadership.transferee = to;
  leadership.transferElapsed = 0;
  const target = leadership.progress.get(to)!;
  if (target.match === core.log.lastIndex) sendTimeoutNow(core, to);
  else {
    target.appendDue = true;
    leadership.flushDue = true;
  }
  return { ok: true };
}

function sendTimeoutNow(core: Core, to: MemberId): void {
  core.sendNow.push({ kind: "timeout-now", from: core.id, to, term: core.term });
}

export function leaderOnAppendAnswer(core: Core, message: MessageOf<"append-answer">): void {
  const leadership = leadershipOf(core);
  const follower = leadership.progress.get(message.from);
  if (follower === undefined) return;
  follower.recentlyActive = true;
  const { log } = core;
  leadership.flushDue = true;
  if (!message.accepted) {
    // The follower says where its log stops being newer than ours; skip what ours has beyond that term, too.
    const hint =
      message.hintTerm > 0 ? log.lastAtMost(message.hintIndex, message.hintTerm) : message.hintIndex;
    follower.refused(message.index, hint);
    return;
  }
  if (message.index > log.lastIndex) return; // Nobody can hold what was never sent.
  const advanced = follower.acknowledged(message.index);
  switch (follower.state) {
    case "probe":
      if (message.index >= follower.match) follower.becomeReplicate();
      break;
    case "replicate":
      follower.inflights.freeTo(message.index);
      break;
    case "snapshot":
      if (advanced && follower.match >= log.startIndex) follower.becomeReplicate();
      break;
  }
  if (!advanced) return;
  maybeCommit(core);
  if (leadership.transferee === follower.id && follower.match === log.lastIndex)
    sendTimeoutNow(core, follower.id);
}

export function leaderOnHeartbeatAnswer(core: Core, message: MessageOf<"heartbeat-answer">): void {
  const leadership = leadershipOf(core);
  const follower = leadership.progress.get(message.from);
  if (follower === undefined) return;
  follower.recentlyActive = true;
  // Whatever was lost on the way, an append now finds out: an answer shows that messages pass again.
  follower.probeSent = false;
  if (follower.state === "probe" || follower.match < core.log.lastIndex) {
    follower.appendDue = true;
    leadership.flushDue = true;
  }
  if (message.readRound > leadership.reads.round) return; // Never handed out.
  follower.readRound = Math.max(follower.readRound, message.readRound);
  confirmReads(core, leadership);
}

/** R13: the round is proven once a quorum answered a heartbeat that left after the round began. */
function confirmReads(core: Core, leadership: Leadership): void {
  const { reads, progress } = leadership;
  if (!reads.underWay) return;
  const round = reads.round;
  if (!quorumHolds(core.voters, (id) => id === core.id || progress.get(id)!.readRound >= round)) return;
  core.confirmedReads.push(...reads.confirm());
  if (reads.anyWaiting) leadership.flushDue = true;
}

/**
 * Commits what a quorum holds on disk, if it is of the own term (R6, Figure 8). The leader's own copy counts only
 * when persisted (R8).
 */
export function maybeCommit(core: Core): void {
  const leadership = leadershipOf(core);
  const { log } = core;
  const { progress } = leadership;
  const persisted = log.unstable.persisted;
  const index = quorumIndex(core.voters, (id) => (id === core.id ? persisted : progress.get(id)!.match));
  if (index <= log.commit || log.term(index) !== core.term) return;
  leadership.uncommittedBytes -= log.bytesBetween(log.commit + 1, index);
  log.commitTo(index);
  leadership.flushDue = true;
}

/** Sends whatever followers and readers are owed; runs once per Ready, so that work gathers. */
export function flushLeader(core: Core): void {
  const leadership = leadershipOf(core);
  leadership.flushDue = false;
  const { reads } = leadership;
  if (reads.anyWaiting && !reads.underWay && committedInTerm(core)) {
    reads.begin(core.log.commit);
    if (core.alone) core.confirmedReads.push(...reads.confirm());
    else sendHeartbeats(core, leadership, false);
  }
  for (const follower of leadership.progress.values()) flushAppends(core, leadership, follower);
}

/** The driver has a snapshot; it goes to all who wait for one. */
export function offerSnapshot(core: Core, position: SnapshotPosition): void {
  const { leadership } = core;
  if (leadership === undefined) return;
  leadership.snapshotAwaited = false;
  assert(position.index <= core.log.applied, `snapshot ${position.index} is beyond applied`);
  for (const follower of leadership.progress.values()) {
    if (follower.state !== "snapshot" || follower.snapshotIndex !== 0) continue;
    if (position.index < core.log.startIndex || position.index <= follower.match) {
      // Cut or overtaken meanwhile.
      follower.becomeProbe(follower.match + 1);
      leadership.flushDue = true;
      continue;
    }
    follower.snapshotIndex = position.index;
    follower.learned = { index: position.index, term: position.term };
    core.sendNow.push({ kind: "snapshot", from: core.id, to: follower.id, term: core.term, position });
  }
}

/** After a snapshot, sent or failed, an append finds out where the follower stands; it waits for a sign of life. */
export function snapshotSent(core: Core, to: MemberId, ok: boolean): void {
  const follower = core.leadership?.progress.get(to);
  if (follower === undefined || follower.state !== "snapshot" || follower.snapshotIndex === 0) return;
  follower.becomeProbe(ok ? follower.snapshotIndex + 1 : follower.match + 1);
  follower.probeSent = true;
  follower.appendDue = false;
}

/** The configuration changed under a leader: new followers, other majorities, perhaps without itself. */
export function leaderAfterChange(core: Core): void {
  const leadership = leadershipOf(core);
  leadership.follow(core.configuration, core.id, core.log.lastIndex, core.options);
  if (!isVoter(core.voters, core.id)) {
    // It managed the cluster until the change was committed (thesis §4.2.2); others learn that it was, then it goes.
    sendHeartbeats(core, leadership, true);
    core.becomeFollower(core.term, noMember);
    return;
  }
  if (leadership.transferee !== noMember && !isVoter(core.voters, leadership.transferee))
    leadership.transferee = noMember;
  maybeCommit(core);
  confirmReads(core, leadership);
  leadership.flushDue = true;
}
