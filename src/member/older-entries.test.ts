import { expect, test } from "bun:test";
import { VirtualClock } from "../../test/sim/clock";
import type { Raft } from "../consensus/raft";
import type { Entry } from "../consensus/types";
import { catchUpBytesPerSecond, catchUpPieceBytes } from "../limits";
import { OlderEntries } from "./older-entries";

const entryBytes = 16 * 1024;
const lastIndex = 1_000_000;

/** A log of equal entries, and a follower that asks for the next range as soon as it is supplied. */
function setUp(forApply = false) {
  const clock = new VirtualClock();
  const data = new Uint8Array(entryBytes);
  let commit = lastIndex;
  let firstIndex = 1;
  const gone: number[] = [];
  let supplied = 0;
  let largest = 0;
  let scheduled = false;
  const turn = (): void => {
    scheduled = false;
    older.supply();
  };
  const wake = (): void => {
    if (scheduled) return;
    scheduled = true;
    clock.soon(turn);
  };
  const ask = (low: number): void => older.wanted([{ low, high: lastIndex, bytesMax: 1024 ** 2, forApply }]);
  const older = new OlderEntries(
    {
      supplyEntries(low: number, entries: readonly Entry[]) {
        if (entries.length === 0) {
          gone.push(low);
          return;
        }
        const bytes = entries.length * entryBytes;
        supplied += bytes;
        largest = Math.max(largest, bytes);
        ask(low + entries.length);
      },
      status: () => ({ commit, lastIndex }) as ReturnType<Raft["status"]>,
    },
    {
      get firstIndex() {
        return firstIndex;
      },
      read(low: number, _high: number, bytesMax: number) {
        expect(low).toBeGreaterThanOrEqual(firstIndex);
        return Array.from({ length: Math.max(1, Math.floor(bytesMax / entryBytes)) }, (_, i): Entry => ({
          index: low + i,
          term: 1,
          kind: "command",
          data,
        }));
      },
    },
    clock,
    wake,
  );
  clock.run(1_000);
  return {
    clock,
    older,
    begin() {
      older.committed();
      ask(1);
      wake();
    },
    wake,
    stall: () => (commit = lastIndex - 1),
    cut: () => (firstIndex = lastIndex),
    gone,
    largest: () => largest,
    /** Bytes supplied within a time. */
    in(ms: number): number {
      const before = supplied;
      clock.run(ms);
      return supplied - before;
    },
  };
}

test("followers get older entries in small pieces and at a pace", () => {
  const { begin, in: suppliedIn, largest } = setUp();
  begin();
  suppliedIn(1_000);
  const bytes = suppliedIn(10_000) / 10;
  expect(bytes).toBeGreaterThan(0.9 * catchUpBytesPerSecond);
  expect(bytes).toBeLessThan(1.1 * catchUpBytesPerSecond);
  expect(largest()).toBeLessThanOrEqual(catchUpPieceBytes);
});

test("followers catch up however fast the log grows", () => {
  const { begin, older, wake, in: suppliedIn } = setUp();
  begin();
  let bytes = 0;
  const loggedPerTurn = 64 * 1024;
  for (let i = 0; i < 1_000; i++) {
    older.logged(loggedPerTurn);
    wake();
    bytes += suppliedIn(1);
  }
  expect(bytes).toBeGreaterThan(1.9 * 1_000 * loggedPerTurn);
});

test("nothing is paced when nothing can be committed before a follower has caught up", () => {
  const { begin, stall, in: suppliedIn } = setUp();
  begin();
  suppliedIn(200);
  stall();
  // It goes on at its next attempt, and then as fast as its answers come.
  suppliedIn(150);
  expect(suppliedIn(10)).toBeGreaterThan(100 * ((10 * catchUpBytesPerSecond) / 1_000));
});

test("entries for apply are never paced", () => {
  const { begin, in: suppliedIn } = setUp(true);
  begin();
  expect(suppliedIn(10)).toBeGreaterThan(100 * ((10 * catchUpBytesPerSecond) / 1_000));
});

test("a range that the log lost while it waited is gone for the follower that wanted it", () => {
  const { begin, cut, gone, in: suppliedIn } = setUp();
  begin();
  suppliedIn(1_000);
  cut();
  expect(suppliedIn(1_000)).toBe(0);
  expect(gone).toHaveLength(1);
});

test("what was wanted for apply is not read once a snapshot takes its place (simulator, seed 40194)", () => {
  const { older, wake, begin, cut, gone, in: suppliedIn } = setUp(true);
  begin();
  older.replaced();
  cut();
  wake();
  expect(suppliedIn(100)).toBe(0);
  expect(gone).toEqual([]);
});
