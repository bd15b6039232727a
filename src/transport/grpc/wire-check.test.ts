import { describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  PutRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
  WatchRequestSchema,
} from "../../proto/gen/etcd/rpc_pb";
import { wireProblem } from "./wire-check";

describe("an encoded message is refused in etcd's words", () => {
  // Each text was read from a real etcd 3.4 that was sent these bytes.
  const cases: [string, number[], string][] = [
    ["a number where the key belongs", [0x08, 0x01], "proto: wrong wireType = 0 for field Key"],
    ["a wire type that does not exist", [0x0f, 0x09, 0x61], "proto: wrong wireType = 7 for field Key"],
    ["field zero", [0x02, 0x01, 0x61], "proto: RangeRequest: illegal tag 0 (wire type 2)"],
    ["an endless number", [0x18, ...Array<number>(11).fill(0xff)], "proto: integer overflow"],
    ["a length beyond the end", [0x0a, 0x09, 0x61], "unexpected EOF"],
  ];
  test.each(cases)("%s", (_name, bytes, problem) => {
    expect(wireProblem(RangeRequestSchema, Uint8Array.from(bytes))).toBe(problem);
  });

  test("bytes that the decoder would take for a key", () => {
    const bytes = Uint8Array.from([0x08, 0x01, 0x61]);
    // The decoder alone reads key "a" from a field that says it is a number.
    expect(fromBinary(RangeRequestSchema, bytes).key).toEqual(Uint8Array.from([0x61]));
    expect(wireProblem(RangeRequestSchema, bytes)).toBe("proto: wrong wireType = 0 for field Key");
  });

  test("nesting without end", () => {
    let bytes: Uint8Array = new Uint8Array();
    for (let depth = 0; depth < 300; depth++) {
      const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7];
      // TxnRequest.success and RequestOp.request_txn, by turns.
      bytes = Buffer.concat([Buffer.from([depth % 2 === 0 ? 0x22 : 0x12, ...length]), bytes]);
    }
    expect(wireProblem(TxnRequestSchema, bytes)).toBe("proto: exceeded max recursion depth");
  });
});

test("whatever the encoder makes passes, unknown fields too", () => {
  const put = create(PutRequestSchema, {
    key: Buffer.from("k"),
    value: new Uint8Array(300),
    lease: -1n,
    prevKv: true,
  });
  const txn = create(TxnRequestSchema, {
    success: [{ request: { case: "requestPut", value: put } }],
    failure: [{ request: { case: "requestTxn", value: create(TxnRequestSchema) } }],
  });
  expect(wireProblem(PutRequestSchema, toBinary(PutRequestSchema, put))).toBeUndefined();
  const bytes = toBinary(TxnRequestSchema, txn);
  expect(wireProblem(TxnRequestSchema, bytes)).toBeUndefined();
  const watch = create(WatchRequestSchema, {
    requestUnion: { case: "createRequest", value: { key: Buffer.from("a"), filters: [0, 1] } },
  });
  expect(wireProblem(WatchRequestSchema, toBinary(WatchRequestSchema, watch))).toBeUndefined();
  const unknown = Buffer.concat([bytes, Buffer.from([0xa0, 0x06, 0x01, 0xa5, 0x06, 1, 2, 3, 4])]);
  expect(wireProblem(TxnRequestSchema, unknown)).toBeUndefined();
});

test("what passes never makes the decoder fail, other than for a string that is not UTF-8", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      if (wireProblem(TxnRequestSchema, bytes) === undefined) fromBinary(TxnRequestSchema, bytes);
    }),
    { numRuns: 20_000 },
  );
});
