/** The checker of the fault tests has to see each kind of loss. */
import { expect, test } from "bun:test";
import { finalState, valueOf, violations, type HistoryEvent, type Operation } from "./history";

const put = (id: number, key: string, outcome: Operation["outcome"], floor = 1): Operation => ({
  id,
  writes: new Map([[key, valueOf(id, "")]]),
  floor,
  outcome,
});
const acknowledged = (revision: number): Operation["outcome"] => ({ kind: "acknowledged", revision });
const event = (revision: number, key: string, id: number): HistoryEvent => ({
  revision,
  key,
  value: valueOf(id, ""),
});

test("a history of exactly what was acknowledged is fine, with or without the unknown", () => {
  const operations = [put(1, "a", acknowledged(2)), put(2, "b", { kind: "unknown" })];
  expect(violations(operations, [event(2, "a", 1)], 2)).toEqual([]);
  expect(violations(operations, [event(2, "a", 1), event(3, "b", 2)], 3)).toEqual([]);
});

test("a lost acknowledged write is seen", () => {
  expect(violations([put(1, "a", acknowledged(2))], [], 1)).toHaveLength(1);
});

test("an acknowledged write at another revision, or with another value, is seen", () => {
  const operations = [put(1, "a", acknowledged(3)), put(2, "b", { kind: "unknown" })];
  expect(violations(operations, [event(2, "a", 1), event(3, "b", 2)], 3)).not.toEqual([]);
  expect(violations([put(1, "a", acknowledged(2))], [event(2, "a", 9)], 2)).not.toEqual([]);
});

test("a gap, a repeated write, a refused write that happened and half a txn are seen", () => {
  const operations = [put(1, "a", acknowledged(2)), put(2, "b", acknowledged(4))];
  expect(violations(operations, [event(2, "a", 1), event(4, "b", 2)], 4)).not.toEqual([]);
  const unknown = [put(1, "a", { kind: "unknown" })];
  expect(violations(unknown, [event(2, "a", 1), event(3, "a", 1)], 3)).not.toEqual([]);
  expect(violations([put(1, "a", { kind: "refused" })], [event(2, "a", 1)], 2)).not.toEqual([]);
  const both = new Map([
    ["a", valueOf(1, "")],
    ["b", valueOf(1, "")],
  ]);
  const txn: Operation = { id: 1, writes: both, floor: 1, outcome: { kind: "unknown" } };
  expect(violations([txn], [event(2, "a", 1)], 2)).not.toEqual([]);
  expect(violations([txn], [event(2, "a", 1), event(2, "b", 1)], 2)).toEqual([]);
});

test("an answer that goes back in time is seen", () => {
  const operations = [put(1, "a", acknowledged(2)), put(2, "b", acknowledged(3), 3)];
  expect(violations(operations, [event(2, "a", 1), event(3, "b", 2)], 3)).not.toEqual([]);
});

test("deletes end a key", () => {
  const deleted: HistoryEvent = { revision: 3, key: "a", value: undefined };
  expect(finalState([event(2, "a", 1), deleted])).toEqual(new Map());
});
