import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "bun:test";
import type { Database } from "bun:sqlite";
import { CommandSchema } from "../proto/gen/keelson/command_pb";
import { openStateDatabase } from "../storage/sqlite";
import type { ApplyResult } from "./results";
import { StateMachine } from "./state-machine";
import { bytes, hashOf, type Operation, put, rangeOf } from "./testing";

let database: Database;
let state: StateMachine;
let nowMs = 0;
beforeEach(() => {
  database = openStateDatabase(":memory:");
  state = StateMachine.open(database);
  nowMs = 1_000_000_000_000;
});

/** Applies an operation under a key. */
function keyed(key: string, operation: Operation, hash = key): ApplyResult {
  const command = create(CommandSchema, {
    version: 1,
    idempotencyKey: bytes(key),
    requestHash: bytes(hash),
    proposedAtMs: BigInt(nowMs),
    operation,
  });
  let applied = state.apply(state.appliedIndex + 1, 1, command);
  while (applied.pending) applied = state.resume();
  return applied.result;
}

const putOf = (key: string, value: string, prevKv = false): Operation => ({
  case: "put",
  value: { key: bytes(key), value: bytes(value), prevKv },
});
const valueOf = (key: string): string =>
  Buffer.from(state.range(rangeOf(key)).records[0] ?? []).toString("latin1");

describe("writes under a key", () => {
  test("are applied once, and answered as the first time", () => {
    const first = keyed("k", putOf("a", "1"));
    expect(first).toMatchObject({ kind: "put", revision: 2, version: 1 });
    put(state, "a", "2");
    expect(keyed("k", putOf("a", "1"))).toEqual(first);
    expect(valueOf("a")).toContain("2");
    expect(state.revision).toBe(3);
    const removed = keyed("d", { case: "deleteRange", value: { key: bytes("a"), prevKv: true } });
    expect(removed).toMatchObject({ kind: "delete-range", deleted: 1 });
    expect(keyed("d", { case: "deleteRange", value: { key: bytes("a"), prevKv: true } })).toEqual(removed);
    const granted = keyed("l", { case: "leaseGrant", value: { ID: 7n, TTL: 60n } });
    expect(keyed("l", { case: "leaseGrant", value: { ID: 7n, TTL: 60n } })).toEqual({
      ...granted,
      repeated: true,
    } as ApplyResult);
    const txn: Operation = {
      case: "txn",
      value: { success: [{ request: { case: "requestPut", value: { key: bytes("t") } } }] },
    };
    const ran = keyed("t", txn);
    expect(keyed("t", txn)).toEqual(ran);
  });

  test("another request under the key is refused, and a refused one is not remembered", () => {
    keyed("k", putOf("a", "1"));
    expect(keyed("k", putOf("a", "2"), "other")).toMatchObject({
      kind: "refused",
      name: "idempotencyKeyReused",
    });
    const missing: Operation = { case: "put", value: { key: bytes("b"), lease: 9n } };
    expect(keyed("r", missing)).toMatchObject({ kind: "refused", name: "leaseNotFound" });
    keyed("g", { case: "leaseGrant", value: { ID: 9n, TTL: 60n } });
    expect(keyed("r", missing)).toMatchObject({ kind: "put" });
  });

  test("are remembered for a quarter of an hour of log time, over restarts, and outside HashKV", () => {
    const plain = StateMachine.open(openStateDatabase(":memory:"));
    put(plain, "a", "1");
    keyed("k", putOf("a", "1"));
    expect(hashOf(state).hash).toBe(hashOf(plain).hash);
    state.flush();
    state = StateMachine.open(database);
    nowMs += 15 * 60_000 - 1;
    expect(keyed("k", putOf("a", "1"))).toMatchObject({ kind: "put", revision: 2 });
    expect(state.revision).toBe(2);
    nowMs += 1;
    expect(keyed("k", putOf("a", "1"))).toMatchObject({ kind: "put", revision: 3, version: 2 });
    // A clock that goes back does not take log time with it.
    nowMs -= 3_600_000;
    expect(keyed("k", putOf("a", "1"))).toMatchObject({ revision: 3 });
    state.flush();
    expect(StateMachine.open(database).revision).toBe(3);
  });

  test("past 100,000 a new one is refused, and none is forgotten early", () => {
    for (let at = 0; at < 100_000; at++) keyed(`key-${at}`, putOf("a", ""));
    const { revision } = state;
    expect(keyed("one more", putOf("a", "x"))).toMatchObject({
      kind: "refused",
      name: "tooManyIdempotencyKeys",
    });
    expect(keyed("key-0", putOf("a", ""))).toMatchObject({ kind: "put", revision: 2 });
    expect(state.revision).toBe(revision);
    nowMs += 15 * 60_000;
    expect(keyed("one more", putOf("a", "x"))).toMatchObject({ kind: "put" });
    state.flush();
    expect(StateMachine.open(database).revision).toBe(revision + 1);
  }, 60_000);
});

