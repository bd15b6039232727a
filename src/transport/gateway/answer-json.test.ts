/** Large answers in pieces: the same JSON value as the protobuf library gives, however their bytes are cut. */
import { describe, expect, test } from "bun:test";
import { create, toBinary, toJson } from "@bufbuild/protobuf";
import { RangeResponseSchema, TxnResponseSchema } from "../../proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../rng";
import { encodeTxn } from "../../service/encode-txn";
import { EncodedMessage } from "../call";
import { jsonPieces } from "./answer-json";

const kvs = Array.from({ length: 500 }, (_, at) => ({
  key: Buffer.from(`key ${at}`),
  createRevision: BigInt(at),
  modRevision: BigInt(at + 1),
  version: 1n,
  value: Buffer.alloc(at, at % 256),
}));
const range = create(RangeResponseSchema, { header: { revision: 7n }, kvs, count: 500n, more: true });
const txn = create(TxnResponseSchema, {
  succeeded: true,
  responses: [{ response: { case: "responseRange", value: range } }],
});

const text = (pieces: Iterable<string>): unknown => JSON.parse([...pieces].join("")) as unknown;

/** Runs with the place trapped where everything would be copied together. */
function withoutCopies<Result>(work: () => Result): Result {
  const allocate = Buffer.allocUnsafeSlow;
  Buffer.allocUnsafeSlow = () => {
    throw new Error("everything is copied together");
  };
  try {
    return work();
  } finally {
    Buffer.allocUnsafeSlow = allocate;
  }
}

describe("the pieces of an encoded answer", () => {
  for (const [schema, message] of [
    [RangeResponseSchema, range],
    [TxnResponseSchema, txn],
  ] as const) {
    const bytes = toBinary(schema, message as never);
    const expected = toJson(schema, message as never, { useProtoFieldName: true });

    test(`of ${schema.name} are one JSON value, also cut within fields`, () => {
      const rng = new SeededRng(3);
      expect(text(jsonPieces(schema, new EncodedMessage([bytes])))).toEqual(expected);
      for (let round = 0; round < 20; round++) {
        const chunks: Uint8Array[] = [];
        for (let at = 0; at < bytes.length;) {
          const end = at + 1 + rng.below(round < 10 ? 200 : 50_000);
          chunks.push(bytes.subarray(at, end));
          at = end;
        }
        expect(text(jsonPieces(schema, new EncodedMessage(chunks)))).toEqual(expected);
      }
    });
  }

  test("of a large txn, encoded in slices, are written without a copy of everything", async () => {
    const expected = toJson(TxnResponseSchema, txn, { useProtoFieldName: true });
    const encoded = await encodeTxn(txn, () => Promise.resolve());
    expect(encoded.chunks.length).toBeGreaterThan(4);
    expect(withoutCopies(() => text(jsonPieces(TxnResponseSchema, encoded)))).toEqual(expected);
  });

  test("that come in whole fields are written without a copy of everything", () => {
    const chunks = [
      toBinary(RangeResponseSchema, create(RangeResponseSchema, { header: { revision: 7n } })),
      toBinary(RangeResponseSchema, create(RangeResponseSchema, { kvs: kvs.slice(0, 200) })),
      toBinary(RangeResponseSchema, create(RangeResponseSchema, { kvs: kvs.slice(200) })),
      toBinary(RangeResponseSchema, create(RangeResponseSchema, { count: 500n, more: true })),
    ];
    expect(withoutCopies(() => text(jsonPieces(RangeResponseSchema, new EncodedMessage(chunks))))).toEqual(
      toJson(RangeResponseSchema, range, { useProtoFieldName: true }),
    );
  });

  test("are refused when they end within a field", () => {
    const cut = toBinary(RangeResponseSchema, range).subarray(0, -1);
    expect(() => text(jsonPieces(RangeResponseSchema, new EncodedMessage([cut])))).toThrow();
  });
});
