import { expect, test } from "bun:test";
import type { Raft } from "../consensus/raft";
import { refuse } from "../errors";
import { Reads } from "./reads";

/** Consensus that remembers what it was asked. */
function askable(answers: { ok: boolean } = { ok: true }) {
  const contexts: number[] = [];
  const raft = {
    readIndex(context: number) {
      if (answers.ok) contexts.push(context);
      return answers;
    },
  } as unknown as Raft;
  return { raft, contexts };
}

function outcome(promise: Promise<void>): { value: string } {
  const seen = { value: "waiting" };
  promise.then(
    () => {
      seen.value = "read";
    },
    (error: Error) => {
      seen.value = error.message;
    },
  );
  return seen;
}

test("[R13] a read that comes while a round is open waits for the next one", async () => {
  const reads = new Reads(0);
  const { raft, contexts } = askable();
  const first = outcome(reads.confirm(0));
  reads.handIn(raft);
  const second = outcome(reads.confirm(0));
  reads.handIn(raft);
  expect(contexts).toEqual([1]);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect([first.value, second.value]).toEqual(["read", "waiting"]);
  reads.handIn(raft);
  expect(contexts).toEqual([1, 2]);
  reads.confirmed(2, 0);
  await Promise.resolve();
  expect(second.value).toBe("read");
});

test("a confirmed read waits until its index is applied", async () => {
  const reads = new Reads(4);
  const { raft } = askable();
  const read = outcome(reads.confirm(0));
  reads.handIn(raft);
  reads.confirmed(1, 6);
  reads.applied(5);
  await Promise.resolve();
  expect(read.value).toBe("waiting");
  reads.applied(6);
  await Promise.resolve();
  expect(read.value).toBe("read");
});

test("all reads of one turn share a round", async () => {
  const reads = new Reads(0);
  const { raft, contexts } = askable();
  const seen = Array.from({ length: 50 }, () => outcome(reads.confirm(0)));
  reads.handIn(raft);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect(contexts).toHaveLength(1);
  expect(new Set(seen.map(({ value }) => value))).toEqual(new Set(["read"]));
});

test("a read is told of a lost leader, of time that ran out, and of a stop", async () => {
  const reads = new Reads(0);
  const answers = { ok: true };
  const { raft } = askable(answers);
  const abandoned = outcome(reads.confirm(0));
  reads.handIn(raft);
  reads.abandoned(1);
  answers.ok = false;
  const late = outcome(reads.confirm(10));
  reads.handIn(raft);
  expect(reads.waiting).toBeTrue();
  reads.sweep(5_000, 7_000);
  reads.sweep(7_010, 7_000);
  const stopped = outcome(reads.confirm(8_000));
  reads.stop();
  await Promise.resolve();
  expect(abandoned.value).toBe(refuse("leaderChanged").message);
  expect(late.value).toBe(refuse("timeout").message);
  expect(stopped.value).toBe(refuse("stopped").message);
  expect(reads.failed).toBe(2);
});

test("[#20418] the confirmation of an abandoned round releases nobody", async () => {
  const reads = new Reads(0);
  const { raft } = askable();
  outcome(reads.confirm(0));
  reads.handIn(raft);
  reads.abandoned(1);
  const next = outcome(reads.confirm(0));
  reads.handIn(raft);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect(next.value).toBe("waiting");
});
