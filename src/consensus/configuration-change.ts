/** How a membership change is written into the data of a log entry: version, type, member id, context. */
import { assert } from "../assert";
import type { ConfigurationChange } from "./types";

const version = 1;
const headerBytes = 10;
const types = ["add-voter", "add-learner", "remove"] as const;

/** Bytes for the data of a "configuration" entry. */
export function encodeConfigurationChange(change: ConfigurationChange): Uint8Array {
  const bytes = new Uint8Array(headerBytes + change.context.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, version);
  view.setUint8(1, types.indexOf(change.type));
  view.setBigUint64(2, change.memberId);
  bytes.set(change.context, headerBytes);
  return bytes;
}

/** The inverse; throws an InvariantError on bytes that this version cannot have written. */
export function decodeConfigurationChange(bytes: Uint8Array): ConfigurationChange {
  assert(bytes.length >= headerBytes, `configuration change of ${bytes.length} bytes is too short`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  assert(view.getUint8(0) === version, `configuration change has unknown version ${view.getUint8(0)}`);
  const type = types[view.getUint8(1)];
  assert(type !== undefined, `configuration change has unknown type ${view.getUint8(1)}`);
  return { type, memberId: view.getBigUint64(2), context: bytes.slice(headerBytes) };
}
