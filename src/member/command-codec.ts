/**
 * Commands as bytes of log entries. The schema's own encoder takes 1.5 µs for a put, which is the hot path, so a
 * put is written by hand; a test holds the bytes to the schema's.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { PutRequest } from "../proto/gen/etcd/rpc_pb";
import { type Command, CommandSchema } from "../proto/gen/keelson/command_pb";
import { varint64Size, varintSize, writeVarint, writeVarint64 } from "../proto/wire";

/** A request may nest a hundred deep on the wire; the envelope must not make an accepted one unreadable. */
const commandDepthMax = 128;
/** The envelope without user and idempotency key, and the small fields of a put. */
const fixedBytesMax = 128;

export function decodeCommand(bytes: Uint8Array): Command {
  return fromBinary(CommandSchema, bytes, { recursionLimit: commandDepthMax });
}

export function encodeCommand(command: Command): Uint8Array {
  const { operation } = command;
  const plain = command.user === "" && command.authRevision === 0n && command.idempotencyKey.length === 0;
  return operation.case === "put" && plain
    ? encodePlainPut(command, operation.value)
    : toBinary(CommandSchema, command);
}

function encodePlainPut(command: Command, put: PutRequest): Uint8Array {
  const bytes = Buffer.allocUnsafe(fixedBytesMax + put.key.length + put.value.length);
  let at = 0;
  if (command.version !== 0) {
    bytes[at] = 0x08;
    at = writeVarint(bytes, at + 1, command.version);
  }
  const id = command.requestId;
  if (id !== undefined) {
    bytes[at] = 0x12;
    const start = at + 2;
    let end = start;
    if (id.memberId !== 0n) {
      bytes[end] = 0x09;
      end = bytes.writeBigUInt64LE(id.memberId, end + 1);
    }
    if (id.incarnation !== 0n) {
      bytes[end] = 0x10;
      end = writeVarint64(bytes, end + 1, id.incarnation);
    }
    if (id.sequence !== 0n) {
      bytes[end] = 0x18;
      end = writeVarint64(bytes, end + 1, id.sequence);
    }
    // At most 31 bytes, so one byte for the length.
    bytes[at + 1] = end - start;
    at = end;
  }
  if (command.proposedAtMs !== 0n) {
    bytes[at] = 0x30;
    at = writeVarint64(bytes, at + 1, command.proposedAtMs);
  }
  bytes[at] = 0x82;
  bytes[at + 1] = 0x01;
  at = writeVarint(bytes, at + 2, putBytes(put));
  return bytes.subarray(0, writePut(bytes, at, put));
}

function putBytes({ key, value, lease, prevKv, ignoreValue, ignoreLease }: PutRequest): number {
  return (
    (key.length > 0 ? 1 + varintSize(key.length) + key.length : 0) +
    (value.length > 0 ? 1 + varintSize(value.length) + value.length : 0) +
    (lease === 0n ? 0 : 1 + varint64Size(lease)) +
    2 * (Number(prevKv) + Number(ignoreValue) + Number(ignoreLease))
  );
}

function writePut(bytes: Buffer, offset: number, put: PutRequest): number {
  let at = offset;
  if (put.key.length > 0) {
    bytes[at] = 0x0a;
    at = writeVarint(bytes, at + 1, put.key.length);
    bytes.set(put.key, at);
    at += put.key.length;
  }
  if (put.value.length > 0) {
    bytes[at] = 0x12;
    at = writeVarint(bytes, at + 1, put.value.length);
    bytes.set(put.value, at);
    at += put.value.length;
  }
  if (put.lease !== 0n) {
    bytes[at] = 0x18;
    at = writeVarint64(bytes, at + 1, put.lease);
  }
  for (const [tag, set] of [
    [0x20, put.prevKv],
    [0x28, put.ignoreValue],
    [0x30, put.ignoreLease],
  ] as const) {
    if (!set) continue;
    bytes[at++] = tag;
    bytes[at++] = 1;
  }
  return at;
}
