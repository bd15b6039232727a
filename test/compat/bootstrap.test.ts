/** Beginnings that cannot be right are refused with what is wrong and what to do, and change nothing. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Cluster, type ClusterMember, type StartOptions, startCluster } from "../tools/cluster";

// Each starts processes, and a test that ends too early takes them all along.
setDefaultTimeout(60_000);

const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
let cluster: Cluster;
let m1: ClusterMember;
let m2: ClusterMember;
let m3: ClusterMember;

async function memberList(): Promise<string> {
  const etcdctl = await cluster.etcdctl([m1]);
  return etcdctl.ok(["member", "list"]);
}

/** A start that has to be refused: the line that says why. */
async function refusedLine(member: ClusterMember, options: StartOptions): Promise<string> {
  const before = await memberList();
  const { code, signal, log } = await member.refused(options);
  expect({ signal, failed: code !== 0 }).toEqual({ signal: null, failed: true });
  expect(log).not.toMatch(/\n\s+at .*\.ts:\d+/);
  // Nothing was begun, neither here nor in the cluster.
  const left = existsSync(member.dataDir) ? readdirSync(member.dataDir) : [];
  expect(left.filter((name) => name !== "LOCK")).toEqual([]);
  expect(await memberList()).toBe(before);
  return log.trim().split("\n").at(-1)!;
}

/** Names and URLs as --initial-cluster takes them. */
const listed = (...members: ClusterMember[]): string =>
  members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(",");

