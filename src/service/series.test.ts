import { expect, test } from "bun:test";
import { BucketWindow, quantileMs, Series, seriesNames, seriesPoints, seriesStepMs } from "./series";
import { CommitTimes } from "./commit-times";
import { mergedEvents, type Observed, RecentEvents } from "./recent-events";

const column = seriesNames.indexOf("term");

test("a series keeps an hour, with gaps where nothing was measured", () => {
  const series = new Series();
  const startMs = 1_700_000_000_000;
  for (const step of [0, 1, 4]) series.add(startMs + step * seriesStepMs, { term: step });
  const first = Math.floor(startMs / seriesStepMs);
  expect(series.column("term", first, first + 4)).toEqual([0, 1, null, null, 4]);
  series.add(startMs + (seriesPoints + 1) * seriesStepMs, { term: 9 });
  expect(series.column("term", first, first + 1)).toEqual([null, null]);
  expect(series.at(first + 4)?.[column]).toBe(4);
});

test("what is new travels, and gives the same series elsewhere", () => {
  const series = new Series();
  const copy = new Series();
  for (let step = 1_000; step < 1_000 + 2 * seriesPoints; step++) {
    if (step % 7 !== 0) series.add(step * seriesStepMs, { term: step });
    if (step % 100 === 0) copy.take(series.after(copy.last));
  }
  copy.take(series.after(copy.last));
  const from = series.last - seriesPoints + 1;
  expect(copy.column("term", from, series.last)).toEqual(series.column("term", from, series.last));
  expect(series.after(series.last).points).toEqual([]);
});

test("quantiles come from buckets, of what was counted in between", () => {
  const bounds = [0.001, 0.002, 0.004];
  expect(quantileMs(bounds, [0, 0, 0, 0], 0.99)).toBeUndefined();
  expect(quantileMs(bounds, [100, 0, 0, 0], 0.5)).toBeCloseTo(0.5);
  expect(quantileMs(bounds, [0, 100, 0, 0], 0.99)).toBeCloseTo(1.99);
  expect(quantileMs(bounds, [0, 0, 0, 10], 0.99)).toBeCloseTo(7.96);
  const window = new BucketWindow();
  expect(window.next({ bounds, counts: [1, 2, 3, 4] })).toBeUndefined();
  expect([...window.next({ bounds, counts: [2, 2, 5, 4] })!]).toEqual([1, 0, 2, 0]);
});

test("a distance in entries becomes one in time", () => {
  const times = new CommitTimes();
  expect(times.lagMs(0, 0)).toBe(0);
  for (let second = 1; second <= 10; second++) times.note(second * 100, second * 1_000);
  expect(times.lagMs(1_000, 10_500)).toBe(0);
  expect(times.lagMs(999, 10_500)).toBe(500);
  expect(times.lagMs(100, 10_500)).toBe(8_500);
  expect(times.lagMs(0, 10_500)).toBe(9_500);
  times.note(1_000, 11_000);
  expect(times.lagMs(999, 11_000)).toBe(1_000);
});

test("events are what changed, and each is told once for the cluster", () => {
  const base: Observed = {
    leader: "1",
    term: 2,
    members: [
      { id: "1", name: "n1", learner: false },
      { id: "2", name: "n2", learner: true },
    ],
    alarms: [],
    reached: new Set(["2"]),
    compactedRevision: -1,
    snapshotsInstalled: 0,
    stallMs: 0,
  };
  const seen = ["1", "2"].map((self) => {
    const events = new RecentEvents(self);
    events.observe(base, 1_000);
    events.observe(base, 2_000);
    const promoted = base.members.map((member) => ({ ...member, learner: false }));
    events.observe({ ...base, members: promoted, alarms: [{ type: "nospace", member: "2" }] }, 3_000);
    events.observe({ ...base, members: promoted, leader: undefined, term: 3, reached: new Set() }, 4_000);
    events.observe({ ...base, members: promoted.slice(0, 1), leader: "2", term: 3, stallMs: 700 }, 5_000);
    return events.latest;
  });
  expect(mergedEvents(seen, 20).map(({ text }) => text)).toEqual([
    "n1 stood still for 0.7 s",
    "n2 leads in term 3",
    "n2 removed",
    "n2 stood still for 0.7 s",
    "Alarm NOSPACE of n2 disarmed",
    "n2 cannot be reached",
    "The leader was lost",
    "Alarm NOSPACE raised for n2",
    "n2 promoted to voter",
    "n1 started",
    "n2 started",
  ]);
});
