/** Builds a member's consensus from its options and from what its log and state remember. */
import { Raft } from "../consensus/raft";
import {
  appendBytesMax,
  inflightBytesMax,
  inflightMessagesMax,
  logTailBytesMax,
  uncommittedBytesMax,
} from "../limits";
import type { OpenedData } from "./data-directory";
import type { MemberOptions } from "./options";
import type { Rng } from "./ports";

export function consensusOf(options: MemberOptions, opened: OpenedData, rng: Rng): Raft {
  const { recovered, state, memberId } = opened;
  const { bounds = {} } = options;
  const members = state.members();
  return new Raft(
    {
      id: memberId,
      electionTicks: Math.round(options.electionTimeoutMs / options.heartbeatIntervalMs),
      heartbeatTicks: 1,
      preVote: options.preVote,
      checkQuorum: true,
      appendBytesMax: bounds.appendBytes ?? appendBytesMax,
      inflightBytesMax,
      inflightMessagesMax: bounds.inflightMessages ?? inflightMessagesMax,
      tailBytesMax: bounds.logTailBytes ?? logTailBytesMax,
      uncommittedBytesMax,
      rng,
    },
    {
      hardState: recovered.hardState,
      configuration: {
        voters: members.filter((member) => !member.isLearner).map((member) => member.ID),
        learners: members.filter((member) => member.isLearner).map((member) => member.ID),
      },
      start: recovered.start,
      tail: recovered.tail,
      lastIndex: recovered.lastIndex,
      applied: state.appliedIndex,
    },
  );
}
