import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { MemberId } from "../ids";
import { isAlone, majority, quorumHolds, quorumIndex, voteResult, type VoterSets } from "./quorum";

// Second opinions: slow, and as the definitions say it.

function naiveIndex(voters: VoterSets, match: ReadonlyMap<MemberId, number>): number {
  const sets = [voters.incoming, voters.outgoing].filter((set) => set.length > 0);
  if (sets.length === 0) return 0;
  let index = 0;
  const held = (candidate: number): boolean =>
    sets.every((set) => set.filter((id) => match.get(id)! >= candidate).length > set.length / 2);
  while (held(index + 1)) index++;
  return index;
}

function naiveResult(voters: VoterSets, votes: ReadonlyMap<MemberId, boolean>): string {
  const ids = [...new Set([...voters.incoming, ...voters.outgoing])];
  const open = ids.filter((id) => !votes.has(id));
  const outcomes = new Set<boolean>();
  // Whatever those who are silent still say.
  for (let bits = 0; bits < 2 ** open.length; bits++) {
    const granted = (id: MemberId): boolean => votes.get(id) ?? (bits & (1 << open.indexOf(id))) !== 0;
    const wins = (set: readonly MemberId[]): boolean => set.filter(granted).length > set.length / 2;
    outcomes.add(wins(voters.incoming) && (voters.outgoing.length === 0 || wins(voters.outgoing)));
  }
  return outcomes.size === 2 ? "pending" : outcomes.has(true) ? "won" : "lost";
}

const ids = fc.uniqueArray(fc.bigInt({ min: 1n, max: 7n }), { maxLength: 7 });
const sets = fc.record({
  incoming: fc.uniqueArray(fc.bigInt({ min: 1n, max: 7n }), { minLength: 1, maxLength: 7 }),
  outgoing: ids,
});

describe("quorum", () => {
  test("the committed index is the highest that a majority of each set holds", () => {
    const matches = fc.array(fc.nat(12), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(sets, matches, (voters, all) => {
        const match = new Map(all.map((index, id) => [BigInt(id), index]));
        expect(quorumIndex(voters, (id) => match.get(id)!)).toBe(naiveIndex(voters, match));
      }),
    );
  });

  test("a vote is decided exactly when those who are silent cannot change it", () => {
    const answers = fc.array(fc.option(fc.boolean(), { nil: undefined }), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(sets, answers, (voters, all) => {
        const votes = new Map<MemberId, boolean>();
        all.forEach((vote, id) => vote !== undefined && votes.set(BigInt(id), vote));
        expect(voteResult(voters, (id) => votes.get(id))).toBe(naiveResult(voters, votes) as "won");
      }),
    );
  });

  test("two quorums of the same sets always share a member", () => {
    fc.assert(
      fc.property(sets, fc.nat(255), fc.nat(255), (voters, a, b) => {
        const holds = (bits: number) => (id: MemberId) => (bits & (1 << Number(id))) !== 0;
        fc.pre(quorumHolds(voters, holds(a)) && quorumHolds(voters, holds(b)));
        expect([...voters.incoming, ...voters.outgoing].some((id) => holds(a)(id) && holds(b)(id))).toBe(
          true,
        );
      }),
    );
  });

  test("majorities of sets that differ by one member share a member", () => {
    for (let count = 1; count < 50; count++)
      expect(majority(count) + majority(count + 1)).toBeGreaterThan(count + 1);
  });

  test("nobody wins among no voters, and nothing is committed by them", () => {
    const nobody = { incoming: [], outgoing: [] };
    expect(voteResult(nobody, () => true)).not.toBe("won");
    expect(quorumIndex(nobody, () => 9)).toBe(0);
    expect(isAlone(nobody, 1n)).toBe(false);
  });
});
