/** Campaigns: pre-votes that cost nothing (thesis §9.6), votes that count (paper §5.2), and their answers. */
import { noMember } from "../ids";
import type { Core } from "./core";
import { becomeLeader } from "./leader";
import type { MessageOf } from "./messages";
import { isVoter, voteResult } from "./quorum";

export type CampaignKind = "pre-vote" | "vote" | "transfer";

/** The campaign that an election timeout starts. */
export function startCampaign(core: Core): void {
  campaign(core, core.options.preVote && !core.alone ? "pre-vote" : "vote");
}

export function campaign(core: Core, kind: CampaignKind): void {
  if (kind === "pre-vote") becomePreCandidate(core);
  else becomeCandidate(core);
  const message = {
    kind: kind === "pre-vote" ? kind : ("vote" as const),
    from: core.id,
    // A pre-vote asks about the term that would come; nothing moves to it yet (R11).
    term: kind === "pre-vote" ? core.term + 1 : core.term,
    lastIndex: core.log.lastIndex,
    lastTerm: core.log.lastTerm,
    transfer: kind === "transfer",
  };
  // A vote request speaks for the log and the term as they will be after a crash, so both must be on disk: a grant
  // for entries that were lost since would otherwise elect a member without them.
  const outbox = kind === "pre-vote" ? core.sendNow : core.sendAfterPersist;
  for (const set of [core.voters.incoming, core.voters.outgoing]) {
    for (const to of set) {
      if (to !== core.id && !(set === core.voters.outgoing && core.voters.incoming.includes(to)))
        outbox.push({ ...message, to });
    }
  }
  if (kind === "pre-vote") count(core);
}

function becomePreCandidate(core: Core): void {
  core.becomeFollower(core.term, noMember);
  core.role = "pre-candidate";
  core.votes.set(core.id, true);
}

/** The own vote counts when it is on disk; see `ownVotePersisted`. */
function becomeCandidate(core: Core): void {
  core.becomeFollower(core.term + 1, noMember);
  core.role = "candidate";
  core.vote = core.id;
}

/** R7 for the candidate itself: called when term and vote reached the disk. */
export function ownVotePersisted(core: Core): void {
  if (core.role !== "candidate" || core.votes.has(core.id)) return;
  core.votes.set(core.id, true);
  count(core);
}

export function onVoteAnswer(core: Core, message: MessageOf<"pre-vote-answer" | "vote-answer">): void {
  const expectedRole = message.kind === "vote-answer" ? "candidate" : "pre-candidate";
  if (core.role !== expectedRole) return;
  if (message.kind === "pre-vote-answer" && message.granted && message.term !== core.term + 1) return;
  learnCommit(core, message);
  if (core.log.hasUnappliedConfiguration) {
    // R10: other majorities may be about to count; campaign again when they do.
    core.becomeFollower(core.term, noMember);
    return;
  }
  if (!core.votes.has(message.from)) core.votes.set(message.from, message.granted);
  count(core);
}

/** What a voter knows to be committed is committed here too, where the logs agree at that place. */
function learnCommit(core: Core, message: MessageOf<"pre-vote-answer" | "vote-answer">): void {
  const { log } = core;
  if (message.commit <= log.commit || message.commit > log.lastIndex) return;
  if (log.term(message.commit) === message.commitTerm) log.commitTo(message.commit);
}

/** Only voters of the own configuration count, whoever answered. */
function count(core: Core): void {
  switch (voteResult(core.voters, (id) => core.votes.get(id))) {
    case "won":
      if (core.role === "pre-candidate") campaign(core, "vote");
      else becomeLeader(core);
      return;
    case "lost":
      core.becomeFollower(core.term, noMember);
      return;
    case "pending":
      return;
  }
}

/** A configuration was applied while campaigning: other majorities, perhaps without this member. */
export function candidateAfterChange(core: Core): void {
  if (isVoter(core.voters, core.id)) count(core);
  else core.becomeFollower(core.term, noMember);
}
