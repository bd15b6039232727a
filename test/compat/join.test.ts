/** `keelson --join`: a cluster grows from one to five and shrinks back while it is used, and restarts need no flags. */
import { afterEach, expect, test } from "bun:test";
import { Cluster, type ClusterMember } from "../tools/cluster";
import { ClusterLoad, FollowingWatch } from "./cluster-load";

const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
let cluster: Cluster;

afterEach(async () => {
  await cluster.kill();
});

async function startAlone(): Promise<ClusterMember> {
  cluster = new Cluster({ size: 0 });
  const first = await cluster.newMember();
  cluster.founders = [first];
  await first.start();
  return first;
}

async function members(asked: ClusterMember): Promise<{ id: string; name: string; learner: boolean }[]> {
  const etcdctl = await cluster.etcdctl([asked]);
  return (await etcdctl.ok(["member", "list"]))
    .trim()
    .split("\n")
    .map((line) => {
      const cells = line.split(", ");
      return { id: cells[0]!, name: cells[2]!, learner: cells[5] === "true" };
    });
}

async function until(what: string, fits: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await fits())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await Bun.sleep(50);
  }
}

const voters = async (asked: ClusterMember) =>
  (await members(asked)).filter(({ learner }) => !learner).length;

async function join(through: readonly ClusterMember[], ...flags: string[]): Promise<ClusterMember> {
  const joiner = await cluster.newMember();
  const urls = through.map(({ clientUrl }) => clientUrl).join(",");
  await joiner.start({ begin: ["--name", joiner.name, "--join", urls, ...flags] }, 30_000);
  return joiner;
}

async function remove(name: string): Promise<void> {
  const asked = cluster.running.find((member) => member.name !== name)!;
  const { id } = (await members(asked)).find((member) => member.name === name)!;
  const etcdctl = await cluster.etcdctl([asked]);
  // Members have to have been connected for five seconds.
  await until(`${name} can be removed`, async () => {
    const { code, stderr } = await etcdctl.run(["member", "remove", id]);
    if (code !== 0 && !stderr.includes("etcdserver: unhealthy cluster")) throw new Error(stderr);
    return code === 0;
  });
}

test.skipIf(calibrating)(
  "from one to five and back to one while writes run: nothing lost, no gap, no stale read",
  async () => {
    const first = await startAlone();
    const load = new ClusterLoad(cluster, 4);
    const watch = new FollowingWatch(cluster);
    for (let size = 2; size <= 5; size++) {
      await join([cluster.members.at(-1)!, first]);
      await until(`${size} voters`, async () => (await voters(first)) === size);
    }
    // The founder goes too: nothing depends on it.
    for (const name of ["m1", "m3", "m5", "m2"]) {
      await remove(name);
      const status = await cluster.members.find((member) => member.name === name)!.server!.exit();
      expect({ name, ...status }).toEqual({ name, code: 0, signal: null });
    }
    await load.stop();
    const [last] = cluster.running;
    expect((await members(last!)).map(({ name }) => name)).toEqual(["m4"]);
    expect(load.acknowledged.length).toBeGreaterThan(500);
    expect(load.reads).toBeGreaterThan(100);
    expect(await load.check(last!.clientUrl)).toEqual([]);
    const newest = load.acknowledged.reduce((max, { revision }) => (revision > max ? revision : max), 0n);
    await until("the watch has everything", async () => watch.revision >= newest);
    await watch.stop();
    expect(watch.wrong).toEqual([]);
    expect(load.errors.filter((error) => error.startsWith("a stale read"))).toEqual([]);
    // What is left of a removed member says why it ended, and does not come back.
    expect(cluster.members[1]!.server!.log()).toContain("permanently removed");
    const refused = await cluster.members[1]!.refused({ begin: [] });
    expect(refused.log.split("\n").slice(-4).join("\n")).toMatch(/removed/);
  },
  180_000,
);

