/**
 * Records: mvccpb.KeyValue messages encoded exactly as etcd encodes them (fields in order, zero fields left out),
 * by hand because every put encodes one and every start decodes all.
 */
import { assert } from "../../assert";
import { emptyBytes } from "../../bytes";

const keyTag = 0x0a;
const createTag = 0x10;
const modTag = 0x18;
const versionTag = 0x20;
const valueTag = 0x2a;
const leaseTag = 0x30;

/** Where the parts of a record lie. Reused by callers that parse many. */
export class RecordFields {
  keyStart = 0;
  keyEnd = 0;
  create = 0;
  mod = 0;
  /** 0 for a tombstone, whose record has only key and mod revision. */
  version = 0;
  valueStart = 0;
  valueEnd = 0;
  lease = 0n;
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

/** Writes a non-negative integer below 2^53; returns the offset behind it. */
function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest > 0x7fffffff) {
    target[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}

/** The varint of an int64 as protobuf writes it; a lease keeps its own, so that puts need not make it again. */
export function encodeInt64(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, value); ; rest >>= 7n) {
    const low = Number(rest & 0x7fn);
    if (rest < 0x80n) {
      bytes.push(low);
      return Uint8Array.from(bytes);
    }
    bytes.push(low | 0x80);
  }
}

/** Encodes a stored version of a key. `lease` is the lease's {@link encodeInt64}, or undefined for none. */
export function encodeRecord(
  key: Uint8Array,
  create: number,
  mod: number,
  version: number,
  value: Uint8Array,
  lease: Uint8Array | undefined,
): Uint8Array {
  let size = 1 + varintSize(key.length) + key.length + 3;
  size += varintSize(create) + varintSize(mod) + varintSize(version);
  if (value.length > 0) size += 1 + varintSize(value.length) + value.length;
  if (lease !== undefined) size += 1 + lease.length;
  const record = new Uint8Array(size);
  record[0] = keyTag;
  let at = writeVarint(record, 1, key.length);
  record.set(key, at);
  at += key.length;
  record[at++] = createTag;
  at = writeVarint(record, at, create);
  record[at++] = modTag;
  at = writeVarint(record, at, mod);
  record[at++] = versionTag;
  at = writeVarint(record, at, version);
  if (value.length > 0) {
    record[at++] = valueTag;
    at = writeVarint(record, at, value.length);
    record.set(value, at);
    at += value.length;
  }
  if (lease !== undefined) {
    record[at++] = leaseTag;
    record.set(lease, at);
  }
  return record;
}

/** Encodes what remains of a deleted key: its name and the revision of the delete. */
export function encodeTombstone(key: Uint8Array, mod: number): Uint8Array {
  const record = new Uint8Array(2 + varintSize(key.length) + key.length + varintSize(mod));
  record[0] = keyTag;
  let at = writeVarint(record, 1, key.length);
  record.set(key, at);
  at += key.length;
  record[at++] = modTag;
  writeVarint(record, at, mod);
  return record;
}

/** The last varint read, and where it ended. */
let readValue = 0;
function readVarint(bytes: Uint8Array, offset: number): number {
  let at = offset;
  let byte = bytes[at++]!;
  readValue = byte & 0x7f;
  for (let unit = 0x80; byte >= 0x80; unit *= 0x80) {
    byte = bytes[at++]!;
    readValue += (byte & 0x7f) * unit;
  }
  return at;
}

function readInt64(bytes: Uint8Array, offset: number): bigint {
  let value = 0n;
  for (let at = offset, shift = 0n; ; shift += 7n) {
    const byte = bytes[at++]!;
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return BigInt.asIntN(64, value);
  }
}

/** Finds the parts of a record that this module wrote, and that reaches from `start` to the end of the bytes. */
export function parseRecord(
  record: Uint8Array,
  fields: RecordFields = new RecordFields(),
  start = 0,
): RecordFields {
  assert(record[start] === keyTag, "a record begins with its key");
  let at = readVarint(record, start + 1);
  fields.keyStart = at;
  at += readValue;
  fields.keyEnd = at;
  fields.create = 0;
  fields.version = 0;
  fields.valueStart = fields.valueEnd = record.length;
  fields.lease = 0n;
  if (record[at] === createTag) {
    at = readVarint(record, at + 1);
    fields.create = readValue;
  }
  assert(record[at] === modTag, "a record has a mod revision");
  at = readVarint(record, at + 1);
  fields.mod = readValue;
  if (record[at] === versionTag) {
    at = readVarint(record, at + 1);
    fields.version = readValue;
  }
  if (record[at] === valueTag) {
    at = readVarint(record, at + 1);
    fields.valueStart = at;
    at += readValue;
    fields.valueEnd = at;
  }
  if (record[at] === leaseTag) fields.lease = readInt64(record, at + 1);
  assert(at <= record.length, "a record is complete");
  return fields;
}

/** True for the record of a delete. */
export function isTombstone(record: Uint8Array): boolean {
  return record[readVarint(record, 1) + readValue] !== createTag;
}

/** The value inside a record, as a view. */
export function recordValue(record: Uint8Array): Uint8Array {
  const fields = parseRecord(record);
  return fields.valueStart === fields.valueEnd
    ? emptyBytes
    : record.subarray(fields.valueStart, fields.valueEnd);
}

/** The record with its value left out, everything else kept. */
export function withoutValue(record: Uint8Array): Uint8Array {
  const { valueStart, valueEnd } = parseRecord(record);
  if (valueStart === valueEnd) return record;
  const tagStart = valueStart - 1 - varintSize(valueEnd - valueStart);
  const kept = new Uint8Array(tagStart + record.length - valueEnd);
  kept.set(record.subarray(0, tagStart));
  kept.set(record.subarray(valueEnd), tagStart);
  return kept;
}

/** The bytes that etcd stores for a delete: a KeyValue with nothing but the key. */
export function storedTombstone(record: Uint8Array): Uint8Array {
  return record.subarray(0, readVarint(record, 1) + readValue);
}
