/** A follower that lags further than the logs of the others reach back, for tests of snapshots. */
import { expect } from "bun:test";
import { create } from "@bufbuild/protobuf";
import type { Member } from "../../src/member/member";
import type { MemberOptions } from "../../src/member/options";
import { PutRequestSchema, RangeRequestSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { Cluster, type Node } from "./cluster";

const encoder = new TextEncoder();
export const everything = create(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) });

/** Little stays in the log behind a checkpoint. */
export const shortLog: Partial<MemberOptions> = {
  logSegmentBytes: 16 * 1024,
  checkpointEntries: 1,
  catchupEntries: 5,
};

/** The operation that puts a key. */
export function put(key: string, value: string | Uint8Array = "value", lease = 0n) {
  const bytes = typeof value === "string" ? encoder.encode(value) : value;
  const request = create(PutRequestSchema, { key: encoder.encode(key), value: bytes, lease });
  return { case: "put", value: request } as const;
}

/** Writes so much that entries of before leave the log at the next checkpoint, and lets that one pass. */
export function outrun(cluster: Cluster, member: Member, prefix = "k", valueBytes = 1_024): void {
  const value = new Uint8Array(valueBytes);
  for (let round = 0; round < 4; round++) {
    const writes = Array.from({ length: 20 }, (_, i) => member.write(put(`${prefix}${round}-${i}`, value)));
    cluster.clock.settle(Promise.all(writes));
  }
  cluster.clock.run(70_000);
}

/** How often a member logged a message. */
export function lines(node: Node, message: string): number {
  return node.world.logged.filter((line) => line.message === message).length;
}

export const installed = "installed the leader's snapshot";

/** Both hold the same, down to leases and members. */
export function sameState(a: Member, b: Member): void {
  expect(a.state.revision).toBe(b.state.revision);
  expect(a.state.appliedIndex).toBe(b.state.appliedIndex);
  expect(a.state.range(everything)).toEqual(b.state.range(everything));
  expect(a.state.leases()).toEqual(b.state.leases());
  expect(a.state.members()).toEqual(b.state.members());
}

/** One follower parted from the others, which then write more than their logs keep. */
export function lagging(options: Partial<MemberOptions> = {}, seed = 1) {
  const cluster = new Cluster(3, seed, { ...shortLog, ...options }).start();
  const leader = cluster.leader();
  const follower = cluster.followers()[0]!;
  cluster.clock.settle(leader.write(put("before")));
  const others = cluster.running().filter((member) => member !== follower);
  cluster.clock.run(1_000);
  cluster.network.part(
    [follower.id],
    others.map(({ id }) => id),
  );
  return { cluster, leader, follower, node: cluster.node(follower.id) };
}
