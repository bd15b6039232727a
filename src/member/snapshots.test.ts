/** Members that lag too far for the log, and catch up by snapshot. */
import { expect, test } from "bun:test";
import { installed, lagging, lines, outrun, put, sameState } from "../../test/sim/lagging";

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
