import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { openStateDatabase } from "../storage/sqlite";
import { RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import { DamagedStateError } from "./damage";
import { LoadingState } from "./generation";
import { StateMachine } from "./state-machine";
import { apply, bytes, compact, put, remove } from "./testing";

const everything = create(RangeRequestSchema, { key: bytes("\0"), rangeEnd: bytes("\0") });

function grow(keys: number, valueBytes = 1): StateMachine {
  const state = StateMachine.open(openStateDatabase(":memory:"));
  for (let i = 0; i < keys; i++) put(state, `k${String(i).padStart(5, "0")}`, "v".repeat(valueBytes));
  return state;
}

/** A state as a snapshot would bring it: the same history, further on. */
function later(keys: number) {
  const state = grow(keys);
  apply(state, { case: "leaseGrant", value: { ID: 7n, TTL: 60n } });
  put(state, "leased", "v", 7n);
  remove(state, "k00001");
  compact(state, keys);
  const content = state.range(everything);
  state.flush();
  // From here on the database is the other's.
  return { state, content, loading: new LoadingState(state.database) };
}

test("a state is read in slices, and then takes the place of another", () => {
  const state = grow(10);
  const { state: source, content, loading } = later(2_500);
  let slices = 1;
  while (!loading.step()) slices++;
  expect(slices).toBeGreaterThanOrEqual(3);
  const before = state.history;
  const retired = state.replace(loading);
  expect(retired.readers).toBe(0);
  expect(state.history).not.toBe(before);
  expect(state.appliedIndex).toBe(source.appliedIndex);
  expect(state.revision).toBe(source.revision);
  expect(state.compactedRevision).toBe(2_500);
  expect(state.range(everything)).toEqual(content);
  expect(state.lease(7n)?.keys).toEqual(["leased"]);
  put(state, "after", "v", 7n);
  expect(state.lease(7n)?.keys).toEqual(["after", "leased"]);
});

test("a read that began before goes on at its revision, until its database is closed", () => {
  // Too large for the cache of records.
  const state = grow(300, 3_000);
  state.flush();
  const reading = state.rangeSliced(everything);
  const first = reading.next(100, Infinity);
  const lost = state.rangeSliced(everything);
  const { loading } = later(2_500);
  while (!loading.step());
  const retired = state.replace(loading);
  expect(retired.readers).toBe(2);
  const records = [...first.records];
  for (let slice = first; !slice.done;) {
    slice = reading.next(100, Infinity);
    records.push(...slice.records);
  }
  expect(records.length).toBe(300);
  expect(reading.revision).toBe(301);
  expect(retired.readers).toBe(1);
  retired.close();
  expect(() => lost.next(100, Infinity)).toThrow("etcdserver: request timed out");
  lost.close();
  expect(state.range(everything).count).toBe(2_500);
});

test("what was being applied is dropped with the state that it was applied to", () => {
  const state = StateMachine.open(openStateDatabase(":memory:"), { sliceKeys: 10 });
  for (let i = 0; i < 100; i++) put(state, `k${i}`);
  const pending = state.apply(state.appliedIndex + 1, 1, {
    $typeName: "keelson.Command",
    version: 1,
    requestId: undefined,
    user: "",
    authRevision: 0n,
    idempotencyKey: new Uint8Array(0),
    requestHash: new Uint8Array(0),
    proposedAtMs: 0n,
    operation: {
      case: "deleteRange",
      value: {
        $typeName: "etcdserverpb.DeleteRangeRequest",
        key: bytes("k"),
        rangeEnd: bytes("l"),
        prevKv: false,
      },
    },
  });
  expect(pending.pending).toBe(true);
  const { loading, state: source } = later(2_500);
  while (!loading.step());
  const retired = state.replace(loading);
  expect(state.pending).toBe(false);
  retired.close();
  put(state, "next");
  expect(state.revision).toBe(source.revision + 1);
});

test("a state goes neither back nor half read", () => {
  const state = grow(10);
  const { loading } = later(2_500);
  loading.step();
  expect(() => state.replace(loading)).toThrow("not read to its end");
  const older = grow(3);
  older.flush();
  const behind = new LoadingState(older.database);
  while (!behind.step());
  expect(() => state.replace(behind)).toThrow("back");
});

test("damage is met while the state is read, before anything is replaced", () => {
  const { state: source } = later(1_500);
  source.database.run("UPDATE revisions SET record = zeroblob(length(record)) WHERE sequence = 1400");
  const loading = new LoadingState(source.database);
  expect(() => {
    while (!loading.step());
  }).toThrow(DamagedStateError);
});
