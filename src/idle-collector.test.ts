import { expect, test } from "bun:test";
import { startIdleCollector } from "./idle-collector";

/** Looks of half a second each, during which the process used so much processor time. */
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

test("one collection follows a load, and none another one without a load", () => {
  const load = Array.from({ length: 6 }, () => 450);
  const rest = Array.from({ length: 20 }, () => 5);
  expect(collectionsAfter([...load, ...rest])).toEqual([8]);
  expect(collectionsAfter([...load, ...rest, ...load, ...rest])).toEqual([8, 34]);
});

test("nothing is collected under load, in a short pause, or after little work", () => {
  expect(collectionsAfter(Array.from({ length: 50 }, () => 450))).toEqual([]);
  expect(collectionsAfter([500, 500, 500, 500, 500, 5, 450, 5, 450])).toEqual([]);
  expect(collectionsAfter([500, 500, 5, 5, 5, 5, 5, 5])).toEqual([]);
});
