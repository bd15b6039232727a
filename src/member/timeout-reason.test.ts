import { expect, test } from "bun:test";
import type { Peers } from "./ports";
import { timeoutReason, type TimeoutFacts } from "./timeout-reason";

/** Member 1 of three, with the times since which the others are heard. */
function facts(leader: bigint, leaderSinceMs: number, heard: Record<string, number> = {}): TimeoutFacts {
  return {
    self: 1n,
    leader,
    leaderSinceMs,
    electionTimeoutMs: 1_000,
    voters: [1n, 2n, 3n],
    peers: { activeSinceMs: (id: bigint) => heard[String(id)] } as unknown as Peers,
  };
}

test.each([
  ["from just before the leader was known", 9_000, facts(2n, 10_000, { 2: 0 }), "timeoutDueToLeaderFail"],
  ["from long before", 7_999, facts(2n, 10_000, { 2: 0 }), "timeout"],
  ["from after", 10_001, facts(2n, 10_000, { 2: 0 }), "timeout"],
  ["nobody leads", 20_000, facts(0n, 10_000), "timeout"],
  ["the leader is out of reach", 20_000, facts(2n, 10_000), "timeoutDueToConnectionLost"],
  ["the leader was out of reach", 20_000, facts(2n, 10_000, { 2: 20_001 }), "timeoutDueToConnectionLost"],
  ["a leader that hears one of two", 20_000, facts(1n, 10_000, { 3: 0 }), "timeout"],
  ["a leader that hears nobody", 20_000, facts(1n, 10_000), "timeoutDueToConnectionLost"],
] as const)("a proposal %s", (_title, submittedAtMs, known, reason) => {
  expect(timeoutReason(submittedAtMs, known)).toBe(reason);
});