describe.skipIf(calibrating)("a member that begins wrongly beside a running cluster", () => {
  let stranger: ClusterMember;

  beforeAll(async () => {
    cluster = await startCluster({ size: 3 });
    [m1, m2, m3] = cluster.members as [ClusterMember, ClusterMember, ClusterMember];
    stranger = await cluster.newMember();
  }, 60_000);
  afterAll(async () => {
    await cluster.kill();
  });

  const own = (): string[] => ["--name", "m4", "--initial-advertise-peer-urls", stranger.peerUrl];

  test("whose own name is not in --initial-cluster", async () => {
    const line = await refusedLine(stranger, { begin: [...own(), "--initial-cluster", listed(m1, m2)] });
    expect(line).toContain(`this member's name, "m4", is not in the list`);
  });

  test("whose advertised URLs are not those of its entry", async () => {
    const line = await refusedLine(stranger, {
      begin: [...own(), "--initial-cluster", `${listed(m1, m2)},m4=http://127.0.0.1:1`],
    });
    expect(line).toContain("differ from --initial-advertise-peer-urls");
  });

  test("existing, but never added", async () => {
    const line = await refusedLine(stranger, {
      begin: [
        ...own(),
        "--initial-cluster",
        listed(m1, m2, m3, stranger),
        "--initial-cluster-state=existing",
      ],
    });
    expect(line).toContain("which the running cluster does not know (add it first: etcdctl member add m4");
    expect(line).toContain(m2.peerUrl);
  });

  test("existing, with a member left out of --initial-cluster", async () => {
    const line = await refusedLine(stranger, {
      begin: [...own(), "--initial-cluster", listed(m1, m2, stranger), "--initial-cluster-state=existing"],
    });
    expect(line).toContain(`--initial-cluster has no member at ${m3.peerUrl}`);
  });

  test("existing, where nobody answers", async () => {
    const line = await refusedLine(stranger, {
      begin: [
        ...own(),
        "--initial-cluster",
        `${listed(stranger)},other=http://127.0.0.1:1`,
        "--initial-cluster-state=existing",
      ],
    });
    expect(line).toContain("no member answers at http://127.0.0.1:1");
  });

  test("existing, with nobody to ask", async () => {
    const line = await refusedLine(stranger, { begin: [...own(), "--initial-cluster-state=existing"] });
    expect(line).toContain("names no other member that could be asked");
  });

  test("as a founder of a cluster whose other founders run one without it", async () => {
    const line = await refusedLine(stranger, {
      begin: [...own(), "--initial-cluster", listed(m1, m2, m3, stranger)],
    });
    expect(line).toContain("cluster ID mismatch");
    expect(line).toContain("--join");
  });

  test("as a founder with another token", async () => {
    await m3.stop();
    const other = new Cluster({ size: 0 });
    const lost = await other.newMember();
    const begin = [
      "--name=m3",
      `--initial-advertise-peer-urls=${m3.peerUrl}`,
      `--initial-cluster=${listed(m1, m2, m3)}`,
      "--initial-cluster-token=another",
    ];
    const line = await refusedLine(lost, { begin });
    expect(line).toContain("cluster ID mismatch");
    expect(line).toContain("--initial-cluster-token");
  });

  test("as a founder that has lost its data", async () => {
    const other = new Cluster({ size: 0 });
    const lost = await other.newMember();
    const begin = ["--name", "m3", "--initial-advertise-peer-urls", m3.peerUrl];
    const founding = await refusedLine(lost, { begin: [...begin, "--initial-cluster", listed(m1, m2, m3)] });
    expect(founding).toContain("has already been bootstrapped");
    expect(founding).toContain("etcdctl member remove");
    const existing = await refusedLine(lost, {
      begin: [...begin, "--initial-cluster", listed(m1, m2, m3), "--initial-cluster-state=existing"],
    });
    expect(existing).toContain("has been started before");
    const joining = await refusedLine(lost, { begin: [...begin, "--join", m1.clientUrl] });
    expect(joining).toContain("has been started before");
    await m3.start({ begin: [] });
  }, 30_000);

  test("as a founder that has lost its data and reaches nobody at first: the others tell it when they meet", async () => {
    await m3.stop();
    const other = new Cluster({ size: 0 });
    const lost = await other.newMember();
    const asM3 = ["--name=m3", `--initial-advertise-peer-urls=${m3.peerUrl}`];
    const begin = [
      ...asM3,
      `--listen-peer-urls=${m3.peerUrl}`,
      `--initial-cluster=${listed(m1, m2, m3)}`,
      "--initial-cluster-token=etcd-cluster",
    ];
    for (const { server } of [m1, m2]) server!.signal("SIGSTOP");
    const server = await lost.launch({ begin });
    while (!server.log().includes("began a new member")) await Bun.sleep(50);
    for (const { server: peer } of [m1, m2]) peer!.signal("SIGCONT");
    const { code } = await server.exit();
    expect(code).not.toBe(0);
    expect(server.log()).toContain("has already been bootstrapped");
    await m3.start({ begin: [] });
    expect(await memberList()).toContain("m3");
  }, 30_000);

  test("with --force-new-cluster and no data", async () => {
    const line = await refusedLine(stranger, { begin: [...own(), "--force-new-cluster"] });
    expect(line).toContain("name the right --data-dir");
  });

  test("--join waits for a cluster that cannot be reached, and says so", async () => {
    await stranger.launch({ begin: [...own(), "--join", "http://127.0.0.1:1"] });
    const deadline = performance.now() + 10_000;
    while (!stranger.server!.log().includes("waits to join the cluster")) {
      if (performance.now() > deadline) throw new Error(stranger.server!.log());
      await Bun.sleep(50);
    }
    expect(readdirSync(stranger.dataDir).filter((name) => name !== "LOCK")).toEqual([]);
    await stranger.kill();
  });

  test("--join replaces what was added by hand and never started", async () => {
    const etcdctl = await cluster.etcdctl([m1]);
    const deadline = performance.now() + 15_000;
    for (;;) {
      const { code, stderr } = await etcdctl.run([
        "member",
        "add",
        "m4",
        "--learner",
        `--peer-urls=${stranger.peerUrl}`,
      ]);
      if (code === 0) break;
      if (!stderr.includes("unhealthy") || performance.now() > deadline) throw new Error(stderr);
      await Bun.sleep(200);
    }
    await stranger.start({ begin: [...own(), "--join", m2.clientUrl] }, 30_000);
    while ((await memberList()).includes(", true")) await Bun.sleep(50);
    expect((await memberList()).trim().split("\n").length).toBe(4);
  }, 60_000);

  test("not wrongly: added by hand as a voter, then existing, as etcdctl printed it", async () => {
    const added = await cluster.newMember();
    const etcdctl = await cluster.etcdctl([m1]);
    const deadline = performance.now() + 15_000;
    let printed: string;
    for (;;) {
      const { code, stdout, stderr } = await etcdctl.run([
        "member",
        "add",
        "m5",
        `--peer-urls=${added.peerUrl}`,
      ]);
      printed = stdout;
      if (code === 0) break;
      if (!stderr.includes("unhealthy") || performance.now() > deadline) throw new Error(stderr);
      await Bun.sleep(200);
    }
    const env = Object.fromEntries(
      [...printed.matchAll(/^(ETCD_\w+)="(.*)"$/gm)].map(([, name, value]) => [name, value!]),
    );
    expect(Object.keys(env).length).toBe(4);
    await added.start({ begin: [], env });
    expect(await memberList()).toMatch(/, started, m5, .*, false$/m);
    await added.stop();
    await added.start({ begin: [] });
    const id = (await memberList())
      .split("\n")
      .find((line) => line.includes(", m5,"))!
      .split(",")[0]!;
    for (;;) {
      const { code, stderr } = await etcdctl.run(["member", "remove", id]);
      if (code === 0) break;
      if (!stderr.includes("unhealthy") || performance.now() > deadline + 15_000) throw new Error(stderr);
      await Bun.sleep(200);
    }
    expect(await added.server!.exit()).toEqual({ code: 0, signal: null });
  }, 60_000);

  test("with the data of another cluster", async () => {
    const other = new Cluster({ size: 0 });
    const alone = await other.newMember();
    other.founders = [alone];
    await alone.start();
    await alone.stop();
    const joining = await alone.refused({ begin: ["--join", m1.clientUrl] });
    expect(joining.code).toBe(1);
    expect(joining.log).toContain("belong to cluster");
    const founding = await alone.refused({
      begin: [
        "--name=m3",
        `--initial-advertise-peer-urls=${m3.peerUrl}`,
        `--initial-cluster=${listed(m1, m2, m3)}`,
      ],
    });
    expect(founding.code).toBe(1);
    expect(founding.log).toContain("belong to cluster");
    // The data are as good as before.
    await alone.start({ begin: [] });
    await alone.kill();
  }, 30_000);

  test("with the data of a member that was removed", async () => {
    const etcdctl = await cluster.etcdctl([m1]);
    const id = (await memberList())
      .split("\n")
      .find((line) => line.includes(", m4,"))!
      .split(",")[0]!;
    await stranger.stop();
    const deadline = performance.now() + 15_000;
    for (;;) {
      const { code, stderr } = await etcdctl.run(["member", "remove", id]);
      if (code === 0) break;
      if (!stderr.includes("unhealthy") || performance.now() > deadline) throw new Error(stderr);
      await Bun.sleep(200);
    }
    // It was not there to hear of it; the others tell it.
    const { log } = await stranger.refused({ begin: [] });
    expect(log.split("\n").slice(-4).join("\n")).toContain("removed from the cluster");
  }, 60_000);
});

