import { expect, test } from "bun:test";
import type { Raft } from "../consensus/raft";
import { refuse } from "../errors";
import { type AskLeader, Reads } from "./reads";

const noQuestion: AskLeader = () => {
  throw new Error("nobody else is to be asked");
};

/** Consensus that remembers what it was asked. `leader` 0: nobody leads; another: that member does. */
function askable(answers: { ok: boolean; leader: bigint; term: number } = { ok: true, leader: 1n, term: 1 }) {
  const contexts: number[] = [];
  const raft = {
    readIndex(context: number) {
      if (answers.ok) contexts.push(context);
      return answers;
    },
    briefStatus: () => answers,
  } as unknown as Raft;
  return { raft, contexts };
}

/** A leader elsewhere, and what it was asked. */
function elsewhere() {
  const answers = { ok: false, leader: 7n, term: 3 };
  const questions: [bigint, number][] = [];
  const ask: AskLeader = (leader, context) => void questions.push([leader, context]);
  return { answers, questions, ask, ...askable(answers) };
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
  reads.handIn(raft, 0, noQuestion);
  const second = outcome(reads.confirm(0));
  reads.handIn(raft, 0, noQuestion);
  expect(contexts).toEqual([1]);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect([first.value, second.value]).toEqual(["read", "waiting"]);
  reads.handIn(raft, 0, noQuestion);
  expect(contexts).toEqual([1, 2]);
  reads.confirmed(2, 0);
  await Promise.resolve();
  expect(second.value).toBe("read");
});

test("a confirmed read waits until its index is applied", async () => {
  const reads = new Reads(4);
  const { raft } = askable();
  const read = outcome(reads.confirm(0));
  reads.handIn(raft, 0, noQuestion);
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
  reads.handIn(raft, 0, noQuestion);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect(contexts).toHaveLength(1);
  expect(new Set(seen.map(({ value }) => value))).toEqual(new Set(["read"]));
});

test("a read is told of time that ran out, and of a stop", async () => {
  const reads = new Reads(0);
  const { raft } = askable({ ok: false, leader: 0n, term: 0 });
  const late = outcome(reads.confirm(10));
  reads.handIn(raft, 10, noQuestion);
  expect(reads.waiting).toBeTrue();
  reads.sweep(5_000, 7_000);
  expect(late.value).toBe("waiting");
  reads.sweep(7_010, 7_000);
  const stopped = outcome(reads.confirm(8_000));
  reads.stop();
  await Promise.resolve();
  expect(late.value).toBe(refuse("timeout").message);
  expect(stopped.value).toBe(refuse("stopped").message);
  expect(reads.failed).toBe(1);
});

test("a read whose leader was lost here is asked again of the next one, in a fresh question", async () => {
  const reads = new Reads(0);
  const here = askable();
  const read = outcome(reads.confirm(0));
  reads.handIn(here.raft, 0, noQuestion);
  reads.abandoned(1);
  const { raft, questions, ask } = elsewhere();
  reads.handIn(raft, 1, ask);
  expect(questions).toEqual([[7n, 2]]);
  reads.confirmed(2, 0);
  await Promise.resolve();
  expect(read.value).toBe("read");
});

test("a lost question is asked again after half a second, and any of its answers will do", async () => {
  const reads = new Reads(0);
  const { raft, questions, ask } = elsewhere();
  const read = outcome(reads.confirm(0));
  for (let nowMs = 0; nowMs <= 1_000; nowMs += 100) reads.handIn(raft, nowMs, ask);
  expect(questions).toEqual([
    [7n, 1],
    [7n, 2],
    [7n, 3],
  ]);
  reads.confirmed(2, 0);
  await Promise.resolve();
  expect(read.value).toBe("read");
});

test("another leader is asked at once; the same one that refused, after a pause", () => {
  const reads = new Reads(0);
  const { raft, questions, ask, answers } = elsewhere();
  outcome(reads.confirm(0));
  reads.handIn(raft, 0, ask);
  reads.refused(1, 10);
  reads.handIn(raft, 20, ask);
  expect(questions).toHaveLength(1);
  reads.handIn(raft, 110, ask);
  expect(questions).toEqual([
    [7n, 1],
    [7n, 2],
  ]);
  answers.leader = 8n;
  answers.term = 4;
  reads.handIn(raft, 111, ask);
  expect(questions.at(-1)).toEqual([8n, 3]);
});

test("[R13] a read that came after the first question waits, whatever is answered to its repetitions", async () => {
  const reads = new Reads(0);
  const { raft, ask } = elsewhere();
  const first = outcome(reads.confirm(0));
  reads.handIn(raft, 0, ask);
  const second = outcome(reads.confirm(1));
  reads.handIn(raft, 600, ask);
  reads.confirmed(2, 0);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect([first.value, second.value]).toEqual(["read", "waiting"]);
});

test("rounds that were confirmed out of order are each served at their index", async () => {
  const reads = new Reads(0);
  const { raft, ask } = elsewhere();
  const first = outcome(reads.confirm(0));
  reads.handIn(raft, 0, ask);
  reads.confirmed(1, 9);
  const second = outcome(reads.confirm(1));
  reads.handIn(raft, 1, ask);
  reads.confirmed(2, 5);
  reads.applied(5);
  await Promise.resolve();
  expect([first.value, second.value]).toEqual(["waiting", "read"]);
  reads.applied(9);
  await Promise.resolve();
  expect(first.value).toBe("read");
});

test("[#20418] the confirmation of an abandoned round releases nobody", async () => {
  const reads = new Reads(0);
  const { raft } = askable();
  outcome(reads.confirm(0));
  reads.handIn(raft, 0, noQuestion);
  reads.abandoned(1);
  const next = outcome(reads.confirm(0));
  reads.handIn(raft, 0, noQuestion);
  reads.confirmed(1, 0);
  await Promise.resolve();
  expect(next.value).toBe("waiting");
});
