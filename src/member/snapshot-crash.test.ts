/** Power fails at every step of receiving, committing, switching and cleaning up; the member starts again. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { everything, installed, lagging, lines, outrun, put, sameState } from "../../test/sim/lagging";
import { RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

/** What a member holds is what the leader held at that revision: the former state or the new one, never a mix. */
function holdsAPast(member: Member, leader: Member): void {
  const { revision } = member.state;
  const at = create(RangeRequestSchema, { ...everything, revision: BigInt(revision) });
  const held = member.state.range(at);
  expect({ ...leader.state.range(at), revision }).toEqual({ ...held, revision });
}

/** One run with a power cut after so many disk operations; false when the install was over before. */
function cutAfter(operations: number, seed: number): boolean {
  const { cluster, leader, follower, node } = lagging({}, seed);
  outrun(cluster, leader, "k", 12 * 1_024);
  cluster.clock.settle(leader.write(put("last")));
  const { disk } = node.world;
  cluster.network.heal();
  cluster.until(() => follower.snapshots.receiver.status !== undefined);
  disk.cutPowerAfter(operations);
  // The install, and what cleans up behind it.
  for (let waited = 0; !disk.isCut && waited < 200; waited++) cluster.clock.run(5);
  if (!disk.isCut) {
    expect(lines(node, installed)).toBe(1);
    return false;
  }
  cluster.crash(node);
  const again = cluster.open(node);
  holdsAPast(again, leader);
  const { lastIndex } = again.status();
  expect(lastIndex).toBeGreaterThanOrEqual(again.state.appliedIndex);
  cluster.until(() => again.state.appliedIndex === leader.state.appliedIndex);
  sameState(again, leader);
  const { revision } = cluster.clock.settle(again.write(put("after")));
  expect(revision).toBe(leader.state.revision);
  cluster.clock.run(1_000);
  const left = disk.list("/data").filter((name) => name.startsWith("state"));
  expect(left.length).toBe(1);
  return true;
}

test("[P1] wherever the power fails during an install, the member starts with the old state or the new", () => {
  for (let seed = 1; seed <= 5; seed++) {
    let operations = 1;
    while (cutAfter(operations, seed * 1_000 + operations)) operations++;
    // Receiving, renaming, the record, the former state's removal.
    expect(operations).toBeGreaterThan(15);
  }
}, 120_000);

test("[P1] nothing becomes the state, and nothing is acknowledged, before the record is on disk", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader);
  const before = follower.state.appliedIndex;
  const acknowledged: number[] = [];
  cluster.network.filter = (message) => {
    if (message.kind === "append-answer" && message.from === follower.id && message.accepted) {
      acknowledged.push(message.index);
    }
    return true;
  };
  cluster.network.heal();
  cluster.until(() => follower.snapshots.receiver.status?.stage === "verifying");
  const release = node.world.holdSyncs();
  cluster.clock.run(3_000);
  expect(follower.snapshots.receiver.status?.stage).toBe("committing");
  expect(follower.state.appliedIndex).toBe(before);
  expect(acknowledged.filter((index) => index > before)).toEqual([]);
  release();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  sameState(follower, leader);
});

test("a member that is stopped while it installs starts again with what it had, and catches up", () => {
  for (const stage of ["fetching", "verifying", "reading", "committing"] as const) {
    const { cluster, leader, follower, node } = lagging();
    outrun(cluster, leader, "k", 12 * 1_024);
    cluster.network.heal();
    const release = stage === "committing" ? holdAtCommit() : () => {};
    cluster.until(() => {
      const { status } = follower.snapshots.receiver;
      // Reading a small state takes no virtual time.
      return status?.stage === stage || (stage === "reading" && lines(node, installed) === 1);
    });
    const stopped = follower.stop();
    release();
    cluster.clock.settle(stopped);
    const again = cluster.open(node);
    holdsAPast(again, leader);
    cluster.until(() => again.state.appliedIndex === leader.state.appliedIndex);
    sameState(again, leader);
    expect(cluster.fatal()).toEqual([]);

    function holdAtCommit(): () => void {
      cluster.until(() => follower.snapshots.receiver.status?.stage === "verifying");
      return node.world.holdSyncs();
    }
  }
});
