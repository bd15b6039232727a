import { expect, test } from "bun:test";
import { startIdleCollector } from "./idle-collector";

/** Looks of a quarter of a second each, during which the event loop used so much processor time. */
function collectionsAfter(cpuOfLooks: readonly number[]): number[] {
  let cpuMs = 100;
  let look = (): void => {};
  const collectedAt: number[] = [];
  let at = 0;
  startIdleCollector({
    cpuMs: () => cpuMs,
    collect: () => collectedAt.push(at),
    every: (_intervalMs, work) => {
      look = work;
      return () => {};
    },
  });
  for (const used of cpuOfLooks) {
    at++;
    cpuMs += used;
    look();
  }
  return collectedAt;
}

const load = Array.from({ length: 10 }, () => 225);

test("two collections follow a load, and none another one without a load", () => {
  const rest = Array.from({ length: 20 }, () => 5);
  expect(collectionsAfter([...load, ...rest])).toEqual([12, 16]);
  expect(collectionsAfter([...load, ...rest, ...load, ...rest])).toEqual([12, 16, 42, 46]);
});

test("the second collection is left out when work comes in between", () => {
  expect(collectionsAfter([...load, 5, 5, 5, 225, 5, 5, 5, 5, 5, 5, 5])).toEqual([12]);
});

test("nothing is collected under load, in a short pause, or after little work", () => {
  expect(collectionsAfter(Array.from({ length: 50 }, () => 225))).toEqual([]);
  expect(collectionsAfter([...load, 5, 225, 5, 225])).toEqual([]);
  expect(collectionsAfter([250, 250, 5, 5, 5, 5, 5, 5])).toEqual([]);
});
