/**
 * The numbers that name things. Identifiers use all 64 bits and are `bigint`; positions and counters stay
 * below 2^53 and are `number`, checked where they enter.
 */
import { assert } from "./assert";

/** Identity of a member of the cluster; never reused. */
export type MemberId = bigint;
/** Identity of a cluster. */
export type ClusterId = bigint;
/** Identity of a lease; positive, 63 bits. */
export type LeaseId = bigint;
/** Raft term. */
export type Term = number;
/** Position in the Raft log; the first entry has index 1. */
export type LogIndex = number;
/** MVCC revision; an empty store is at revision 1. */
export type Revision = number;

/** No member: "no leader known", "voted for nobody". */
export const noMember: MemberId = 0n;

/** Converts a 64-bit counter from the wire into a number, asserting that nothing is lost. */
export function toCounter(value: bigint, what: string): number {
  const counter = Number(value);
  assert(Number.isSafeInteger(counter), `${what} ${value} does not fit into 53 bits`);
  return counter;
}

/** The lower-case hexadecimal form in which etcd's tools print member, cluster and lease ids. */
export function hexId(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16);
}
