import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { concatBytes } from "../bytes";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import { Headers } from "../member/headers";
import {
  DeleteRangeResponseSchema,
  LeaseKeepAliveResponseSchema,
  PutResponseSchema,
  RangeResponseSchema,
  ResponseHeaderSchema,
} from "../proto/gen/etcd/rpc_pb";
import {
  encodeDeleteRange,
  encodeKeepAlive,
  encodePut,
  encodeRangeEnd,
  encodeRecords,
  rangeRecordTag,
} from "./encode";

const uint64 = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n });
const counter = fc.maxSafeNat();

test("a hand-encoded header is byte for byte what the schema encodes", () => {
  fc.assert(
    fc.property(uint64, uint64, counter, counter, (clusterId, memberId, revision, term) => {
      const headers = new Headers(clusterId, memberId, () => term);
      const expected = toBinary(ResponseHeaderSchema, headers.message(revision));
      expect(Buffer.from(headers.bytes(revision))).toEqual(Buffer.from(expected));
    }),
  );
});

test("hand-encoded put, delete and range answers decode to what went in", () => {
  const headers = new Headers(1n, 2n ** 63n, () => 3);
  const records = ["a", "bb", "c".repeat(300)].map((text) =>
    toBinary(KeyValueSchema, create(KeyValueSchema, { key: Buffer.from(text), version: 7n })),
  );
  const put = fromBinary(PutResponseSchema, concatBytes(encodePut(headers.field(9), records[2]).chunks));
  expect(put.header).toEqual(headers.message(9));
  expect(put.prevKv?.key.length).toBe(300);

  const deleted = fromBinary(
    DeleteRangeResponseSchema,
    concatBytes(encodeDeleteRange(headers.field(9), 300, records).chunks),
  );
  expect(deleted.deleted).toBe(300n);
  expect(deleted.prevKvs.map((kv) => kv.key.length)).toEqual([1, 2, 300]);

  const range = fromBinary(
    RangeResponseSchema,
    concatBytes([headers.field(9), encodeRecords(rangeRecordTag, records), encodeRangeEnd(true, 1000)]),
  );
  expect(range.kvs.map((kv) => kv.version)).toEqual([7n, 7n, 7n]);
  expect([range.more, range.count]).toEqual([true, 1000n]);
});

test("a hand-encoded keep-alive answer is byte for byte what the schema encodes, for every id", () => {
  const headers = new Headers(7n, 8n, () => 3);
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), counter, (ID, ttl) => {
      const expected = toBinary(
        LeaseKeepAliveResponseSchema,
        create(LeaseKeepAliveResponseSchema, { header: headers.message(5), ID, TTL: BigInt(ttl) }),
      );
      const encoded = concatBytes(encodeKeepAlive(headers.field(5), ID, ttl).chunks);
      expect(Buffer.from(encoded)).toEqual(Buffer.from(expected));
    }),
  );
});
