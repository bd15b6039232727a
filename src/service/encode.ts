/**
 * Answers of the hot paths, put together from stored bytes: a range is its header, the records as they lie in
 * the store, and two numbers. Field numbers are those of etcd/rpc.proto.
 */
import { create } from "@bufbuild/protobuf";
import type { ClusterId, MemberId, Revision, Term } from "../ids";
import { type ResponseHeader, ResponseHeaderSchema } from "../proto/gen/etcd/rpc_pb";
import { EncodedMessage } from "../transport/call";

/** Bytes that a non-negative integer takes as a varint. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Writes a non-negative safe integer as a varint; returns the offset behind it. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 128) {
    target[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  target[at++] = rest;
  return at;
}

function varint64(value: bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return bytes;
}

/** Makes the response headers of one member. */
export class Headers {
  readonly #clusterId: ClusterId;
  readonly #memberId: MemberId;
  readonly #term: () => Term;
  /** cluster_id and member_id, which never change. */
  readonly #ids: Uint8Array;

  constructor(clusterId: ClusterId, memberId: MemberId, term: () => Term) {
    this.#clusterId = clusterId;
    this.#memberId = memberId;
    this.#term = term;
    this.#ids = Uint8Array.from([0x08, ...varint64(clusterId), 0x10, ...varint64(memberId)]);
  }

  /** The header as a message; revision 0 is left out on the wire, as the Cluster service does. */
  message(revision: Revision): ResponseHeader {
    return create(ResponseHeaderSchema, {
      clusterId: this.#clusterId,
      memberId: this.#memberId,
      revision: BigInt(revision),
      raftTerm: BigInt(this.#term()),
    });
  }

  /** The header's own bytes, without tag and length. */
  bytes(revision: Revision): Uint8Array {
    const field = this.field(revision);
    return field.subarray(2);
  }

  /** The header as field 1 of an answer: tag, length, content. Shorter than 128 bytes, so one length byte. */
  field(revision: Revision): Uint8Array {
    const term = this.#term();
    const length =
      this.#ids.length +
      (revision > 0 ? 1 + varintSize(revision) : 0) +
      (term > 0 ? 1 + varintSize(term) : 0);
    const bytes = Buffer.allocUnsafe(2 + length);
    bytes[0] = 0x0a;
    bytes[1] = length;
    bytes.set(this.#ids, 2);
    let at = 2 + this.#ids.length;
    if (revision > 0) {
      bytes[at++] = 0x18;
      at = writeVarint(bytes, at, revision);
    }
    if (term > 0) {
      bytes[at++] = 0x20;
      writeVarint(bytes, at, term);
    }
    return bytes;
  }
}

/** A length-delimited field: its tag byte, the length, the content. */
export function encodeField(tag: number, content: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(1 + varintSize(content.length) + content.length);
  bytes[0] = tag;
  bytes.set(content, writeVarint(bytes, 1, content.length));
  return bytes;
}

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
