import { expect, test } from "bun:test";
import fc from "fast-check";

import { Histogram } from "./histogram";

test("percentiles are within 1.6 % or one microsecond above the true value, and never below it", () => {
  const durationMs = fc.double({ min: 0.0001, max: 3_600_000, noNaN: true });
  fc.assert(
    fc.property(fc.array(durationMs, { minLength: 1, maxLength: 200 }), (durations) => {
      const histogram = new Histogram();
      for (const duration of durations) histogram.record(duration);
      const sorted = durations.toSorted((a, b) => a - b);
      expect(histogram.count).toBe(sorted.length);
      expect(histogram.minMs).toBeCloseTo(sorted[0]!, 6);
      expect(histogram.maxMs).toBeCloseTo(sorted.at(-1)!, 6);
      for (const percent of [1, 50, 90, 99, 99.9, 100]) {
        const truth = sorted[Math.max(1, Math.ceil((percent / 100) * sorted.length)) - 1]!;
        const measured = histogram.percentileMs(percent);
        expect(measured).toBeGreaterThanOrEqual(truth * (1 - 1e-9));
        expect(measured).toBeLessThanOrEqual(truth * 1.016 + 0.001);
      }
    }),
    { numRuns: 200 },
  );
});

test("the rows by doubling hold every observation", () => {
  const histogram = new Histogram();
  for (const duration of [0.01, 0.05, 0.5, 1, 3, 1000]) histogram.record(duration, 2);
  const rows = histogram.byDoubling();
  expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(12);
  for (const [i, row] of rows.entries()) if (i > 0) expect(row.fromMs).toBe(rows[i - 1]!.toMs);
});

test("adding two histograms is recording into one", () => {
  const [one, two, both] = [new Histogram(), new Histogram(), new Histogram()];
  for (let i = 1; i < 500; i++) {
    (i % 3 === 0 ? one : two).record(i / 7);
    both.record(i / 7);
  }
  one.add(two);
  for (const percent of [0, 25, 50, 75, 99, 100]) {
    expect(one.percentileMs(percent)).toBe(both.percentileMs(percent));
  }
  expect(one.meanMs).toBeCloseTo(both.meanMs, 9);
});

test("an empty histogram answers zeros", () => {
  const histogram = new Histogram();
  expect([histogram.minMs, histogram.meanMs, histogram.maxMs, histogram.percentileMs(99)]).toEqual([
    0, 0, 0, 0,
  ]);
  expect(histogram.byDoubling()).toEqual([]);
});
