/** The pages about keys and snapshots on a cluster of three: on every member, without a leader, and over a restore. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, startCluster } from "../tools/cluster";
import { freePorts, keelsonCommand, scratchDir, startKeelson } from "../tools/server";
import { unescaped, Visitor, type Visited } from "./visitor";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ size: 3, kind: "keelson" });
}, 60_000);
afterAll(() => cluster.kill());

async function ended(visitor: Visitor, first: Visited): Promise<Visited> {
  let page = first;
  for (let tries = 0; tries < 400 && page.text.includes("Under way"); tries++) {
    await Bun.sleep(50);
    page = await visitor.get(page.url);
  }
  return page;
}

/** What a page offers to copy, by tool. */
function commandsOf({ html }: Visited): string[] {
  return [...html.matchAll(/<pre tabindex="0"><code>([\s\S]*?)<\/code><\/pre>/g)].map(([, text]) =>
    unescaped(text!),
  );
}

test("keys are written and read on leader and followers alike", async () => {
  for (const { clientUrl, name } of cluster.members) {
    const visitor = new Visitor(clientUrl);
    await visitor.get("/ui/");
    const page = await visitor.get("/ui/key/new?prefix=any/");
    const preview = await visitor.submit(page.form("/ui/key/preview"), { key: `any/${name}`, value: name });
    const saved = await visitor.submit(preview.form("/ui/key/save"));
    expect(saved.text).toContain("Created at revision");
    for (const other of cluster.members) {
      expect((await new Visitor(other.clientUrl).get(`/ui/key?k=any/${name}`)).status).toBe(200);
    }
  }
}, 30_000);

test("a snapshot taken on another member is downloaded, checked and restored by the commands shown", async () => {
  const [first, second] = cluster.members;
  const visitor = new Visitor(first!.clientUrl);
  await visitor.get("/ui/");
  const page = await visitor.get("/ui/snapshots");
  const take = page.form("/ui/snapshots/take");
  const ids = [...page.html.matchAll(/<option value="([0-9a-f]{16})"[^>]*>([^<,]*)/g)];
  const id = ids.find(([, , name]) => name === second!.name)![1]!;
  const taken = await ended(visitor, await visitor.submit(take, { member: id }));
  const href = taken.links.find((one) => /^\/ui\/snapshots\/[^/]+$/.test(one))!;
  expect(href).toContain(id);
  const one = await visitor.get(href);
  const folder = scratchDir("restore-by-hand");
  writeFileSync(join(folder, "keelson"), `#!/bin/sh\nexec ${keelsonCommand().join(" ")} "$@"\n`);
  chmodSync(join(folder, "keelson"), 0o755);
  const environment = { ...process.env, PATH: `${folder}:${process.env["PATH"] ?? ""}` };
  const [download, status, restore, start] = commandsOf(one).slice(-4);
  for (const command of [download!, status!, restore!]) {
    const ran = spawnSync("sh", ["-c", command], { cwd: folder, env: environment, encoding: "utf8" });
    expect([command, ran.status, ran.stderr.includes("keelson snapshot:")]).toEqual([command, 0, false]);
  }
  expect(start).toBe("keelson --data-dir restored");
  expect(existsSync(join(folder, "restored"))).toBe(true);
  const [port = 0, peerPort = 0] = await freePorts(2);
  const restored = await startKeelson({
    dataDir: join(folder, "restored"),
    port,
    flags: [`--listen-peer-urls=http://127.0.0.1:${peerPort}`],
  });
  try {
    const there = new Visitor(`http://127.0.0.1:${port}`);
    const list = await there.get("/ui/keys?prefix=any/");
    for (const { name } of cluster.members) expect(list.text).toContain(name);
    const key = await there.get("/ui/key?k=any/m1");
    expect([key.status, key.text.includes("m1")]).toEqual([200, true]);
  } finally {
    await restored.stop();
  }
}, 60_000);

test("without a leader reading goes on, with the age of what is shown, and writing says why not", async () => {
  const [first, ...others] = cluster.members;
  const visitor = new Visitor(first!.clientUrl);
  await visitor.get("/ui/");
  const edit = await visitor.get("/ui/key/edit?k=any/m1");
  for (const member of others) await member.kill();
  let page: Visited;
  for (let tries = 0; ; tries++) {
    page = await visitor.get("/ui/keys?prefix=any/");
    if (page.text.includes("No leader answers") || tries > 20) break;
    await Bun.sleep(250);
  }
  expect(page.text).toContain("No leader answers: this is what this member holds");
  expect(page.text).toContain("m1");
  expect(page.links.some((href) => href.startsWith("/ui/key/new"))).toBe(false);
  // Silent members are known by now, and no page waits for them.
  await Bun.sleep(4_000);
  await visitor.get("/ui/");
  for (const path of ["/ui/key?k=any/m1", "/ui/key/history?k=any/m1", "/ui/snapshots", "/ui/help"]) {
    const startedAt = performance.now();
    expect([path, (await visitor.get(path)).status]).toEqual([path, 200]);
    expect([path, performance.now() - startedAt < 2_500]).toEqual([path, true]);
  }
  const preview = await visitor.submit(edit.form("/ui/key/preview"), { value: "other" });
  expect(preview.status).toBe(200);
  const failed = await visitor.submit(preview.form("/ui/key/save"));
  expect(failed.status).toBeGreaterThanOrEqual(500);
  expect(failed.text).toMatch(/not known whether the change happened|Nothing was changed/);
  for (const member of others) await member.start();
  for (let tries = 0; tries < 60; tries++) {
    page = await visitor.get("/ui/keys?prefix=any/");
    if (!page.text.includes("No leader answers")) break;
    await Bun.sleep(250);
  }
  expect(page.text).not.toContain("No leader answers");
}, 90_000);
