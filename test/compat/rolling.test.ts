/** Three members restarted one after the other under load: clients notice nothing that etcd's client would not hide. */
import { afterEach, expect, test } from "bun:test";
import { type Cluster, startCluster } from "../tools/cluster";
import { freePorts } from "../tools/server";
import { ClusterLoad, FollowingWatch } from "./cluster-load";

let cluster: Cluster;

afterEach(async () => {
  await cluster.kill();
});

test("a rolling restart of three members under load", async () => {
  cluster = await startCluster({ size: 3 });
  const load = new ClusterLoad(cluster, 8, 3);
  const watch = new FollowingWatch(cluster);
  await Bun.sleep(500);
  // The leader is among them, so leadership moves at least once; restarting it last makes it move twice.
  for (const member of cluster.members) {
    const { code } = (await member.stop())!;
    expect(code === 0 || cluster.kind === "etcd").toBe(true);
    await Bun.sleep(300);
    await member.start(cluster.kind === "etcd" ? {} : { begin: [] });
    await Bun.sleep(500);
  }
  const leader = await cluster.leader();
  await leader.stop();
  await leader.start(cluster.kind === "etcd" ? {} : { begin: [] });
  await Bun.sleep(500);
  await load.stop();
  const newest = load.acknowledged.reduce((max, { revision }) => (revision > max ? revision : max), 0n);
  for (let waits = 0; watch.revision < newest && waits < 100; waits++) await Bun.sleep(50);
  await watch.stop();
  // etcd tells some of them that their request timed out.
  if (cluster.kind === "keelson") expect(load.errors).toEqual([]);
  expect(load.acknowledged.length).toBeGreaterThan(1_000);
  expect(load.retries).toBeGreaterThan(0);
  for (const { clientUrl } of cluster.members) expect(await load.check(clientUrl)).toEqual([]);
  expect(watch.wrong).toEqual([]);
  expect(watch.revision).toBeGreaterThanOrEqual(newest);
}, 90_000);

test("members move to other peer URLs one after the other: update, then restart there", async () => {
  cluster = await startCluster({ size: 3 });
  const load = new ClusterLoad(cluster, 4, 1);
  const ports = await freePorts(3);
  for (const [position, member] of cluster.members.entries()) {
    const etcdctl = await cluster.etcdctl(cluster.members.filter((other) => other !== member));
    const url = `http://127.0.0.1:${ports[position]}`;
    const line = (await etcdctl.ok(["member", "list"]))
      .split("\n")
      .find((one) => one.includes(member.clientUrl))!;
    await etcdctl.ok(["member", "update", line.split(",")[0]!, `--peer-urls=${url}`]);
    await member.stop();
    // The last one of a flag counts.
    await member.start({
      ...(cluster.kind === "etcd" ? {} : { begin: [] }),
      flags: ["--listen-peer-urls", url],
    });
  }
  await load.stop();
  if (cluster.kind === "keelson") expect(load.errors).toEqual([]);
  for (const { clientUrl } of cluster.members) expect(await load.check(clientUrl)).toEqual([]);
  const etcdctl = await cluster.etcdctl([cluster.members[0]!]);
  const list = await etcdctl.ok(["member", "list"]);
  for (const port of ports) expect(list).toContain(`http://127.0.0.1:${port}`);
}, 90_000);
