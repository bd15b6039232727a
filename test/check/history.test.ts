import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { PutRequestSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { outcomeUnknown, type Operation } from "./history";

const put = (outcome: Operation["outcome"]): Operation =>
  ({
    id: 1,
    client: 1,
    member: "m1",
    kind: "put",
    request: create(PutRequestSchema),
    callAt: 0,
    returnAt: 1,
    outcome,
  }) as Operation;

test("only a definite failure says that a request had no effect", () => {
  expect(outcomeUnknown(put({ kind: "unanswered" }))).toBe(true);
  expect(outcomeUnknown(put({ kind: "failed", definite: false, code: 14, text: "" }))).toBe(true);
  expect(outcomeUnknown(put({ kind: "failed", definite: true, code: 3, text: "" }))).toBe(false);
});
