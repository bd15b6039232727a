/** The members of a settled cluster hold the same. */
import type { Verdict } from "./history";

/** What one member says of itself once nothing changes any more. */
export interface MemberState {
  readonly member: string;
  readonly revision: number;
  readonly compactRevision: number;
  /** Hash of all versions up to `revision`. */
  readonly hash: number | bigint | string;
}

/** Compares them: one revision, and one hash wherever the compacted revision is the same. */
export function compareMembers(states: readonly MemberState[]): Verdict {
  const problems: string[] = [];
  const [first] = states;
  const all = states
    .map(
      ({ member, revision, compactRevision, hash }) =>
        `${member}: revision ${revision}, compacted ${compactRevision}, hash ${hash}`,
    )
    .join("; ");
  if (states.some(({ revision }) => revision !== first?.revision))
    problems.push(`members are at different revisions: ${all}`);
  for (const group of Map.groupBy(
    states,
    ({ revision, compactRevision }) => `${revision} ${compactRevision}`,
  ).values()) {
    if (new Set(group.map(({ hash }) => hash)).size > 1) problems.push(`members differ: ${all}`);
  }
  return { problems, counts: { members: states.length } };
}
