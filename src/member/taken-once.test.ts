import { expect, test } from "bun:test";
import { SeededRng } from "../rng";
import { TakenOnce } from "./taken-once";

test("each number of each life is taken once, in whatever order they come", () => {
  const rng = new SeededRng(5);
  for (let round = 0; round < 50; round++) {
    const once = new TakenOnce();
    const taken = new Map<string, number>();
    for (let i = 0; i < 500; i++) {
      const from = BigInt(1 + rng.below(3));
      const incarnation = BigInt(rng.below(2));
      const number = 1 + rng.below(100);
      const key = `${from}/${incarnation}/${number}`;
      if (once.take(from, incarnation, number)) taken.set(key, (taken.get(key) ?? 0) + 1);
      else expect(taken.get(key)).toBe(1);
    }
    expect(new Set(taken.values())).toEqual(new Set([1]));
  }
});

test("memory is bounded: what was skipped long ago counts as taken", () => {
  const once = new TakenOnce();
  expect(once.take(1n, 1n, 1)).toBeTrue();
  expect(once.take(1n, 1n, 1_000_000)).toBeTrue();
  expect(once.take(1n, 1n, 2)).toBeFalse();
  expect(once.take(1n, 1n, 999_000)).toBeTrue();
  expect(once.take(1n, 1n, 999_000)).toBeFalse();
  once.clear();
  expect(once.take(1n, 1n, 2)).toBeTrue();
});

test("a member that restarts over and over is heard in each of its lives, and so are the others", () => {
  const once = new TakenOnce();
  expect(once.take(2n, 7n, 1)).toBeTrue();
  for (let life = 1n; life <= 10_000n; life++) {
    expect(once.take(1n, life, 1)).toBeTrue();
    expect(once.take(1n, life, 1)).toBeFalse();
    if (life > 50n) expect(once.take(1n, life - 50n, 1)).toBeFalse();
  }
  expect(once.take(2n, 7n, 1)).toBeFalse();
  expect(once.take(3n, 1n, 1)).toBeTrue();
});
