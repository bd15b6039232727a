/** The follower: takes over the leader's log, and notices when the leader is gone. */
import { assert } from "../assert";
import { hexId, type LogIndex } from "../ids";
import { campaign, startCampaign } from "./candidate";
import type { Core } from "./core";
import type { MessageOf } from "./messages";
import type { SnapshotPosition } from "./types";

/** Followers and candidates alike: after the timeout, campaign. A single voter has nobody to wait for. */
export function tickWithoutLead(core: Core): void {
  core.electionElapsed++;
  if (core.electionElapsed < core.electionTimeout && !core.alone) return;
  if (core.role === "candidate" && core.alone) return; // Its own vote is on the way to disk.
  if (!core.mayCampaign) return;
  startCampaign(core);
}

/** Appends and heartbeats of a leader whose term has passed: our term makes it resign (R12). */
export function answerStaleLeader(core: Core, message: MessageOf<"append" | "heartbeat" | "snapshot">): void {
  answerAppend(core, message.from, false, 0, 0, 0);
}

export function onAppend(core: Core, message: MessageOf<"append">): void {
  core.follow(message.from);
  if (core.installing !== undefined) return; // The log is about to be replaced; the leader will ask again.
  const { log } = core;
  const { previousIndex, previousTerm, entries } = message;
  if (previousIndex < log.commit) {
    // Old or repeated. What is committed matches every leader's log.
    answerAppend(core, message.from, true, log.commit, 0, 0);
    return;
  }
  if (previousIndex > log.commit && log.term(previousIndex) !== previousTerm) {
    refuseAppend(core, message);
    return;
  }
  log.merge(entries);
  const lastIndex = previousIndex + entries.length;
  log.commitTo(Math.min(message.commit, lastIndex));
  answerAppend(core, message.from, true, lastIndex, 0, 0);
}

/**
 * Says where the logs may meet: the last position up to the refused one whose term is no newer than the leader's
 * there. Everything after it conflicts, so one answer skips a whole term (paper §5.3, end).
 */
function refuseAppend(core: Core, message: MessageOf<"append">): void {
  const { log } = core;
  const found = log.lastAtMost(Math.min(message.previousIndex, log.lastIndex), message.previousTerm);
  const hintIndex = Math.max(found, log.commit);
  const hintTerm = log.term(hintIndex) ?? 0;
  answerAppend(core, message.from, false, message.previousIndex, hintIndex, hintTerm);
}

/** Leaves after the persist: what is acknowledged must be on disk (R8). */
function answerAppend(
  core: Core,
  to: bigint,
  accepted: boolean,
  index: LogIndex,
  hintIndex: LogIndex,
  hintTerm: number,
): void {
  core.sendAfterPersist.push({
    kind: "append-answer",
    from: core.id,
    to,
    term: core.term,
    accepted,
    index,
    hintIndex,
    hintTerm,
  });
}

export function onHeartbeat(core: Core, message: MessageOf<"heartbeat">): void {
  core.follow(message.from);
  if (core.installing === undefined) {
    const { lastIndex } = core.log;
    // A leader names no more than what this member acknowledged to it, and that was on disk: so it is there still.
    assert(
      message.commit <= lastIndex,
      `this member acknowledged log entry ${message.commit} and its log ends at ${lastIndex}: its disk lost what the ` +
        `cluster counts on; remove member ${hexId(core.id)} from the cluster and add it anew with an empty data directory`,
    );
    core.log.commitTo(message.commit);
  }
  // It reveals the term (R7) and nothing of the log, so it need not wait for entries: reads are confirmed by it.
  const { persistedTerm } = core.log.unstable;
  const outbox = persistedTerm === core.term ? core.sendNow : core.sendAfterPersist;
  outbox.push({
    kind: "heartbeat-answer",
    from: core.id,
    to: message.from,
    term: core.term,
    readRound: message.readRound,
  });
}

/** A snapshot is taken only when the log cannot get there by itself (R14). */
export function onSnapshot(core: Core, message: MessageOf<"snapshot">): void {
  core.follow(message.from);
  const { log } = core;
  const { position } = message;
  if (core.installing !== undefined) return; // One at a time (etcd #18055).
  if (position.index > log.commit && log.term(position.index) !== position.term) {
    core.installing = position;
    core.installOffered = true;
    return;
  }
  log.commitTo(position.index);
  answerAppend(core, message.from, true, log.commit, 0, 0);
}

/** State, log and configuration change together (R14). */
export function finishInstall(core: Core, position: SnapshotPosition): void {
  core.installing = undefined;
  core.installOffered = false;
  core.log.resetTo(position);
  core.setConfiguration(position.configuration);
  if (core.leader !== 0n) answerAppend(core, core.leader, true, position.index, 0, 0);
}

export function abandonInstall(core: Core): void {
  core.installing = undefined;
  core.installOffered = false;
  if (core.leader === 0n) return;
  core.sendNow.push({
    kind: "snapshot-status",
    from: core.id,
    to: core.leader,
    term: core.term,
    ok: false,
  });
}

/** The leader hands over: no pre-vote, and voters need not be out of touch with it (thesis §3.10). */
export function onTimeoutNow(core: Core): void {
  if (core.mayCampaign) campaign(core, "transfer");
}
