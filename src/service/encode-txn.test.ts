import { expect, test } from "bun:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { concatBytes } from "../bytes";
import { type TxnResponse, TxnResponseSchema } from "../proto/gen/etcd/rpc_pb";
import { encodeTxn, isLargeTxn } from "./encode-txn";

const kvs = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    key: Buffer.from(`k${i}`),
    value: new Uint8Array(100).fill(i),
    createRevision: 3n,
    modRevision: BigInt(i),
    version: 2n,
  }));
const header = { revision: 9n, memberId: 2n ** 64n - 1n };

/** Every kind of answer, some of them large, some inside of another txn. */
function example(count: number): TxnResponse {
  return create(TxnResponseSchema, {
    header,
    succeeded: true,
    responses: [
      {
        response: { case: "responseRange", value: { header, kvs: kvs(count), more: true, count: 70_000n } },
      },
      { response: { case: "responsePut", value: { header, prevKv: kvs(1)[0]! } } },
      { response: { case: undefined } },
      {
        response: {
          case: "responseTxn",
          value: {
            header,
            responses: [
              {
                response: {
                  case: "responseDeleteRange",
                  value: { header, deleted: 5n, prevKvs: kvs(count) },
                },
              },
              { response: { case: "responseRange", value: {} } },
            ],
          },
        },
      },
    ],
  });
}

test("an answer that is encoded in slices is the answer, and others work in between", async () => {
  const response = example(2_600);
  let pauses = 0;
  const { chunks } = await encodeTxn(response, async () => void pauses++);
  expect(fromBinary(TxnResponseSchema, concatBytes(chunks))).toEqual(response);
  expect(pauses).toBeGreaterThanOrEqual(10);
});

test("few records count as large by their bytes, and are encoded with pauses too", async () => {
  const large = create(TxnResponseSchema, {
    responses: [
      {
        response: {
          case: "responseRange",
          value: { kvs: Array.from({ length: 20 }, () => ({ value: new Uint8Array(1_000_000) })) },
        },
      },
    ],
  });
  expect(isLargeTxn(large)).toBe(true);
  let pauses = 0;
  const { chunks } = await encodeTxn(large, async () => void pauses++);
  expect(pauses).toBeGreaterThanOrEqual(10);
  expect(fromBinary(TxnResponseSchema, concatBytes(chunks))).toEqual(large);
});

test("whoever gives up in a pause ends the encoding", () => {
  const gone = () => Promise.reject(new Error("gone"));
  expect(encodeTxn(example(2_600), gone)).rejects.toThrow("gone");
});

test("only large answers are worth it, and nested ones count", () => {
  expect(isLargeTxn(example(501))).toBe(true);
  expect(isLargeTxn(example(500))).toBe(false);
});
