/** How members and clusters get their ids: etcd's rules, so that the ids of a given configuration are the same. */
import { createHash } from "node:crypto";
import type { ClusterId, MemberId } from "../ids";

function firstEightBytes(data: string | Uint8Array): bigint {
  return createHash("sha1").update(data).digest().readBigUInt64BE(0);
}

/**
 * The id of a bootstrap member: the first 8 bytes of SHA-1 over its sorted peer URLs and the cluster token; a
 * member added at run time mixes in the time of the addition (reference etcd-wire 8.10).
 */
export function memberIdOf(
  peerUrls: readonly string[],
  clusterToken: string,
  addedAtSeconds?: number,
): MemberId {
  const when = addedAtSeconds === undefined ? "" : String(addedAtSeconds);
  return firstEightBytes([...peerUrls].sort().join("") + clusterToken + when);
}

/** The id of a cluster: the first 8 bytes of SHA-1 over the sorted ids of its bootstrap members. */
export function clusterIdOf(members: readonly MemberId[]): ClusterId {
  const sorted = [...members].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const bytes = Buffer.alloc(sorted.length * 8);
  sorted.forEach((id, position) => bytes.writeBigUInt64BE(id, position * 8));
  return firstEightBytes(bytes);
}
