import { expect, test } from "bun:test";
import { SeededRng } from "../rng";
import { endOfKeys, IntervalIndex } from "./interval-index";

test("W5 W12 the index finds exactly the ranges that hold a key, through inserts and removes", () => {
  const rng = new SeededRng(7);
  const index = new IntervalIndex<number>();
  const ranges = new Map<number, readonly [string, string]>();
  const key = () => {
    let text = "";
    for (let i = rng.below(4); i >= 0; i--) text += String.fromCharCode(rng.below(4) * 85);
    return text;
  };
  for (let step = 0; step < 4_000; step++) {
    if (rng.below(5) < 3 || ranges.size === 0) {
      const [a, b] = [key(), rng.below(5) === 0 ? endOfKeys : key()];
      if (a === b) continue;
      const range = a < b ? ([a, b] as const) : ([b, a] as const);
      ranges.set(step, range);
      index.insert(range[0], range[1], step);
    } else {
      const all = [...ranges.keys()];
      const value = all[rng.below(all.length)]!;
      const [start, end] = ranges.get(value)!;
      expect(index.remove(start, end, value)).toBe(true);
      expect(index.remove(start, end, value)).toBe(false);
      ranges.delete(value);
    }
    expect(index.size).toBe(ranges.size);
    const probe = key();
    const found: number[] = [];
    index.stab(probe, (value) => found.push(value));
    const expected = [...ranges].filter(([, [start, end]]) => start <= probe && probe < end);
    expect(found.sort()).toEqual(expected.map(([value]) => value).sort());
  }
});
