import { expect, test } from "bun:test";
import { VirtualClock } from "../../test/sim/clock";
import { refuse as refusal } from "../errors";
import { type AutoCompaction, startAutoCompaction } from "./auto-compaction";

const minuteMs = 60_000;

function watched(options: AutoCompaction, refuse: () => boolean = () => false, error = new Error("refused")) {
  const clock = new VirtualClock();
  const compacted: { revision: number; atMinutes: number }[] = [];
  const asked: number[] = [];
  const target = {
    leader: true,
    // One write a second.
    get revision() {
      return 1 + Math.floor(clock.monotonicMs() / 1_000);
    },
    isLeader: () => target.leader,
    compact(revision: number): Promise<void> {
      asked.push(revision);
      if (refuse()) return Promise.reject(error);
      compacted.push({ revision, atMinutes: Math.round(clock.monotonicMs() / minuteMs) });
      return Promise.resolve();
    },
    report() {},
  };
  const stop = startAutoCompaction(options, clock, target);
  return { clock, asked, compacted, target, stop };
}

test("by period: each period, to the revision seen a period ago", () => {
  const { clock, compacted, stop } = watched({ mode: "periodic", periodMs: 10 * minuteMs });
  clock.run(31 * minuteMs);
  expect(compacted).toEqual([
    { revision: 1, atMinutes: 10 },
    { revision: 601, atMinutes: 20 },
    { revision: 1201, atMinutes: 30 },
  ]);
  stop();
  clock.run(60 * minuteMs);
  expect(compacted).toHaveLength(3);
});

test("by a period longer than an hour: every hour, to the revision seen a period ago", () => {
  const { clock, compacted } = watched({ mode: "periodic", periodMs: 180 * minuteMs });
  clock.run(301 * minuteMs);
  expect(compacted).toEqual([
    { revision: 1, atMinutes: 180 },
    { revision: 3601, atMinutes: 240 },
    { revision: 7201, atMinutes: 300 },
  ]);
});

test("by revision: every five minutes, to the current less the retained", () => {
  const { clock, compacted } = watched({ mode: "revision", retainedRevisions: 500 });
  clock.run(16 * minuteMs);
  expect(compacted).toEqual([
    { revision: 101, atMinutes: 10 },
    { revision: 401, atMinutes: 15 },
  ]);
});

test("a follower does not compact, and a refusal is repeated at the next sample", () => {
  let refused = 1;
  const { clock, compacted, target } = watched(
    { mode: "periodic", periodMs: 10 * minuteMs },
    () => refused-- > 0,
  );
  target.leader = false;
  clock.run(15 * minuteMs);
  expect(compacted).toEqual([]);
  target.leader = true;
  clock.run(2.5 * minuteMs);
  expect(compacted.map(({ atMinutes }) => atMinutes)).toEqual([17]);
});

test("what somebody else has compacted already counts as done", () => {
  const { clock, asked } = watched(
    { mode: "periodic", periodMs: 10 * minuteMs },
    () => true,
    refusal("compacted"),
  );
  clock.run(19 * minuteMs);
  expect(asked).toEqual([1]);
});
