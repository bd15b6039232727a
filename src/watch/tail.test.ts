import { expect, test } from "bun:test";
import { tailBytesMax, tailRevisionsMax } from "./bounds";
import { RevisionEvents } from "./revision-events";
import { Tail } from "./tail";
import { ModelStore } from "./test-support";

const history = new ModelStore();

function entry(revision: number, bytes = 10): RevisionEvents {
  const record = new Uint8Array(bytes);
  return new RevisionEvents(
    { revision, changes: [{ type: "put", key: "a", revision, sub: 0, created: true, record }] },
    history,
  );
}

function revisionsOf(entries: readonly RevisionEvents[]): number[] {
  return entries.map(({ revision }) => revision);
}

test("W30 memory holds exactly what it says, within its bounds", () => {
  const tail = new Tail(5);
  for (let revision = 6; revision < 10; revision++) tail.push(entry(revision));
  expect([tail.from, tail.size]).toEqual([5, 4]);
  expect(revisionsOf(tail.read(5, 10, Infinity))).toEqual([6, 7, 8, 9]);
  expect(revisionsOf(tail.read(8, 1, Infinity))).toEqual([8]);
  expect(revisionsOf(tail.read(6, 10, 0))).toEqual([6]);
  expect(tail.read(10, 10, Infinity)).toEqual([]);
  for (let revision = 10; revision < tailRevisionsMax + 100; revision++) tail.push(entry(revision));
  expect(tail.size).toBe(tailRevisionsMax);
  expect(revisionsOf(tail.read(tail.from, 1, Infinity))).toEqual([100]);
  expect(tail.from).toBe(100);
  tail.restart(7);
  expect([tail.from, tail.size, tail.newest]).toEqual([7, 0, undefined]);
});

test("W30 memory is bounded in bytes, also against one revision that is too large", () => {
  const tail = new Tail(1);
  tail.push(entry(2));
  tail.push(entry(3, tailBytesMax));
  expect([tail.from, tail.size]).toEqual([4, 0]);
  for (let revision = 4; revision < 40; revision++) tail.push(entry(revision, tailBytesMax / 8));
  expect(tail.size).toBe(7);
  expect(tail.from).toBe(33);
  expect(revisionsOf(tail.read(33, 100, Infinity))).toEqual([33, 34, 35, 36, 37, 38, 39]);
});
