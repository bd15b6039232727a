import { expect, test } from "bun:test";
import { create, toBinary, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { KeyValueSchema } from "../../proto/gen/etcd/kv_pb";
import { KeyValueJson } from "./key-value-json";

const number = fc.oneof(fc.constant(0n), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), fc.bigInt(0n, 300n));
const bytes = fc.uint8Array({ maxLength: 40 });

test("the text is the one that the protobuf library's value has, wherever the message lies", () => {
  fc.assert(
    fc.property(bytes, bytes, fc.tuple(number, number, number, number), (key, value, numbers) => {
      const [createRevision, modRevision, version, lease] = numbers;
      const message = create(KeyValueSchema, { key, value, createRevision, modRevision, version, lease });
      const encoded = toBinary(KeyValueSchema, message);
      const before = key.length;
      const all = Buffer.concat([Buffer.alloc(before, 0xff), encoded, Buffer.alloc(3, 0x0a)]);
      const text = new KeyValueJson(all).text(before, before + encoded.length);
      expect(text).toBe(JSON.stringify(toJson(KeyValueSchema, message, { useProtoFieldName: true })));
    }),
  );
});

test("what it does not know it leaves to others", () => {
  const known = toBinary(KeyValueSchema, create(KeyValueSchema, { key: Buffer.from("a") }));
  const withMore = Buffer.concat([known, Buffer.from([0x3a, 1, 65])]);
  expect(new KeyValueJson(withMore).text(0, withMore.length)).toBeUndefined();
});
