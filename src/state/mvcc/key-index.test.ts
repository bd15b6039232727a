import { expect, test } from "bun:test";
import { SeededRng } from "../../rng";
import { KeyEntry } from "./key-entry";
import { KeyIndex } from "./key-index";

function compare(
  index: KeyIndex,
  expected: Map<string, boolean>,
  low: string,
  high: string | undefined,
): void {
  const within = [...expected.keys()]
    .filter((key) => key >= low && (high === undefined || key < high))
    .sort();
  const walked: string[] = [];
  index.walk(low, high, (key) => walked.push(key) > 0);
  expect(walked).toEqual(within);
  const living: string[] = [];
  index.walkLive(low, high, (key, entry) => (entry.live ? living.push(key) > 0 : true));
  expect(living).toEqual(within.filter((key) => expected.get(key)));
  expect(index.countEntries(low, high)).toBe(within.length);
  expect(index.countLive(low, high)).toBe(within.filter((key) => expected.get(key)).length);
}

test.each(["random", "rising", "falling"])(
  "thousands of keys in %s order stay sorted and counted",
  (order) => {
    const rng = new SeededRng(7);
    const index = new KeyIndex();
    const expected = new Map<string, boolean>();
    const name = (n: number) => n.toString(36).padStart(4, "0");
    for (let i = 0; i < 8000; i++) {
      const n = order === "random" ? rng.below(6000) : order === "rising" ? i : 8000 - i;
      const key = name(n);
      const entry = index.find(key);
      if (entry === undefined) {
        const live = rng.below(4) > 0;
        index.insert(key, new KeyEntry(i, live ? i + 1 : -i - 1, 1, 1, undefined));
        expected.set(key, live);
      } else if (entry.live) {
        entry.supersede(i, -i - 1, 0, 0, undefined);
        index.adjustLive(-1);
        expected.set(key, false);
      } else {
        index.remove();
        expected.delete(key);
      }
    }
    expect(index.size).toBe(expected.size);
    compare(index, expected, "", undefined);
    for (let i = 0; i < 60; i++) {
      compare(index, expected, name(rng.below(8100)), i % 7 === 0 ? undefined : name(rng.below(8100)));
    }
    // Emptying it leaves nothing behind.
    for (const [key, live] of expected) {
      index.find(key);
      if (live) index.adjustLive(-1);
      index.remove();
    }
    compare(index, new Map(), "", undefined);
    expect([index.size, index.live]).toEqual([0, 0]);
  },
);

test("a walk over live keys passes over what a large delete has left", () => {
  const index = new KeyIndex();
  for (let i = 0; i < 100_000; i++) {
    const key = String(i).padStart(6, "0");
    index.find(key);
    index.insert(key, new KeyEntry(i, i < 70_000 ? -i - 1 : i + 1, 1, 1, undefined));
  }
  let visited = 0;
  let found = "";
  index.walkLive("000000", undefined, (key, entry) => {
    visited++;
    found = key;
    return !entry.live;
  });
  expect(found).toBe("070000");
  expect(visited).toBeLessThanOrEqual(513);
});

test("a walk stops where it is told to", () => {
  const index = new KeyIndex();
  for (const key of ["a", "b", "c"]) {
    index.find(key);
    index.insert(key, new KeyEntry(1, 1, 1, 1, undefined));
  }
  const seen: string[] = [];
  index.walk("a\0", undefined, (key) => seen.push(key) < 1);
  expect(seen).toEqual(["b"]);
});

test("an entry finds the version for every revision, while the oldest are dropped one by one", () => {
  const entry = new KeyEntry(10, 1, 10, 1, undefined);
  for (let i = 1; i < 500; i++)
    entry.supersede(10 + i * 2, i % 10 === 9 ? -(i + 1) : i + 1, 10, i, undefined);
  for (let dropped = 0; dropped < 499; dropped++) {
    expect(entry.retained).toBe(500 - dropped);
    expect(Math.abs(entry.oldestSequence)).toBe(dropped + 1);
    for (const revision of [9, 10 + dropped * 2 - 1, 10 + dropped * 2, 700, 1008, 5000]) {
      const version = Math.min(499, Math.floor((revision - 10) / 2));
      const expected = version < dropped || revision < 10 || version % 10 === 9 ? 0 : version + 1;
      expect(entry.sequenceAt(revision)).toBe(expected);
    }
    entry.dropOldest();
  }
  expect(entry.retained).toBe(1);
});
