import { expect, test } from "bun:test";
import { SeededRng } from "./rng";

const draws = (rng: SeededRng) => Array.from({ length: 8 }, () => rng.below(2 ** 32));

test("the same seed gives the same draws, and every fork its own", () => {
  expect(draws(new SeededRng(1))).toEqual(draws(new SeededRng(1)));
  const parent = new SeededRng(1);
  const forks = Array.from({ length: 64 }, (_, stream) => draws(parent.fork(stream)).join());
  expect(new Set(forks).size).toBe(64);
});

test("draws stay below their bound and reach all of it", () => {
  const rng = new SeededRng(7);
  const seen = new Set(Array.from({ length: 1_000 }, () => rng.below(10)));
  expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
