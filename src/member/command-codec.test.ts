import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { CommandSchema } from "../proto/gen/keelson/command_pb";
import { decodeCommand, encodeCommand } from "./command-codec";

const int64 = fc.oneof(fc.constant(0n), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const uint64 = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
const bytes = fc.uint8Array({ maxLength: 400 });

const commands = fc
  .record({
    version: fc.nat(300),
    requestId: fc.option(fc.record({ memberId: uint64, incarnation: uint64, sequence: uint64 }), {
      nil: null,
    }),
    user: fc.constantFrom("", "", "root"),
    idempotencyKey: fc.oneof(fc.constant(new Uint8Array(0)), bytes),
    proposedAtMs: int64,
    put: fc.record({
      key: bytes,
      value: bytes,
      lease: int64,
      prevKv: fc.boolean(),
      ignoreValue: fc.boolean(),
      ignoreLease: fc.boolean(),
    }),
  })
  .map(({ put, requestId, ...envelope }) =>
    create(CommandSchema, {
      ...envelope,
      ...(requestId === null ? {} : { requestId }),
      operation: { case: "put", value: put },
    }),
  );

test("a put written by hand is byte for byte what the schema writes, and reads back", () => {
  fc.assert(
    fc.property(commands, (command) => {
      const encoded = encodeCommand(command);
      expect(Buffer.from(encoded)).toEqual(Buffer.from(toBinary(CommandSchema, command)));
      expect(decodeCommand(encoded)).toEqual(command);
    }),
    { numRuns: 500 },
  );
});

test("every other operation reads back too", () => {
  const command = create(CommandSchema, {
    version: 1,
    operation: { case: "leaseRevoke", value: { id: 7n, expiredInTerm: 3n } },
  });
  expect(decodeCommand(encodeCommand(command))).toEqual(command);
});

test("bytes that a put by hand would not have are read as the schema reads them, or refused as it does", () => {
  const attempt = (read: () => unknown): unknown => {
    try {
      return read();
    } catch {
      return "refused";
    }
  };
  fc.assert(
    fc.property(commands, fc.nat(), fc.nat(255), fc.nat(4), (command, position, byte, cut) => {
      const bytes = Uint8Array.from(encodeCommand(command));
      bytes[position % Math.min(bytes.length, 60)] = byte;
      const damaged = bytes.subarray(0, bytes.length - cut);
      const expected = attempt(() => fromBinary(CommandSchema, damaged, { recursionLimit: 128 }));
      expect(attempt(() => decodeCommand(damaged))).toEqual(expected);
    }),
    { numRuns: 3_000 },
  );
});
