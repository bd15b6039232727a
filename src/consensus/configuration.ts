/** Which single-server membership changes are legal, and what they lead to (thesis §4.1, §4.2.1). */
import type { MemberId } from "../ids";
import type { VoterSets } from "./quorum";
import type { Configuration, ConfigurationChange } from "./types";

/**
 * The configuration after `change`, or undefined when the change is not a legal single step: adding who is
 * there already (a learner may become a voter, a voter never a learner), removing who is not, or removing the
 * last voter.
 */
export function changed(
  configuration: Configuration,
  change: ConfigurationChange,
): Configuration | undefined {
  const { voters, learners } = configuration;
  const id = change.memberId;
  const votes = voters.includes(id);
  const learns = learners.includes(id);
  switch (change.type) {
    case "add-voter":
      if (votes || id === 0n) return undefined;
      return { voters: withMember(voters, id), learners: learners.filter((other) => other !== id) };
    case "add-learner":
      if (votes || learns || id === 0n) return undefined;
      return { voters, learners: withMember(learners, id) };
    case "remove":
      if (!votes && !learns) return undefined;
      if (votes && voters.length === 1) return undefined;
      return {
        voters: voters.filter((other) => other !== id),
        learners: learners.filter((other) => other !== id),
      };
  }
}

/** The sets that must agree. Single-server changes never have an outgoing set. */
export function voterSets(configuration: Configuration): VoterSets {
  return { incoming: configuration.voters, outgoing: [] };
}

function withMember(members: readonly MemberId[], id: MemberId): readonly MemberId[] {
  return [...members, id].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
