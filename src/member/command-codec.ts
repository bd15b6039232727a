/**
 * Commands as bytes of log entries. The schema's own codec takes 1.5 µs to write a put, which is the hot path, and as
 * long to read it, which followers do; so a put is written and read by hand. Tests hold both to the schema.
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
  return (
    new PlainPutReader(bytes).read() ?? fromBinary(CommandSchema, bytes, { recursionLimit: commandDepthMax })
  );
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

const noBytes = new Uint8Array(0);

/** Reads what {@link encodePlainPut} writes, and nothing else: any other byte leaves it to the schema. */
class PlainPutReader {
  #at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(): Command | undefined {
    const bytes = this.#bytes;
    let version = 0;
    if (bytes[0] === 0x08) {
      version = bytes[1]!;
      if (!(version < 0x80)) return undefined;
      this.#at = 2;
    }
    let requestId: Command["requestId"];
    if (bytes[this.#at] === 0x12) {
      const end = this.#at + 2 + bytes[this.#at + 1]!;
      if (end > bytes.length || end > this.#at + 2 + 31) return undefined;
      this.#at += 2;
      requestId = {
        $typeName: "keelson.RequestId",
        memberId: this.#fixed64(0x09),
        incarnation: this.#varint64(0x10, true),
        sequence: this.#varint64(0x18, true),
      };
      if (this.#at !== end) return undefined;
    }
    const proposedAtMs = this.#varint64(0x30, false);
    if (bytes[this.#at] !== 0x82 || bytes[this.#at + 1] !== 0x01) return undefined;
    this.#at += 2;
    const length = this.#length();
    if (length === undefined || this.#at + length !== bytes.length) return undefined;
    const value = this.#put();
    if (value === undefined || this.#at !== bytes.length) return undefined;
    return {
      $typeName: "keelson.Command",
      version,
      ...(requestId === undefined ? {} : { requestId }),
      user: "",
      authRevision: 0n,
      idempotencyKey: noBytes,
      requestHash: noBytes,
      proposedAtMs,
      operation: { case: "put", value },
    };
  }

  #put(): PutRequest | undefined {
    const key = this.#field(0x0a);
    const value = this.#field(0x12);
    if (key === undefined || value === undefined) return undefined;
    return {
      $typeName: "etcdserverpb.PutRequest",
      key,
      value,
      lease: this.#varint64(0x18, false),
      prevKv: this.#set(0x20),
      ignoreValue: this.#set(0x28),
      ignoreLease: this.#set(0x30),
    };
  }

  #set(tag: number): boolean {
    if (this.#bytes[this.#at] !== tag || this.#bytes[this.#at + 1] !== 1) return false;
    this.#at += 2;
    return true;
  }

  /** Bytes behind a tag; none when the tag is not there; undefined when they do not fit. */
  #field(tag: number): Uint8Array | undefined {
    if (this.#bytes[this.#at] !== tag) return noBytes;
    this.#at++;
    const length = this.#length();
    if (length === undefined || this.#at + length > this.#bytes.length) return undefined;
    const start = this.#at;
    this.#at += length;
    return this.#bytes.subarray(start, this.#at);
  }

  /** A varint of at most four bytes. */
  #length(): number | undefined {
    let length = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) return undefined;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) return length;
    }
    return undefined;
  }

  #fixed64(tag: number): bigint {
    const bytes = this.#bytes;
    const at = this.#at;
    if (bytes[at] !== tag || at + 9 > bytes.length) return 0n;
    this.#at = at + 9;
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at + 1, true);
  }

  #varint64(tag: number, unsigned: boolean): bigint {
    const bytes = this.#bytes;
    if (bytes[this.#at] !== tag) return 0n;
    let at = this.#at + 1;
    let low = 0;
    let middle = 0;
    let high = 0;
    let byte = 0x80;
    for (let shift = 0; shift < 28 && byte >= 0x80; shift += 7)
      low |= ((byte = bytes[at++]!) & 0x7f) << shift;
    for (let shift = 0; shift < 28 && byte >= 0x80; shift += 7)
      middle |= ((byte = bytes[at++]!) & 0x7f) << shift;
    for (let shift = 0; shift < 14 && byte >= 0x80; shift += 7)
      high |= ((byte = bytes[at++]!) & 0x7f) << shift;
    // Cut off or too long: the tag stays unread, and the schema says what is wrong.
    if (!(byte < 0x80)) return 0n;
    this.#at = at;
    // Up to 53 bits a number is exact.
    if (high === 0 && middle < 1 << 25) return BigInt(low + middle * 2 ** 28);
    const value = (BigInt(high) << 56n) | (BigInt(middle) << 28n) | BigInt(low);
    return unsigned ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value);
  }
}
