/** Rows of a megabyte beside rows of a few bytes: no slice may read more than a few megabytes. */
import { expect, test } from "bun:test";
import { LoadingState } from "../generation";
import { openStateDatabase } from "../../storage/sqlite";
import { StateMachine } from "../state-machine";
import { compact, hashOf, put } from "../testing";

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
