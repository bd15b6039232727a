/**
 * Answers of the hot paths, put together from stored bytes: a range is its header, the records as they lie in
 * the store, and two numbers. Field numbers are those of etcd/rpc.proto.
 */
import { encodeField, varintSize, writeVarint, writeVarint64 } from "../proto/wire";
import { EncodedMessage } from "../transport/call";

/** PutResponse: header, and the previous record when it was asked for and exists. */
export function encodePut(header: Uint8Array, previous: Uint8Array | undefined): EncodedMessage {
  return new EncodedMessage(previous === undefined ? [header] : [header, encodeField(0x12, previous)]);
}

/** DeleteRangeResponse: header, number of deleted keys, their previous records when asked for. */
export function encodeDeleteRange(
  header: Uint8Array,
  deleted: number,
  previous: readonly Uint8Array[],
): EncodedMessage {
  const chunks = [header];
  if (deleted > 0) {
    const count = new Uint8Array(1 + varintSize(deleted));
    count[0] = 0x10;
    writeVarint(count, 1, deleted);
    chunks.push(count);
  }
  if (previous.length > 0) chunks.push(encodeRecords(0x1a, previous));
  return new EncodedMessage(chunks);
}

/** LeaseKeepAliveResponse: header, id, remaining seconds. */
export function encodeKeepAlive(header: Uint8Array, id: bigint, ttlSeconds: number): EncodedMessage {
  const bytes = Buffer.allocUnsafe(header.length + 22);
  bytes.set(header);
  let at = header.length;
  if (id !== 0n) {
    bytes[at] = 0x10;
    at = writeVarint64(bytes, at + 1, id);
  }
  if (ttlSeconds > 0) {
    bytes[at] = 0x18;
    at = writeVarint(bytes, at + 1, ttlSeconds);
  }
  return new EncodedMessage([bytes.subarray(0, at)]);
}

/** Records as a repeated message field, in one piece. */
export function encodeRecords(tag: number, records: readonly Uint8Array[]): Uint8Array {
  let size = 0;
  for (const record of records) size += 1 + varintSize(record.length) + record.length;
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const record of records) {
    bytes[at] = tag;
    at = writeVarint(bytes, at + 1, record.length);
    bytes.set(record, at);
    at += record.length;
  }
  return bytes;
}

/** The end of a RangeResponse: `more` and `count`, zero values left out. */
export function encodeRangeEnd(more: boolean, count: number): Uint8Array {
  const bytes = new Uint8Array((more ? 2 : 0) + (count > 0 ? 1 + varintSize(count) : 0));
  let at = 0;
  if (more) {
    bytes[at++] = 0x18;
    bytes[at++] = 1;
  }
  if (count > 0) {
    bytes[at++] = 0x20;
    writeVarint(bytes, at, count);
  }
  return bytes;
}

/** The tag of `kvs` in a RangeResponse. */
export const rangeRecordTag = 0x12;
