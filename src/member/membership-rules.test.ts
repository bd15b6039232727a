import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { MemberSchema } from "../proto/gen/etcd/rpc_pb";
import { type MembershipChange, membershipRefusal, type MembershipView } from "./membership-rules";

const nowMs = 100_000;
const limits = { strict: true, learnersMax: 1 };

interface Facts {
  readonly learner?: boolean;
  readonly started?: boolean;
  /** For how long it has been heard; undefined: it is down. */
  readonly heardMs?: number | undefined;
  /** How much of the leader's log of 1,000 entries it has. */
  readonly match?: number;
}

/** Members 1, 2, … of which the first leads. */
function view(...facts: readonly Facts[]): MembershipView {
  const members = facts.map(({ learner = false, started = true }, i) =>
    create(MemberSchema, {
      ID: BigInt(i + 1),
      name: started ? `m${i + 1}` : "",
      peerURLs: [`http://m${i + 1}:2380`],
      isLearner: learner,
    }),
  );
  return {
    self: 1n,
    members,
    isRemoved: (id) => id === 99n,
    nowMs,
    activeSinceMs(id) {
      const fact = facts[Number(id) - 1];
      const heardMs = fact === undefined || !("heardMs" in fact) ? 60_000 : fact.heardMs;
      return heardMs === undefined ? undefined : nowMs - heardMs;
    },
    progress: facts.slice(1).map(({ learner = false, match = 1_000 }, i) => ({
      id: BigInt(i + 2),
      learner,
      state: "replicate" as const,
      match,
      next: match + 1,
      inflightBytes: 0,
      inflightMessages: 0,
      recentlyActive: true,
    })),
    lastIndex: 1_000,
  };
}

const up: Facts = {};
const down: Facts = { heardMs: undefined };
const fresh: Facts = { heardMs: 4_999 };
const unstarted: Facts = { started: false, heardMs: undefined };

function add(isLearner = false, peerUrls = ["http://new:2380"], id = 50n): MembershipChange {
  return { type: "add", id, peerUrls, isLearner };
}
const promote = (id: bigint): MembershipChange => ({ type: "promote", id });
const remove = (id: bigint): MembershipChange => ({ type: "remove", id });

describe("adding", () => {
  test.each([
    ["a lone member may always grow", [up], undefined],
    ["two started of two", [up, up], undefined],
    ["one started of two: the quorum of three would not be there", [up, unstarted], "memberNotEnoughStarted"],
    ["one dead of three: remove it first, as with etcd 3.6.16", [up, up, down], "unhealthy"],
    ["three of three", [up, up, up], undefined],
    ["one of four dead", [up, up, up, down], undefined],
    ["two of four dead", [up, up, down, down], "unhealthy"],
    ["heard for less than five seconds", [up, fresh], "unhealthy"],
  ] as const)("a voter: %s", (_title, members, refusal) => {
    expect(membershipRefusal(add(), view(...members), limits)).toBe(refusal);
  });

  test("a learner does not enlarge the quorum of started members, but needs healthy ones", () => {
    expect(membershipRefusal(add(true), view(up, up, up), limits)).toBeUndefined();
    expect(membershipRefusal(add(true), view(up, fresh, fresh), limits)).toBe("unhealthy");
    expect(membershipRefusal(add(true), view(up, up, up, { learner: true }), limits)).toBe("tooManyLearners");
    expect(
      membershipRefusal(add(true), view(up, up, up, { learner: true }), { ...limits, learnersMax: 2 }),
    ).toBeUndefined();
  });

  test("ids and peer URLs are used once", () => {
    expect(membershipRefusal(add(false, ["http://a:1", "http://m2:2380"]), view(up, up, up), limits)).toBe(
      "peerURLExist",
    );
    expect(membershipRefusal(add(false, ["http://a:1"], 2n), view(up, up, up), limits)).toBe("memberExist");
    expect(membershipRefusal(add(false, ["http://a:1"], 99n), view(up, up, up), limits)).toBe(
      "memberNotFound",
    );
  });

  test("without the strict check only what is impossible is refused", () => {
    const loose = { strict: false, learnersMax: 1 };
    expect(membershipRefusal(add(), view(up, unstarted, down), loose)).toBeUndefined();
    expect(membershipRefusal(add(false, ["http://m1:2380"]), view(up), loose)).toBe("peerURLExist");
  });
});

describe("promoting", () => {
  test("only a learner that is known and has nine tenths of the log", () => {
    const learner = (match: number): Facts => ({ learner: true, match });
    expect(membershipRefusal(promote(4n), view(up, up, up, learner(900)), limits)).toBeUndefined();
    expect(membershipRefusal(promote(4n), view(up, up, up, learner(899)), limits)).toBe("learnerNotReady");
    expect(membershipRefusal(promote(2n), view(up, up, up), limits)).toBe("memberNotLearner");
    expect(membershipRefusal(promote(7n), view(up, up, up), limits)).toBe("memberNotFound");
  });

  test("the learner counts as started, and the others must make up the rest of the quorum", () => {
    const learner: Facts = { learner: true };
    expect(membershipRefusal(promote(3n), view(up, unstarted, learner), limits)).toBeUndefined();
    expect(membershipRefusal(promote(4n), view(up, unstarted, unstarted, learner), limits)).toBe(
      "memberNotEnoughStarted",
    );
  });
});

describe("removing", () => {
  test.each([
    ["a healthy one of three healthy", [up, up, up], 2n, undefined],
    ["the dead one of three", [up, up, down], 3n, undefined],
    ["a healthy one while another is dead", [up, up, down], 2n, "unhealthy"],
    ["the leader itself while another is dead", [up, up, down], 1n, "unhealthy"],
    ["one of two", [up, up], 2n, undefined],
    ["a started one where another never started", [up, up, unstarted], 2n, "memberNotEnoughStarted"],
    ["the one that never started", [up, up, unstarted], 3n, undefined],
    ["the last", [up], 1n, "memberNotEnoughStarted"],
    ["one that does not exist", [up, up, up], 7n, "memberNotFound"],
  ] as const)("%s", (_title, members, id, refusal) => {
    expect(membershipRefusal(remove(id), view(...members), limits)).toBe(refusal);
  });

  test("a learner may always go, and the last voter never, checks or none", () => {
    expect(membershipRefusal(remove(4n), view(up, down, down, { learner: true }), limits)).toBeUndefined();
    const loose = { strict: false, learnersMax: 1 };
    expect(membershipRefusal(remove(2n), view(up, up, down), loose)).toBeUndefined();
    expect(membershipRefusal(remove(1n), view(up, { learner: true }), loose)).toBe("memberNotEnoughStarted");
  });
});
