/** The model's records against the protobuf library. */
import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import { modelRecord } from "./kv-model";

const text = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString("latin1"));
const number = fc.integer({ min: 1, max: 2 ** 40 });

test("a record is what the protobuf library encodes", () => {
  fc.assert(
    fc.property(
      text,
      number,
      number,
      fc.nat(),
      text,
      fc.bigInt(0n, 2n ** 63n - 1n),
      (key, main, made, version, value, lease) => {
        const record = modelRecord({ key, main, sub: 0, create: made, version, value, lease });
        const message = create(KeyValueSchema, {
          key: Buffer.from(key, "latin1"),
          modRevision: BigInt(main),
          ...(version === 0
            ? {}
            : {
                createRevision: BigInt(made),
                version: BigInt(version),
                value: Buffer.from(value, "latin1"),
                lease,
              }),
        });
        expect(record).toBe(Buffer.from(toBinary(KeyValueSchema, message)).toString("latin1"));
      },
    ),
  );
});
