import { expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { refuse, type RefusalName } from "../errors";
import {
  DeleteRangeRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  type RequestOpSchema,
  TxnRequestSchema,
} from "../proto/gen/etcd/rpc_pb";
import { bytes } from "./testing";
import { checkDeleteRange, checkPut, checkRange, checkTxn, isReadOnlyTxn } from "./validate";

type Op = MessageInitShape<typeof RequestOpSchema>;
type Txn = MessageInitShape<typeof TxnRequestSchema>;
const put = (key: string): Op => ({ request: { case: "requestPut", value: { key: bytes(key) } } });
const del = (key: string, end = ""): Op => ({
  request: { case: "requestDeleteRange", value: { key: bytes(key), rangeEnd: bytes(end) } },
});
const read = (key: string): Op => ({ request: { case: "requestRange", value: { key: bytes(key) } } });
const nest = (success: Op[], failure: Op[] = []): Op => ({
  request: { case: "requestTxn", value: { success, failure } },
});
/** A number that no enum has, as the wire may carry it. */
const unknown = (value: number): number => value;
const check = (txn: Txn, max = 128) => checkTxn(create(TxnRequestSchema, txn), max);

test.each<[string, RefusalName | undefined, Txn]>([
  ["one key put twice", "duplicateKey", { success: [put("a"), put("a")] }],
  ["the same in the other branch", "duplicateKey", { failure: [put("a"), put("a")] }],
  ["a key in both branches", undefined, { success: [put("a")], failure: [put("a")] }],
  ["a put inside a deleted range, in either order", "duplicateKey", { success: [put("b"), del("a", "c")] }],
  ["a put at the end of a deleted range", undefined, { success: [del("a", "c"), put("c")] }],
  ["a put of a deleted key", "duplicateKey", { success: [del("a"), put("a")] }],
  ["overlapping deletes", undefined, { success: [del("a", "c"), del("b", "d"), del("b")] }],
  ["reads of what is written", undefined, { success: [put("a"), read("a"), del("b", "c"), read("b")] }],
  ["a nested put of the parent's key", "duplicateKey", { success: [put("a"), nest([put("a")])] }],
  [
    "a nested put under the parent's delete",
    "duplicateKey",
    { success: [del("a", "c"), nest([], [put("b")])] },
  ],
  ["a parent's put under a nested delete", "duplicateKey", { success: [nest([del("a", "c")]), put("b")] }],
  ["both branches of one nested txn", undefined, { success: [nest([put("a")], [put("a")])] }],
  ["two nested txns", "duplicateKey", { success: [nest([put("a")]), nest([], [put("a")])] }],
  // Observable on etcd 3.6: a delete to the end is not seen, and the txn runs in order.
  ["a put under a delete to the end", undefined, { success: [del("a", "\0"), put("b")] }],
])("%s: %p", (_, refusal, txn) => {
  if (refusal === undefined) check(txn);
  else expect(() => check(txn)).toThrow(refuse(refusal).message);
});

test("probes 8, 9: the longest list bounds a txn, and what it leaves bounds those nested in it", () => {
  const puts = (count: number, prefix: string) =>
    Array.from({ length: count }, (_, i) => put(`${prefix}${i}`));
  check({ success: puts(128, "k") });
  expect(() => check({ success: puts(129, "k") })).toThrow("too many operations");
  check({ success: [...puts(99, "k"), nest(puts(28, "n"))] });
  expect(() => check({ success: [...puts(99, "k"), nest(puts(29, "n"))] })).toThrow("too many operations");
  let deep: Op = put("a");
  for (let i = 0; i < 127; i++) deep = nest([deep]);
  check({ success: [deep] });
  expect(() => check({ success: [nest([deep])] })).toThrow("too many operations");
});

test("parts of a txn are refused for what they would be refused for alone", () => {
  expect(() => check({ success: [put("")] })).toThrow("key is not provided");
  expect(() => check({ failure: [nest([read("")])] })).toThrow("key is not provided");
  expect(() => check({ compare: [{ target: 0 }] })).toThrow("key is not provided");
  expect(() => check({ success: [{ request: { case: undefined } }] })).toThrow("key not found");
});

test("requests with missing or contradictory parts are refused", () => {
  const key = bytes("a");
  expect(() => checkRange(create(RangeRequestSchema))).toThrow("key is not provided");
  expect(() => checkRange(create(RangeRequestSchema, { key, sortOrder: unknown(3) }))).toThrow(
    "invalid sort option",
  );
  expect(() => checkRange(create(RangeRequestSchema, { key, sortTarget: unknown(-1) }))).toThrow(
    "invalid sort option",
  );
  checkRange(create(RangeRequestSchema, { key, sortOrder: 2, sortTarget: 4 }));
  expect(() => checkDeleteRange(create(DeleteRangeRequestSchema))).toThrow("key is not provided");
  expect(() => checkPut(create(PutRequestSchema))).toThrow("key is not provided");
  const value = bytes("v");
  expect(() => checkPut(create(PutRequestSchema, { key, ignoreValue: true, value }))).toThrow(
    "value is provided",
  );
  expect(() => checkPut(create(PutRequestSchema, { key, ignoreLease: true, lease: 1n }))).toThrow(
    "lease is provided",
  );
  checkPut(create(PutRequestSchema, { key, ignoreLease: true, ignoreValue: true }));
});

test("a txn of ranges only is read-only; one that nests goes through the log even if it only reads", () => {
  const readOnly = (txn: Txn) => isReadOnlyTxn(create(TxnRequestSchema, txn));
  expect(readOnly({})).toBe(true);
  expect(readOnly({ success: [read("a")], failure: [read("b")] })).toBe(true);
  expect(readOnly({ failure: [put("a")] })).toBe(false);
  expect(readOnly({ success: [nest([read("a")])] })).toBe(false);
});

test("the check of a txn takes time in proportion to its size, however it mixes deletes and puts", () => {
  const names = (count: number, prefix: string) => Array.from({ length: count }, (_, at) => `${prefix}${at}`);
  const leaf = (ops: Op[]) => nest(ops.slice(0, 40), ops.slice(40));
  const tree = (prefix: string, op: (key: string) => Op) =>
    names(12, prefix).map((top) =>
      nest(names(40, `${top}/`).map((leafName) => leaf(names(80, `${leafName}/`).map(op)))),
    );
  const startedAtMs = performance.now();
  check({ success: [...tree("d", (key) => del(key)), ...tree("p", put)] });
  // 40,000 keys put, none of 40,000 deleted: one by one these would be a billion and a half comparisons.
  expect(performance.now() - startedAtMs).toBeLessThan(3_000);
});
