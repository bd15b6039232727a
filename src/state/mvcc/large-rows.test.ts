/** Rows of a megabyte beside rows of a few bytes: no slice may read more than a few megabytes. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import {
  RangeRequest_SortOrder as SortOrder,
  RangeRequest_SortTarget as SortTarget,
} from "../../proto/gen/etcd/rpc_pb";
import { CommandSchema } from "../../proto/gen/keelson/command_pb";
import { LoadingState } from "../generation";
import { openStateDatabase } from "../../storage/sqlite";
import { StateMachine } from "../state-machine";
import { bytes, compact, hashOf, put, rangeOf } from "../testing";
import { parseRecord } from "./record";

const large = "x".repeat(1_000_000);

function mixed(): StateMachine {
  const state = StateMachine.open(openStateDatabase(":memory:"));
  for (let i = 0; i < 300; i++) put(state, `small-${i}`);
  for (let i = 0; i < 40; i++) put(state, `large-${i % 4}`, large);
  for (let i = 0; i < 300; i++) put(state, `more-${i}`);
  return state;
}

test("a hash of large rows is made in slices of a few megabytes, and is the same", () => {
  const state = mixed();
  const run = state.hashKV(0);
  let slices = 1;
  while (run.next(2_000) === undefined) slices++;
  run.close();
  expect(slices).toBeGreaterThanOrEqual(40 / 5);
  expect(slices).toBeLessThan(100);
  expect(hashOf(state).revision).toBe(641);
});

/** The bytes of each slice of a range, and the keys in their order. */
function slicesOf(state: StateMachine, options: Parameters<typeof rangeOf>[2]) {
  const run = state.rangeSliced(rangeOf("\0", "\0", options));
  const sizes: number[] = [];
  const keys: string[] = [];
  for (;;) {
    const { records, done, count } = run.next(2_000, 512 * 1024);
    sizes.push(records.reduce((sum, record) => sum + record.length, 0));
    for (const record of records) {
      const { keyStart, keyEnd } = parseRecord(record);
      keys.push(Buffer.from(record.subarray(keyStart, keyEnd)).toString());
    }
    if (done) return { sizes, keys, count };
  }
}

test("a range over large rows reads one or two of them a slice, in any order, and leaves nothing out", () => {
  const state = mixed();
  const inOrder = Array.from({ length: 300 }, (_, i) => [`small-${i}`, `more-${i}`])
    .flat()
    .concat("large-0", "large-1", "large-2", "large-3")
    .sort();
  const plain = slicesOf(state, {});
  expect(plain.keys).toEqual(inOrder);
  expect(plain.count).toBe(604);
  expect(Math.max(...plain.sizes)).toBeLessThan(2_000_000);
  for (const sortTarget of [SortTarget.VERSION, SortTarget.MOD, SortTarget.VALUE]) {
    const sorted = slicesOf(state, { sortTarget, sortOrder: SortOrder.DESCEND });
    expect(sorted.keys.toSorted()).toEqual(inOrder);
    expect(sorted.count).toBe(604);
    expect(Math.max(...sorted.sizes)).toBeLessThan(2_000_000);
  }
  // Before they were written for the last time, so that values have to be read for their numbers.
  const past = slicesOf(state, { revision: 338n });
  expect(past.keys).toEqual(inOrder.filter((key) => !key.startsWith("more")));
  expect(slicesOf(state, { revision: 338n, keysOnly: true }).keys).toEqual(past.keys);
  expect(slicesOf(state, { revision: 338n, limit: 3n }).keys).toEqual(past.keys.slice(0, 3));
});

test("a deletion that answers large values takes several slices, and answers all", () => {
  const state = mixed();
  const value = { key: bytes("large"), rangeEnd: bytes("largf"), prevKv: true };
  const command = create(CommandSchema, { version: 1, operation: { case: "deleteRange", value } });
  let slices = 1;
  let applied = state.apply(state.appliedIndex + 1, 1, command);
  for (; applied.pending; slices++) applied = state.resume();
  expect(applied.result).toMatchObject({ kind: "delete-range", deleted: 4 });
  expect(slices).toBeGreaterThanOrEqual(3);
});

test("the history of large rows is read bit by bit, and complete", () => {
  const state = mixed();
  const seen: number[] = [];
  for (let next = 2; next <= state.revision;) {
    const found = state.history.changes(next, state.revision, 1_000, 3 * 1024 ** 2);
    const bytes = found.revisions.flatMap(({ changes }) => changes).length;
    expect(bytes).toBeGreaterThan(0);
    seen.push(...found.revisions.map(({ revision }) => revision));
    next = found.next;
  }
  expect(seen).toEqual(Array.from({ length: 640 }, (_, i) => i + 2));
});

test("compaction of large rows takes steps of a few megabytes, and removes the same", () => {
  const state = mixed();
  compact(state, state.revision);
  let steps = 1;
  let removed = 0;
  for (; ; steps++) {
    const step = state.compactionStep(1_000);
    removed += step.removed;
    if (step.done) break;
  }
  expect(removed).toBe(36);
  expect(steps).toBeGreaterThanOrEqual(40 / 3);
});

test("the index is rebuilt over large rows in slices of a megabyte or so", () => {
  const state = mixed();
  state.flush();
  const loading = new LoadingState(state.database);
  let steps = 1;
  while (!loading.step()) steps++;
  expect(steps).toBeGreaterThanOrEqual(40 / 2);
});
