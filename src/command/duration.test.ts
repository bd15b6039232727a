import { expect, test } from "bun:test";

import { formatDurationMs, parseDurationMs } from "./duration";
import { editDistance, nearestName } from "./nearest";

test.each([
  ["0", 0],
  ["1h30m", 5_400_000],
  ["100ms", 100],
  ["1.5s", 1500],
  ["-2m", -120_000],
  ["+1us", 0.001],
  [".5s", 500],
  ["1h1m1s1ms", 3_661_001],
  ["250µs", 0.25],
])("%s is %d milliseconds", (text, durationMs) => {
  expect(parseDurationMs(text)).toBe(durationMs);
});

test.each(["", "5", "1d", "h", "1 h", "1h ", "--1s", "1e3s", "300000000h", ".s"])(
  "%j is not a duration",
  (text) => {
    expect(parseDurationMs(text)).toBeUndefined();
  },
);

test.each([0, 0.25, 100, 1500, 60_000, 5_400_000, 3_661_001, -1000])(
  "a formatted duration of %d ms reads as itself",
  (durationMs) => {
    expect(parseDurationMs(formatDurationMs(durationMs))).toBe(durationMs);
  },
);

test("the distance counts insertions, deletions, replacements and swaps", () => {
  expect(editDistance("", "abc")).toBe(3);
  expect(editDistance("election", "elction")).toBe(1);
  expect(editDistance("name", "nmae")).toBe(1);
  expect(editDistance("kitten", "sitting")).toBe(3);
});

test("what is too far away is no suggestion", () => {
  expect(nearestName("zzzzzzzz", ["name", "data-dir"])).toBeUndefined();
  expect(nearestName("data_dir", ["name", "data-dir"])).toBe("data-dir");
});
