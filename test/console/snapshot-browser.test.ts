/** A snapshot's whole way in a browser: taken, downloaded, verified, restored by the commands shown, and compared. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, startCluster } from "../tools/cluster";
import { freePorts, keelsonCommand, scratchDir, startKeelson } from "../tools/server";
import { TestBrowser } from "./browser";

let cluster: Cluster;
let browser: TestBrowser;

beforeAll(async () => {
  [cluster, browser] = await Promise.all([startCluster({ size: 3, kind: "keelson" }), TestBrowser.launch()]);
}, 60_000);
afterAll(async () => {
  await browser.close();
  await cluster.kill();
});

/** Every key, value and version of a member, as the console exports them. */
async function everything(base: string): Promise<string> {
  const answer = await fetch(`${base}/ui/keys/export?format=ndjson`);
  expect(answer.ok).toBe(true);
  // The last line says at which revision it was, which a restored member has raised.
  return (await answer.text()).replace(/\n\{"end".*\n$/, "");
}

async function put(base: string, key: string, value: string | Uint8Array<ArrayBuffer>): Promise<void> {
  const coded = Buffer.from(key, "latin1").toString("base64url");
  const answer = await fetch(`${base}/api/v1/kv64/${coded}`, { method: "PUT", body: value });
  expect(answer.ok).toBe(true);
}

test.each([true, false])(
  "a snapshot comes back with the same data (scripts %p)",
  async (scripts) => {
    const [first, second] = cluster.members;
    const base = first!.clientUrl;
    for (let at = 0; at < 50; at++) await put(base, `small/${at}`, `value ${at}`);
    for (let at = 0; at < 60; at++) await put(base, `large/${at}`, Buffer.alloc(1_000_000, `${at} `));
    await put(base, "bytes/\xff\0", Buffer.from([0, 255, 13, 10]));
    await fetch(`${base}/api/v1/kv/small/7`, { method: "DELETE" });
    const before = await everything(base);
    expect(before.split("\n").length).toBeGreaterThan(80);

    const page = await browser.page([base], { scripts });
    await page.goto(`${base}/ui/snapshots`);
    const on = page.getByLabel("Take one on");
    // The leader's entry says more than its name.
    await on.selectOption(await on.locator("option", { hasText: second!.name }).getAttribute("value"));
    await page.getByRole("button", { name: "Take a snapshot" }).click();
    const id = new URL(page.url()).searchParams.get("job")!;
    // It tells how far it is, although another member does the work, and goes on until it is done.
    const shares = new Set<number>();
    for (let tries = 0; tries < 600; tries++) {
      const job = (await (await fetch(`${base}/api/v1/jobs/${id}`)).json()) as Readonly<
        Record<string, unknown>
      >;
      const { done, total } = job["progress"] as { readonly done: number; readonly total: number };
      if (total > 0) shares.add(done / total);
      if (job["state"] !== "running") break;
      await Bun.sleep(50);
    }
    expect([...shares].some((share) => share > 0 && share < 1)).toBe(true);
    if (!scripts) await page.getByRole("link", { name: "refresh" }).click();
    await page.locator("#live-job").filter({ hasText: "Done" }).waitFor();
    // What is written afterwards is not in it.
    await put(base, "later", "1");

    if (!scripts) await page.getByRole("link", { name: "refresh" }).click();
    await page.locator("#live-snapshots tbody th a").first().click();
    await page.waitForURL(/\/ui\/snapshots\/[^?]+$/);
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("link", { name: "Download" }).click(),
    ]);
    const folder = scratchDir("restored-by-command");
    const downloaded = join(folder, "downloaded.db");
    await download.saveAs(downloaded);

    await page.getByRole("button", { name: "Verify" }).click();
    await page.waitForURL(/job=/);
    const refreshesMax = scripts ? 0 : 100;
    for (let tries = 0; tries < refreshesMax; tries++) {
      if ((await page.locator("#live-job").textContent())?.includes("Under way") !== true) break;
      await page.getByRole("link", { name: "refresh" }).click();
    }
    await page.locator("#live-job").filter({ hasText: "Sound" }).waitFor();

    writeFileSync(join(folder, "keelson"), `#!/bin/sh\nexec ${keelsonCommand().join(" ")} "$@"\n`);
    chmodSync(join(folder, "keelson"), 0o755);
    const env = { ...process.env, PATH: `${folder}:${process.env["PATH"] ?? ""}` };
    const section = page.locator("section", { has: page.getByRole("heading", { name: "Restore it" }) });
    const commands = await section.locator("pre code").allTextContents();
    const [fetched, status, restore, start] = commands;
    for (const command of [fetched!, status!, restore!]) {
      const ran = spawnSync("sh", ["-c", command], { cwd: folder, env, encoding: "utf8" });
      expect([command, ran.status, ran.stderr.includes("keelson snapshot:")]).toEqual([command, 0, false]);
    }
    const name = /-o (\S+)/.exec(fetched!)![1]!;
    expect(readFileSync(join(folder, name)).equals(readFileSync(downloaded))).toBe(true);

    expect(start).toBe("keelson --data-dir restored");
    const [port = 0, peerPort = 0] = await freePorts(2);
    const flags = [`--listen-peer-urls=http://127.0.0.1:${peerPort}`];
    const restored = await startKeelson({ dataDir: join(folder, "restored"), port, flags });
    try {
      expect(await everything(restored.url)).toBe(before);
      const keys = await fetch(`${restored.url}/ui/keys?prefix=small/`);
      expect(await keys.text()).toContain("small/49");
    } finally {
      await restored.stop();
    }
    expect(browser.incidents.found).toEqual([]);
    await page.context().close();
  },
  120_000,
);
