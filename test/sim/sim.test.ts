/** The simulator itself: that it repeats, and that a few seeds pass. `bun run sim` runs many. */
import { expect, test } from "bun:test";
import { runSeed } from "./simulation";

test("the same seed has the same trace, and another seed another one", () => {
  const seconds = 4;
  const [first, second, other] = [runSeed(7, { seconds }), runSeed(7, { seconds }), runSeed(8, { seconds })];
  expect(first.violation).toBeUndefined();
  expect(second).toEqual(first);
  expect(other.traceHash).not.toBe(first.traceHash);
});