test.skipIf(calibrating)(
  "a joined member restarts with nothing but its addresses, and joining again changes nothing",
  async () => {
    const first = await startAlone();
    const second = await join([first]);
    await until("two voters", async () => (await voters(first)) === 2);
    const before = await members(first);
    await second.stop();
    await second.start({ begin: [] });
    expect(await members(second)).toEqual(before);
    await second.kill();
    await second.start({ begin: ["--name", second.name, "--join", first.clientUrl] });
    expect(await members(second)).toEqual(before);
    expect(second.server!.log()).toContain("--join has no effect");
  },
  60_000,
);

test.skipIf(calibrating)(
  "--join-as-learner stays one; a second learner waits until it is promoted",
  async () => {
    const first = await startAlone();
    const learner = await cluster.newMember();
    await learner.launch({ begin: ["--name", "m2", "--join", first.clientUrl, "--join-as-learner"] });
    await until("a learner", async () =>
      (await members(first)).some(({ name, learner: is }) => is && name === "m2"),
    );
    const third = await cluster.newMember();
    await third.launch({ begin: ["--name", "m3", "--join", first.clientUrl] });
    await until("the third waits", async () => third.server!.log().includes("too many learner members"));
    await Bun.sleep(1_500);
    expect((await members(first)).map(({ name, learner: is }) => `${name} ${is}`).sort()).toEqual([
      "m1 false",
      "m2 true",
    ]);
    const etcdctl = await cluster.etcdctl([first]);
    const { id } = (await members(first)).find(({ name }) => name === "m2")!;
    await etcdctl.ok(["member", "promote", id]);
    await until("three voters", async () => (await voters(first)) === 3, 30_000);
  },
  60_000,
);

test.skipIf(calibrating)(
  "--max-learners=2 lets two catch up at once, and --strict-reconfig-check=false does not wait for five seconds",
  async () => {
    cluster = new Cluster({ size: 0, flags: ["--max-learners=2", "--strict-reconfig-check=false"] });
    const first = await cluster.newMember();
    cluster.founders = [first];
    await first.start();
    for (const name of ["m2", "m3"]) {
      const learner = await cluster.newMember();
      await learner.launch({ begin: ["--name", name, "--join", first.clientUrl, "--join-as-learner"] });
    }
    await until("two learners", async () => {
      const learners = (await members(first)).filter(({ learner, name }) => learner && name !== "");
      return learners.length === 2;
    });
    const etcdctl = await cluster.etcdctl([first]);
    const refused = await etcdctl.run(["member", "add", "m4", "--learner", "--peer-urls=http://127.0.0.1:1"]);
    expect(refused.stderr).toContain("etcdserver: too many learner members in cluster");
    // The strict check would call a cluster unhealthy that came together a moment ago.
    const learner = (await members(first)).find((member) => member.learner);
    await until("promotion", async () => (await etcdctl.run(["member", "promote", learner!.id])).code === 0);
    await etcdctl.ok(["member", "add", "m4", "--peer-urls=http://127.0.0.1:1"]);
  },
  60_000,
);

test.skipIf(calibrating)(
  "a join that is killed at any moment is finished by the next start, with one member",
  async () => {
    const first = await startAlone();
    for (const [round, mark] of [
      "starting keelson",
      "was added to the cluster",
      "opened the state database",
      "ready to serve",
    ].entries()) {
      const joiner = await cluster.newMember();
      const begin = ["--name", joiner.name, "--join", first.clientUrl];
      await joiner.launch({ begin });
      await until(mark, async () => joiner.server!.log().includes(mark));
      await joiner.kill();
      // Later starts need no --join once there is data, and may have it before.
      await joiner.start({ begin: round === 3 ? [] : begin }, 30_000);
      await until("one more voter", async () => (await voters(first)) === round + 2, 30_000);
      expect((await members(first)).length).toBe(round + 2);
    }
  },
  120_000,
);
