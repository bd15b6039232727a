import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { KeyValueSchema } from "../../proto/gen/etcd/kv_pb";
import {
  encodeInt64,
  encodeRecord,
  encodeTombstone,
  isTombstone,
  parseRecord,
  recordValue,
  storedTombstone,
  withoutValue,
} from "./record";

const counter = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
);
const lease = fc.oneof(fc.constant(0n), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const bytes = fc.oneof(fc.uint8Array({ maxLength: 5 }), fc.uint8Array({ minLength: 120, maxLength: 140 }));

test("records are what the protobuf library writes, and are read back", () => {
  fc.assert(
    fc.property(
      bytes,
      counter,
      counter,
      counter,
      bytes,
      lease,
      (key, created, mod, version, value, leaseId) => {
        if (key.length === 0) return;
        const encodedLease = leaseId === 0n ? undefined : encodeInt64(leaseId);
        const record = encodeRecord(key, created, mod, version, value, encodedLease);
        const message = create(KeyValueSchema, {
          key,
          createRevision: BigInt(created),
          modRevision: BigInt(mod),
          version: BigInt(version),
          value,
          lease: leaseId,
        });
        expect(record).toEqual(toBinary(KeyValueSchema, message));
        const fields = parseRecord(record);
        expect(fields).toMatchObject({ create: created, mod, version, lease: leaseId });
        expect(record.subarray(fields.keyStart, fields.keyEnd)).toEqual(key);
        expect(recordValue(record)).toEqual(value);
        expect(isTombstone(record)).toBe(false);
        message.value = new Uint8Array(0);
        expect(withoutValue(record)).toEqual(toBinary(KeyValueSchema, message));
      },
    ),
  );
});

test("tombstones keep key and mod revision, and etcd's stored form only the key", () => {
  fc.assert(
    fc.property(bytes, counter, (key, mod) => {
      if (key.length === 0) return;
      const record = encodeTombstone(key, mod);
      const message = create(KeyValueSchema, { key, modRevision: BigInt(mod) });
      expect(record).toEqual(toBinary(KeyValueSchema, message));
      expect(parseRecord(record)).toMatchObject({ create: 0, mod, version: 0, lease: 0n });
      expect(isTombstone(record)).toBe(true);
      expect(storedTombstone(record)).toEqual(toBinary(KeyValueSchema, create(KeyValueSchema, { key })));
    }),
  );
});
