/** The rule about what a restart may find on a disk; the other rules are held by planted bugs. */
import { expect, test } from "bun:test";
import type { Entry } from "../../src/consensus/types";
import type { DurableLog, LogBatch } from "../../src/storage/wal/types";
import type { SimulatedHost } from "./host";
import { Referee } from "./referee";
import { Truth } from "./truth";

const host = { name: "m1", life: 1 } as SimulatedHost;

/** Entries of these terms from an index on. */
const batch = (from: number, ...terms: number[]): LogBatch => ({
  entries: terms.map((term, at): Entry => ({
    kind: "command",
    index: from + at,
    term,
    data: new Uint8Array(0),
  })),
});

/** A log with the entries of these terms, behind a start. */
const log = (terms: readonly number[], start = 0): DurableLog =>
  ({
    firstIndex: start + 1,
    lastIndex: terms.length,
    term: (index: number) => (index === 0 ? 0 : terms[index - 1]),
  }) as DurableLog;

/** A member that has entries 1 to 3 of term 1 on its disk, and was given these batches since. */
function refereeWith(...given: LogBatch[]): Referee {
  const referee = new Referee(new Truth(), () => {});
  referee.logOpened(host, log([]));
  const first = batch(1, 1, 1, 1);
  for (const next of [first, ...given]) referee.given(host, next);
  referee.durable(host, first);
  return referee;
}

test("what was durable is there after a restart, with a beginning of what was given besides", () => {
  for (const found of [
    [1, 1, 1],
    [1, 1, 1, 1],
    [1, 1, 1, 1, 2],
    [1, 1, 1, 1, 2, 2],
  ]) {
    expect(() => refereeWith(batch(4, 1), batch(5, 2, 2)).logOpened(host, log(found))).not.toThrow();
  }
  expect(() => refereeWith().logOpened(host, log([1, 1, 1], 2))).not.toThrow();
});

test("a batch that was being written may have overwritten what was durable", () => {
  for (const found of [
    [1, 1, 1],
    [1, 2],
    [1, 2, 2],
  ]) {
    expect(() => refereeWith(batch(2, 2, 2)).logOpened(host, log(found))).not.toThrow();
  }
});

test("a lost, another or an invented entry is found out", () => {
  const violates = (found: readonly number[], ...given: LogBatch[]) =>
    expect(() => refereeWith(...given).logOpened(host, log(found))).toThrow(/^P1: /);
  violates([1, 1]);
  violates([1, 1, 2]);
  violates([1, 1, 1, 1]);
  violates([1, 1], batch(4, 1));
  violates([1, 2, 1], batch(2, 2, 2));
  violates([1, 1, 1, 2], batch(4, 1), batch(5, 2));
});