describe.skipIf(calibrating)("--force-new-cluster", () => {
  test("makes a survivor the only member, once, and keeps its data", async () => {
    cluster = await startCluster({ size: 3 });
    [m1, m2, m3] = cluster.members as [ClusterMember, ClusterMember, ClusterMember];
    const before = await cluster.etcdctl();
    for (let count = 1; count <= 20; count++) await before.ok(["put", `k${count}`, String(count)]);
    await cluster.kill();

    await m2.start({ begin: ["--force-new-cluster"] });
    const etcdctl = await cluster.etcdctl([m2]);
    expect((await etcdctl.ok(["member", "list"])).trim().split("\n").length).toBe(1);
    expect((await etcdctl.ok(["get", "k", "--prefix", "--keys-only"])).match(/k\d+/g)?.length).toBe(20);
    await etcdctl.ok(["put", "after", "1"]);
    expect(m2.server!.log()).toContain("this is the only member from now on");
    await m2.stop();

    // The flag stays in a unit file: nothing happens while it is alone, nor when it is not.
    await m2.start({ begin: ["--force-new-cluster"] });
    expect(m2.server!.log()).toContain("this member is alone already");
    const joiner = await cluster.newMember();
    await joiner.start({ begin: ["--name", joiner.name, "--join", m2.clientUrl] }, 30_000);
    while ((await etcdctl.ok(["member", "list"])).includes(", true")) await Bun.sleep(50);
    await m2.stop();
    await m2.start({ begin: ["--force-new-cluster"] });
    expect(m2.server!.log()).toContain("--force-new-cluster is ignored");
    expect((await etcdctl.ok(["member", "list"])).trim().split("\n").length).toBe(2);
    expect((await etcdctl.ok(["get", "after", "--print-value-only"])).trim()).toBe("1");

    // Those that were left out are told so, and cannot disturb.
    await m1.launch({ begin: [] });
    const status = await m1.server!.exit();
    expect(status.signal).toBeNull();
    expect(m1.server!.log()).toContain("permanently removed");
    expect(existsSync(join(m2.dataDir, "forced-new-cluster"))).toBe(true);
    await cluster.kill();
  }, 90_000);
});
