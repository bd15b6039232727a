/** Members that lag too far for the log, and catch up by snapshot. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster, type Node } from "../../test/sim/cluster";
import { PutRequestSchema, RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";
import type { MemberOptions } from "./options";

const encoder = new TextEncoder();
const everything = create(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) });

/** Little stays in the log behind a checkpoint. */
const shortLog: Partial<MemberOptions> = {
  logSegmentBytes: 16 * 1024,
  checkpointEntries: 1,
  catchupEntries: 5,
};

function put(key: string, value: string | Uint8Array = "value", lease = 0n) {
  const bytes = typeof value === "string" ? encoder.encode(value) : value;
  const request = create(PutRequestSchema, { key: encoder.encode(key), value: bytes, lease });
  return { case: "put", value: request } as const;
}

/** Writes so much that entries of before leave the log at the next checkpoint, and lets that one pass. */
function outrun(cluster: Cluster, member: Member, prefix = "k"): void {
  const value = new Uint8Array(1_024);
  for (let round = 0; round < 4; round++) {
    const writes = Array.from({ length: 20 }, (_, i) => member.write(put(`${prefix}${round}-${i}`, value)));
    cluster.clock.settle(Promise.all(writes));
  }
  cluster.clock.run(70_000);
}

function lines(node: Node, message: string): number {
  return node.world.logged.filter((line) => line.message === message).length;
}

const installed = "installed the leader's snapshot";

function sameState(a: Member, b: Member): void {
  expect(a.state.revision).toBe(b.state.revision);
  expect(a.state.appliedIndex).toBe(b.state.appliedIndex);
  expect(a.state.range(everything)).toEqual(b.state.range(everything));
  expect(a.state.leases()).toEqual(b.state.leases());
  expect(a.state.members()).toEqual(b.state.members());
}

/** One follower parted from the others, which then write more than their logs keep. */
function lagging(options: Partial<MemberOptions> = {}, seed = 1) {
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

test("a follower whose entries left the log catches up by snapshot, and goes on", () => {
  const { cluster, leader, follower, node } = lagging();
  cluster.clock.settle(
    leader.write({
      case: "leaseGrant",
      value: { $typeName: "etcdserverpb.LeaseGrantRequest", ID: 7n, TTL: 600n },
    }),
  );
  cluster.clock.settle(leader.write(put("leased", "v", 7n)));
  outrun(cluster, leader);
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  expect(lines(node, installed)).toBe(1);
  sameState(follower, leader);
  expect(follower.state.lease(7n)?.keys).toEqual(["leased"]);
  // It takes part again: writes through it, reads at it, and a restart.
  cluster.clock.settle(follower.write(put("after")));
  cluster.clock.settle(follower.linearizable());
  cluster.clock.run(2_000);
  expect(node.world.disk.list("/data").filter((name) => name.startsWith("state"))).toEqual(["state-2"]);
  cluster.crash(node);
  const again = cluster.open(node);
  cluster.until(() => again.state.appliedIndex === leader.state.appliedIndex);
  sameState(again, leader);
  expect(lines(node, installed)).toBe(1);
  expect(cluster.fatal()).toEqual([]);
});
