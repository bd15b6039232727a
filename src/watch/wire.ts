/** Puts WatchResponse messages together from stored bytes, field by field as etcd does. */

const createdField = Uint8Array.of(0x18, 1);
const canceledField = Uint8Array.of(0x20, 1);
/** `fragment: true`. */
export const fragmentField: Uint8Array = Uint8Array.of(0x38, 1);

/** The bytes that an unsigned number below 2^53 takes as a varint. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

/** Writes a varint below 2^53 and returns the offset after it. */
function putVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 0x80) {
    target[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  target[at++] = rest;
  return at;
}

/** One int64 field; negative numbers take ten bytes. Zero is absent, as in every proto3 message. */
export function int64Field(field: number, value: bigint): Uint8Array {
  if (value === 0n) return new Uint8Array(0);
  const bytes = [(field << 3) | 0];
  let rest = BigInt.asUintN(64, value);
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** One field of bytes. Field numbers stay below 16, so the tag is one byte. */
export function bytesField(field: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(1 + varintSize(value.length) + value.length);
  out[0] = (field << 3) | 2;
  out.set(value, putVarint(out, 1, value.length));
  return out;
}

/** The `watch_id` field. */
export function watchIdField(watchId: bigint): Uint8Array {
  return int64Field(2, watchId);
}

/** The `header` field around an encoded ResponseHeader. */
export function headerField(header: Uint8Array): Uint8Array {
  return bytesField(1, header);
}

/** One `events` field: an mvccpb.Event around the stored records. */
export function eventField(
  type: "put" | "delete",
  record: Uint8Array,
  previous: Uint8Array | undefined,
): Uint8Array {
  const typeSize = type === "delete" ? 2 : 0;
  const recordSize = 1 + varintSize(record.length) + record.length;
  const previousSize = previous === undefined ? 0 : 1 + varintSize(previous.length) + previous.length;
  const eventSize = typeSize + recordSize + previousSize;
  const out = new Uint8Array(1 + varintSize(eventSize) + eventSize);
  out[0] = (11 << 3) | 2;
  let at = putVarint(out, 1, eventSize);
  if (type === "delete") {
    out[at++] = 0x08;
    out[at++] = 1;
  }
  out[at++] = (2 << 3) | 2;
  at = putVarint(out, at, record.length);
  out.set(record, at);
  at += record.length;
  if (previous !== undefined) {
    out[at++] = (3 << 3) | 2;
    at = putVarint(out, at, previous.length);
    out.set(previous, at);
  }
  return out;
}

/** Joins the header field and the id field of one watcher: what precedes its events. */
export function responsePrefix(header: Uint8Array, idField: Uint8Array): Uint8Array {
  const out = new Uint8Array(header.length + idField.length);
  out.set(header);
  out.set(idField, header.length);
  return out;
}

/** A response without events. */
export function controlResponse(
  header: Uint8Array,
  watchId: bigint,
  about: {
    readonly created?: boolean;
    readonly canceled?: boolean;
    readonly compactRevision?: number;
    readonly reason?: string;
  },
): Uint8Array {
  const parts = [headerField(header), watchIdField(watchId)];
  if (about.created === true) parts.push(createdField);
  if (about.canceled === true) parts.push(canceledField);
  if (about.compactRevision !== undefined) parts.push(int64Field(5, BigInt(about.compactRevision)));
  if (about.reason !== undefined && about.reason !== "")
    parts.push(bytesField(6, Buffer.from(about.reason, "utf8")));
  return Buffer.concat(parts);
}
