import { expect, test } from "bun:test";
import { startIdleCollector } from "./idle-collector";

/** Looks of a tenth of a second each, during which the event loop used so much processor time. */
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

const load = Array.from({ length: 15 }, () => 90);

test("two collections follow a load, and none another one without a load", () => {
  const rest = Array.from({ length: 20 }, () => 5);
  expect(collectionsAfter([...load, ...rest])).toEqual([18, 26]);
  expect(collectionsAfter([...load, ...rest, ...load, ...rest])).toEqual([18, 26, 53, 61]);
});

test("the second collection is left out when work comes in between", () => {
  expect(collectionsAfter([...load, 5, 5, 5, 5, 90, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5])).toEqual([18]);
});

test("nothing is collected under load, in a short pause, or after little work", () => {
  expect(collectionsAfter(Array.from({ length: 50 }, () => 90))).toEqual([]);
  expect(collectionsAfter([...load, 5, 5, 90, 5, 5, 90])).toEqual([]);
  expect(collectionsAfter([...load.slice(0, 2), 5, 5, 5, 5, 5, 5, 5, 5])).toEqual([]);
});
