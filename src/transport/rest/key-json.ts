/** Stored keys as JSON and as headers. */
import type { KeyValue } from "../../proto/gen/etcd/kv_pb";
import { byteField } from "./byte-fields";
import { entityTag } from "./etag";

/** An id as its 16 hexadecimal digits. */
export function hex16(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16).padStart(16, "0");
}

/** What a key is, without its value. */
export function metadataJson(kv: Omit<KeyValue, "$typeName" | "$unknown">): Record<string, unknown> {
  return {
    ...byteField("key", kv.key),
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
    version: kv.version,
    ...(kv.lease === 0n ? {} : { lease: hex16(kv.lease) }),
  };
}

/** A key with its value. */
export function keyValueJson(kv: Omit<KeyValue, "$typeName" | "$unknown">): Record<string, unknown> {
  return { ...metadataJson(kv), ...byteField("value", kv.value) };
}

/** The headers that describe a key, and the store's revision at which that is true. */
export function keyHeaders(
  revision: bigint,
  kv: {
    readonly createRevision: bigint;
    readonly modRevision: bigint;
    readonly version: bigint;
    readonly lease: bigint;
  },
): Record<string, string> {
  return {
    etag: entityTag(kv.modRevision),
    "keelson-revision": String(revision),
    "keelson-mod-revision": String(kv.modRevision),
    "keelson-create-revision": String(kv.createRevision),
    "keelson-version": String(kv.version),
    ...(kv.lease === 0n ? {} : { "keelson-lease": hex16(kv.lease) }),
  };
}
