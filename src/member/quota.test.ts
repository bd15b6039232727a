import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import {
  DeleteRangeRequestSchema,
  PutRequestSchema,
  RequestOpSchema,
  TxnRequestSchema,
} from "../proto/gen/etcd/rpc_pb";
import { operationCost } from "./quota";

const put = create(PutRequestSchema, { key: new Uint8Array(10), value: new Uint8Array(100) });
const putOp = create(RequestOpSchema, { request: { case: "requestPut", value: put } });

test("a put costs its bytes and 256 more; what frees space costs nothing", () => {
  expect(operationCost({ case: "put", value: put })).toBe(366);
  expect(operationCost({ case: "deleteRange", value: create(DeleteRangeRequestSchema) })).toBe(0);
});

test("[#22140] a txn costs its dearer branch, puts of nested txns included", () => {
  const nested = create(RequestOpSchema, {
    request: { case: "requestTxn", value: create(TxnRequestSchema, { success: [putOp, putOp] }) },
  });
  const txn = create(TxnRequestSchema, { success: [putOp], failure: [putOp, nested] });
  expect(operationCost({ case: "txn", value: txn })).toBe(3 * 366);
});