describe("times of revisions", () => {
  const at = (timeMs: number, key = "a"): void => {
    const command = create(CommandSchema, {
      version: 1,
      proposedAtMs: BigInt(timeMs),
      operation: putOf(key, ""),
    });
    state.apply(state.appliedIndex + 1, 1, command);
  };

  test("each second of writes leaves a mark, by which revisions and times find each other", () => {
    const start = 1_000_000_000_000;
    expect(state.revisionAt(start)).toBeUndefined();
    expect(state.timeOf(1)).toBeUndefined();
    for (const offset of [0, 400, 999, 1_000, 1_500, 5_000, 4_000, 6_500]) at(start + offset);
    // Revisions 2, 3, 4 lie in the first second; 5, 6 in the next; 7 and 8 (whose clock went back) at 5 s; 9 at 6.5 s.
    expect([2, 3, 4, 5, 6, 7, 8, 9, 10].map((revision) => state.timeOf(revision)! - start)).toEqual([
      0, 0, 0, 1_000, 1_000, 5_000, 5_000, 6_500, 6_500,
    ]);
    const asked = [-1, 0, 999, 1_000, 1_999, 2_000, 4_999, 5_000, 6_000, 6_499, 6_500, 7_500, 1e9];
    expect(asked.map((offset) => state.revisionAt(start + offset))).toEqual([
      undefined,
      2,
      2,
      5,
      5,
      6,
      6,
      7,
      8,
      8,
      9,
      9,
      9,
    ]);
    state.flush();
    state = StateMachine.open(database);
    expect(state.timeOf(8)).toBe(start + 5_000);
  });

  test("marks behind compaction go, but for the one that says when its revision was", () => {
    const start = 1_000_000_000_000;
    for (let second = 0; second < 30; second++) at(start + second * 1_000);
    const compaction: Operation = { case: "compaction", value: { revision: 20n } };
    state.apply(state.appliedIndex + 1, 1, create(CommandSchema, { version: 1, operation: compaction }));
    for (let second = 30; second < 40; second++) at(start + second * 1_000);
    expect(state.timeOf(19)).toBeUndefined();
    expect(state.timeOf(20)).toBe(start + 18_000);
    state.flush();
    expect(StateMachine.open(database).timeOf(20)).toBe(start + 18_000);
  });
});

test("the past of a key, newest first, back to what compaction left", () => {
  for (const value of ["1", "2"]) put(state, "h", value);
  state.apply(
    state.appliedIndex + 1,
    1,
    create(CommandSchema, { version: 1, operation: { case: "deleteRange", value: { key: bytes("h") } } }),
  );
  for (const value of ["3", "4"]) put(state, "h", value);
  const versions = (before = Infinity, max = 10): unknown => {
    const { records, more } = state.versions("h", before, max, 1e9);
    return [records.map((record) => Buffer.from(record).toString("latin1").at(-1)), more];
  };
  const found = state.versions("h", Infinity, 10, 1e9).records;
  expect(found).toHaveLength(5);
  expect(versions(Infinity, 2)).toEqual([["4", "3"], true]);
  expect(versions(5, 1)).toEqual([[Buffer.from(found[2]!).toString("latin1").at(-1)], true]);
  state.apply(
    state.appliedIndex + 1,
    1,
    create(CommandSchema, { version: 1, operation: { case: "compaction", value: { revision: 3n } } }),
  );
  expect(versions()).toEqual([["4", "3", expect.any(String), "2"], false]);
  state.apply(
    state.appliedIndex + 1,
    1,
    create(CommandSchema, { version: 1, operation: { case: "compaction", value: { revision: 4n } } }),
  );
  expect(versions()).toEqual([["4", "3"], false]);
  expect(state.versions("none", Infinity, 10, 1e9)).toEqual({ records: [], more: false });
});
