import { expect, test } from "bun:test";
import { openStateDatabase } from "../../storage/sqlite";
import { StateMachine } from "../state-machine";
import { compact, hashOf, put, remove } from "../testing";

test("whether anything lives at the hashed revision is found out in slices, too, with the same hash", () => {
  const few = StateMachine.open(openStateDatabase(":memory:"));
  const many = StateMachine.open(openStateDatabase(":memory:"));
  for (const state of [few, many]) {
    put(state, "z");
    put(state, "z");
    remove(state, "z");
    compact(state, 4);
  }
  // None of these lived then, and all of them come first.
  for (let i = 0; i < 2_500; i++) put(many, `a-${i}`);
  const run = many.hashKV(4);
  let slices = 1;
  let answer = run.next(500);
  for (; answer === undefined; slices++) answer = run.next(500);
  expect(slices).toBeGreaterThan(5);
  expect(answer.hash).toBe(hashOf(few, 4).hash);
  expect(many.hashKV(4).next(10_000)?.hash).toBe(answer.hash);
});
