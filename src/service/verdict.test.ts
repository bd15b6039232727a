import { expect, test } from "bun:test";
import { judge, type JudgedMember } from "./verdict";

const member = (id: string, more: Partial<JudgedMember> = {}): JudgedMember => ({
  id,
  name: `n${id}`,
  learner: false,
  ageMs: 500,
  silentMs: undefined,
  leader: "1",
  ...more,
});
const three = [member("1"), member("2"), member("3")];
const gone: Partial<JudgedMember> = { ageMs: undefined, silentMs: 2_000, leader: undefined };
const of = (members: readonly JudgedMember[], alarms: { type: string; member: string }[] = []) => {
  const { kind, sentence } = judge({ self: "1", members, alarms });
  return `${kind}: ${sentence}`;
};

test("says how many members may be lost", () => {
  expect(of(three)).toBe("healthy: Can lose 1 of 3.");
  expect(of([...three, member("4"), member("5")])).toBe("healthy: Can lose 2 of 5.");
  expect(of([...three, member("4", { learner: true })])).toBe("healthy: Can lose 1 of 3.");
  expect(of([member("1")])).toBe("at-risk: Can lose 0 of 1: one member keeps no copy elsewhere.");
  expect(of([member("1"), member("2")])).toBe("at-risk: Can lose 0 of 2: both voters are needed to write.");
});

test("members that do not answer cost spare, then the quorum", () => {
  expect(of([member("1"), member("2"), member("3", gone)])).toBe(
    "degraded: n3 does not answer; the next failure stops writes.",
  );
  expect(of([...three, member("4"), member("5", gone)])).toBe(
    "degraded: n5 does not answer; can lose 1 more.",
  );
  expect(of([...three, member("4", { ...gone, learner: true })])).toBe(
    "degraded: n4 does not answer; can lose 1 more.",
  );
  expect(of([...three, member("4", gone), member("5", gone)].slice(0, 5))).toBe(
    "degraded: n4 and n5 do not answer; the next failure stops writes.",
  );
  expect(of([member("1"), member("2", gone), member("3", gone)])).toBe(
    "no-quorum: 1 of 3 voters answer; 2 are needed to write.",
  );
});

test("a learner that was added and never started takes nothing away", () => {
  const awaited = member("4", { ...gone, learner: true, name: "" });
  expect(judge({ self: "1", members: [...three, awaited], alarms: [] })).toMatchObject({
    kind: "healthy",
    sentence: "Can lose 1 of 3.",
    reasons: ["A learner that was added has not been started yet."],
  });
  expect(of([member("1"), member("2"), member("3", gone), awaited])).toBe(
    "degraded: n3 does not answer; the next failure stops writes.",
  );
  // A voter that was added counts at once.
  expect(of([...three, member("4", { ...gone, name: "" })])).toStartWith("degraded: 4 does not answer");
});

test("figures older than three seconds count for nothing", () => {
  const old: Partial<JudgedMember> = { ageMs: 3_001, silentMs: 1 };
  expect(of([member("1"), member("2", old), member("3", old)])).toStartWith("no-quorum");
  expect(of([member("1"), member("2", { ageMs: 3_000 }), member("3", old)])).toStartWith("degraded");
  expect(of([member("1", { ageMs: 3_001 }), member("2"), member("3")])).toStartWith("unknown");
});

test("members that were only just asked are not called silent", () => {
  const asked: Partial<JudgedMember> = { ageMs: 3_600_000 };
  expect(of([member("1"), member("2", asked), member("3", { ageMs: undefined })])).toBe(
    "unknown: Waiting for n2 and n3 to answer.",
  );
  expect(of([member("1"), member("2", asked), member("3")], [{ type: "corrupt", member: "1" }])).toStartWith(
    "corrupt",
  );
});

test("a member that reaches nobody and knows no leader is isolated", () => {
  const alone = [member("1", { leader: undefined }), member("2", gone), member("3", gone)];
  expect(of(alone)).toBe("isolated: This member reaches none of the 2 others.");
  expect(of([member("2"), member("3")])).toStartWith("isolated: This member is not in the cluster's list");
});

test("members that answer but follow nobody are electing", () => {
  expect(of(three.map((one) => ({ ...one, leader: undefined })))).toBe(
    "no-quorum: There is no leader; an election is under way.",
  );
  expect(of([member("1", { leader: undefined }), member("2"), member("3")])).toBe(
    "at-risk: This member knows no leader, others do.",
  );
});

test("alarms stand above everything that still works", () => {
  expect(of(three, [{ type: "corrupt", member: "3" }])).toStartWith("corrupt: n3 differs from the others");
  expect(of(three, [{ type: "nospace", member: "2" }])).toStartWith("read-only: The database is full");
});

test("what will break soon is said before it does", () => {
  expect(of([member("1"), member("2", { lagMs: 5_000 }), member("3")])).toBe(
    "degraded: n2 is behind by 5 s.",
  );
  expect(of([member("1"), member("2", { diskFreeBytes: 1e8 }), member("3")])).toBe(
    "at-risk: n2 has less than 1 GiB of disk left.",
  );
  expect(of([member("1", { databaseBytes: 81, quotaBytes: 100 }), member("2"), member("3")])).toBe(
    "at-risk: n1 uses 81 % of its quota.",
  );
});
