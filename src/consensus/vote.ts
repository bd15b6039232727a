/** How every member answers who asks for its vote. Learners answer too: they may be voters without knowing it yet. */
import { noMember } from "../ids";
import type { Core } from "./core";
import type { MessageOf } from "./messages";

/** A request from an earlier term is refused with ours, so that who is behind catches up (R12). */
export function refuseStaleVote(core: Core, message: MessageOf<"pre-vote" | "vote">): void {
  answerVote(core, message, false);
}

/**
 * One vote per term, first come first served, and only for logs at least as complete as the own one (paper §5.2,
 * §5.4.1). A pre-vote for a coming term may be granted to many; it changes nothing here.
 */
export function onVoteRequest(core: Core, message: MessageOf<"pre-vote" | "vote">): void {
  const free =
    core.vote === message.from ||
    (core.vote === noMember && core.leader === noMember) ||
    (message.kind === "pre-vote" && message.term > core.term);
  const granted = free && core.log.isUpToDate(message.lastIndex, message.lastTerm);
  if (granted && message.kind === "vote") {
    core.vote = message.from;
    core.electionElapsed = 0;
  }
  answerVote(core, message, granted);
}

/**
 * Leaves after the persist: an answer reveals term and vote (R7). It also tells what is committed: a candidate may need
 * that to learn of a membership change that gives it other majorities. Without it, two voters of whom the leader was
 * just removed could be stuck: the one left needs a vote from the removed one, whose log is longer.
 */
function answerVote(core: Core, message: MessageOf<"pre-vote" | "vote">, granted: boolean): void {
  core.sendAfterPersist.push({
    kind: message.kind === "vote" ? "vote-answer" : "pre-vote-answer",
    from: core.id,
    to: message.from,
    // A granted pre-vote names the coming term, which the voter itself has not entered.
    term: granted ? message.term : core.term,
    granted,
    commit: core.log.commit,
    commitTerm: core.log.term(core.log.commit) ?? 0,
  });
}
