/**
 * A cluster that grows, loses a member and shrinks again, by nothing but the console in a browser and the commands that
 * it shows. Every preview is held against what is so afterwards.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { Cluster, type ClusterMember, startCluster } from "../tools/cluster";
import { keelsonCommand, scratchDir, Server } from "../tools/server";
import { TestBrowser } from "./browser";

let cluster: Cluster;
let browser: TestBrowser;
let page: Page;
/** The folder in which shown commands are run, with a `keelson` in the path. */
const folder = scratchDir("console-growth");

beforeAll(async () => {
  writeFileSync(join(folder, "keelson"), `#!/bin/sh\nexec ${keelsonCommand().join(" ")} "$@"\n`);
  chmodSync(join(folder, "keelson"), 0o755);
  [cluster, browser] = await Promise.all([startCluster({ size: 1, kind: "keelson" }), TestBrowser.launch()]);
  page = await browser.page([]);
}, 60_000);

afterAll(async () => {
  await browser.close();
  await cluster.kill();
});

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly learner: boolean;
  readonly leader: boolean;
}

/** The members by the API of one of them; the console is not asked. */
async function listed(asked: ClusterMember): Promise<readonly Listed[]> {
  const answer = await fetch(`${asked.clientUrl}/api/v1/members`);
  return ((await answer.json()) as { readonly members: readonly Listed[] }).members;
}

async function votersOf(asked: ClusterMember): Promise<string[]> {
  return (await listed(asked))
    .filter(({ learner }) => !learner)
    .map(({ name }) => name)
    .sort();
}

async function idOf(asked: ClusterMember, name: string): Promise<string> {
  return (await listed(asked)).find((member) => member.name === name)!.id;
}

async function until(what: string, fits: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await fits().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await Bun.sleep(150);
  }
}

/** Every kind of page answers here, with its own words, and within a moment. */
async function pagesAnswer(at: ClusterMember): Promise<void> {
  const status = (await (await fetch(`${at.clientUrl}/api/v1/status`)).json()) as {
    readonly memberId: string;
  };
  const id = status.memberId;
  const paths =
    `/ /members /members/add /members/${id} /members/${id}/remove /members/${id}/lead ` +
    "/keys /key?k=kept /key/edit?k=kept /key/history?k=kept /key/delete?k=kept /keys/import /keys/export " +
    "/snapshots /metrics /help";
  const failed: string[] = [];
  for (const path of paths.split(" ")) {
    const startedAtMs = performance.now();
    const answer = await fetch(`${at.clientUrl}/ui${path}`, { headers: { accept: "text/html" } });
    const text = await answer.text();
    const tookMs = performance.now() - startedAtMs;
    if (answer.status !== 200 || !text.includes("<h1>") || tookMs > 4_000) {
      failed.push(`${path}: ${answer.status} after ${tookMs.toFixed(0)} ms`);
    }
  }
  expect(failed).toEqual([]);
}

let writes = 0;
/** Whether a write is acknowledged within some time. */
async function accepts(asked: ClusterMember, withinMs: number): Promise<boolean> {
  try {
    const answer = await fetch(`${asked.clientUrl}/api/v1/kv/probe`, {
      method: "PUT",
      body: String(++writes),
      signal: AbortSignal.timeout(withinMs),
    });
    return answer.ok;
  } catch {
    return false;
  }
}

interface Quorum {
  readonly voters: number;
  readonly needed: number;
  readonly answering: number;
  readonly canLose: string;
}

/** What a preview says: the two columns of its table, and whether the leader would refuse. */
interface Previewed {
  readonly now: Quorum;
  readonly after: Quorum;
  readonly refusal: string | undefined;
}

async function previewed(): Promise<Previewed> {
  const rows = await page
    .locator(".quorum tbody tr")
    .evaluateAll((all) => all.map((row) => [...row.children].map((cell) => (cell.textContent ?? "").trim())));
  const column = (at: number): Quorum => ({
    voters: Number(rows[0]![at]),
    needed: Number(rows[1]![at]),
    answering: Number(rows[2]![at]),
    canLose: rows[3]![at]!,
  });
  const titles = await page.locator(".quorum .notice-title").allTextContents();
  const refused = titles.find((title) => title.startsWith("The leader would refuse this now: "));
  return { now: column(1), after: column(2), refusal: refused?.slice(34) };
}

/** Looks at a preview again and again until the leader would no longer refuse it. */
async function allowed(path: string): Promise<Previewed> {
  let shown: Previewed;
  await until(`${path} is allowed`, async () => {
    await page.goto(path);
    shown = await previewed();
    return shown.refusal === undefined;
  });
  return shown!;
}

const quorum = (voters: number, answering = voters): Quorum => {
  const needed = Math.floor(voters / 2) + 1;
  const spare = answering - needed;
  return { voters, needed, answering, canLose: spare < 0 ? "writes stop" : `${spare} of ${voters}` };
};

async function previewAddition(seat: ClusterMember, at: ClusterMember, kind: "Learner" | "Voter") {
  await page.goto(`${at.clientUrl}/ui/members`);
  await page.getByRole("link", { name: "Add member" }).click();
  await page.getByLabel("Peer URL").fill(seat.peerUrl);
  await page.getByLabel("Name").fill(seat.name);
  await page.getByLabel("Client URL").fill(seat.clientUrl);
  await page.getByLabel(new RegExp(`^${kind}`)).check();
  await page.getByRole("button", { name: "Show effect" }).click();
  return previewed();
}

/** Starts a process by the very command that the page shows, and waits until the page sees that it runs. */
async function runShown(seat: ClusterMember): Promise<void> {
  runAs(seat, (await page.locator("#live-start pre code").textContent()) ?? "");
  await page.locator("#live-head").filter({ hasText: "In step" }).waitFor({ timeout: 30_000 });
  // The command is of no further use.
  await page.locator("#live-start pre").waitFor({ state: "detached" });
}

function runAs(seat: ClusterMember, command: string): void {
  expect(command).toStartWith(`keelson --name ${seat.name} `);
  seat.server = new Server(
    "keelson",
    ["sh", "-c", `cd ${folder} && exec ${command}`],
    seat.clientPort,
    join(folder, `${seat.name}.keelson`),
    join(folder, `${seat.name}.log`),
    { PATH: `${folder}:${process.env["PATH"] ?? ""}` },
  );
}

async function removeByConsole(name: string, at: ClusterMember): Promise<Previewed> {
  const path = `${at.clientUrl}/ui/members/${await idOf(at, name)}/remove`;
  const shown = await allowed(path);
  await page.getByLabel(/to confirm/).fill(name);
  await page.getByRole("button", { name: `Remove ${name}` }).click();
  await page
    .locator(".notice")
    .filter({ hasText: `${name} was removed` })
    .waitFor();
  return shown;
}

test("one member becomes two, and writes stop for exactly as long as the preview says", async () => {
  const [first] = cluster.members;
  const second = await cluster.newMember();
  expect((await fetch(`${first!.clientUrl}/api/v1/kv/kept`, { method: "PUT", body: "all along" })).ok).toBe(
    true,
  );
  const shown = await previewAddition(second, first!, "Voter");
  expect(shown).toEqual({ now: quorum(1), after: quorum(2, 1), refusal: undefined });
  expect(await accepts(first!, 5_000)).toBe(true);
  await page.getByRole("button", { name: "Add voter" }).click();
  await page.locator(".notice").filter({ hasText: "A voter was added" }).waitFor();
  expect(await accepts(first!, 1_500)).toBe(false);
  await pagesAnswer(first!);
  await runShown(second);
  expect(await votersOf(first!)).toEqual(["m1", "m2"]);
  expect(await accepts(first!, 10_000)).toBe(true);
}, 90_000);

test("two become three by way of a learner, without a pause", async () => {
  const [first] = cluster.members;
  const third = await cluster.newMember();
  await previewAddition(third, first!, "Learner");
  const shown = await allowed(page.url());
  expect(shown).toEqual({ now: quorum(2), after: quorum(2), refusal: undefined });
  await page.getByRole("button", { name: "Add learner" }).click();
  await page.locator(".notice").filter({ hasText: "A learner was added" }).waitFor();
  expect(await accepts(first!, 5_000)).toBe(true);
  expect(await votersOf(first!)).toEqual(["m1", "m2"]);
  // It has nothing yet: the preview says that it would be refused, and so it is.
  const address = page.url();
  const promote = `${address.split("?")[0]!}/promote`;
  await page.goto(promote);
  expect((await previewed()).refusal).toBe(
    "etcdserver: can only promote a learner member which is in sync with leader",
  );
  await page.getByRole("button", { name: /^Promote/ }).click();
  await page.getByText("in sync with leader").first().waitFor();
  expect(await votersOf(first!)).toEqual(["m1", "m2"]);

  await page.goto(address);
  await runShown(third);
  // On a learner, a follower and a leader alike.
  for (const at of cluster.members) await pagesAnswer(at);
  expect((await allowed(promote)).after).toEqual(quorum(3));
  await page.getByRole("button", { name: "Promote m3" }).click();
  await page.locator(".notice").filter({ hasText: "m3 votes now. 3 voters, 2 needed to write." }).waitFor();
  expect(await votersOf(first!)).toEqual(["m1", "m2", "m3"]);
}, 90_000);

test("a dead member is replaced: what would be refused is said before, with what to do first", async () => {
  const [first, second, third] = cluster.members;
  const fourth = await cluster.newMember();
  // Somebody who does not lead, so that the console need not wait for an election.
  const leads = (await listed(first!)).find(({ leader }) => leader)!.name;
  const dead = leads === "m2" ? third! : second!;
  await dead.kill();
  // As the preview of the third said: one may be lost.
  expect(await accepts(first!, 10_000)).toBe(true);
  let shown!: Previewed;
  await until("the death is noticed", async () => {
    shown = await previewAddition(fourth, first!, "Learner");
    return shown.refusal !== undefined && shown.now.answering === 2;
  });
  expect(shown).toEqual({
    now: quorum(3, 2),
    after: quorum(3, 2),
    refusal: "etcdserver: unhealthy cluster",
  });
  await page.locator(".quorum").getByText(`Remove ${dead.name} first`).waitFor();
  await page.getByRole("button", { name: "Add learner" }).click();
  await page.getByText("unhealthy cluster").first().waitFor();
  expect(await listed(first!)).toHaveLength(3);

  // Removing one that is well would stop writes; the leader does not let it happen.
  const well = [second!, third!].find((member) => member !== dead)!;
  await page.goto(`${first!.clientUrl}/ui/members/${await idOf(first!, well.name)}/remove`);
  shown = await previewed();
  expect(shown.after).toEqual(quorum(2, 1));
  expect(shown.refusal).toBe("etcdserver: unhealthy cluster");
  await page.getByLabel(/to confirm/).fill(well.name);
  await page.getByRole("button", { name: `Remove ${well.name}` }).click();
  await page.getByText("unhealthy cluster").first().waitFor();
  expect(await listed(first!)).toHaveLength(3);

  shown = await removeByConsole(dead.name, first!);
  expect([shown.now, shown.after]).toEqual([quorum(3, 2), quorum(2)]);
  expect(await votersOf(first!)).toEqual(["m1", well.name].sort());
  // "Can lose 0 of 2" it said.
  expect(await accepts(first!, 5_000)).toBe(true);
  well.server!.signal("SIGSTOP");
  try {
    expect(await accepts(first!, 1_500)).toBe(false);
  } finally {
    well.server!.signal("SIGCONT");
  }
  await until("writes go on", () => accepts(first!, 5_000));

  await previewAddition(fourth, first!, "Learner");
  expect((await allowed(page.url())).after).toEqual(quorum(2));
  await page.getByRole("button", { name: "Add learner" }).click();
  await page.locator(".notice").filter({ hasText: "A learner was added" }).waitFor();
  const promote = `${page.url().split("?")[0]!}/promote`;
  await runShown(fourth);
  expect((await allowed(promote)).after).toEqual(quorum(3));
  await page.getByRole("button", { name: "Promote m4" }).click();
  await page.locator(".notice").filter({ hasText: "m4 votes now" }).waitFor();
  expect(await votersOf(first!)).toEqual(["m1", "m4", well.name].sort());
}, 150_000);

test("the leader moves, and members leave until one remains, with everything that was written", async () => {
  const first = cluster.members[0]!;
  const fourth = cluster.members[3]!;
  const other = cluster.running.find((member) => member !== first && member !== fourth)!;
  const id = await idOf(first, "m4");
  await page.goto(`${first.clientUrl}/ui/members/${id}/lead`);
  await page.getByText("hands over to m4 and follows it. The quorum stays as it is.").waitFor();
  await page.getByRole("button", { name: "Let m4 lead" }).click();
  await page.locator(".notice").filter({ hasText: "m4 leads" }).waitFor();
  await until("m4 leads", async () => (await listed(first)).some((one) => one.id === id && one.leader));
  expect(await accepts(first, 5_000)).toBe(true);
  expect(await votersOf(first)).toHaveLength(3);

  // The founder goes first; its process ends, as the preview says.
  let shown = await removeByConsole("m1", other);
  expect([shown.now, shown.after]).toEqual([quorum(3), quorum(2)]);
  expect((await Promise.race([first.server!.exit(), Bun.sleep(20_000)]))?.code).toBeNumber();
  expect(await votersOf(other)).toEqual([other.name, "m4"].sort());
  expect(await accepts(other, 5_000)).toBe(true);

  // Then the leader, from its own page.
  const path = `${fourth.clientUrl}/ui/members/${id}/remove`;
  shown = await allowed(path);
  expect([shown.now, shown.after]).toEqual([quorum(2), quorum(1)]);
  await page.getByText("m4 leads: it hands over first").waitFor();
  await page.getByText("This page comes from it").waitFor();
  shown = await removeByConsole("m4", other);
  expect(shown.after).toEqual(quorum(1));
  expect((await Promise.race([fourth.server!.exit(), Bun.sleep(20_000)]))?.code).toBeNumber();
  expect(await votersOf(other)).toEqual([other.name]);
  expect(await accepts(other, 10_000)).toBe(true);
  expect(await (await fetch(`${other.clientUrl}/api/v1/kv/kept`)).text()).toBe("all along");

  // The last one stays.
  await page.goto(`${other.clientUrl}/ui/members/${await idOf(other, other.name)}/remove`);
  shown = await previewed();
  expect(shown.refusal).toStartWith("etcdserver: re-configuration failed");
  await page.getByText("The last voter cannot leave").waitFor();
  await page.getByLabel(/to confirm/).fill(other.name);
  await page.getByRole("button", { name: `Remove ${other.name}` }).click();
  await page.getByText("re-configuration failed").first().waitFor();
  expect(await listed(other)).toHaveLength(1);
}, 120_000);

test("one command lets a member join by itself, up to its vote", async () => {
  const [other] = cluster.running;
  const fifth = await cluster.newMember();
  await previewAddition(fifth, other!, "Learner");
  const section = page.locator("section", {
    has: page.getByRole("heading", { name: "Or let it join by itself" }),
  });
  runAs(fifth, (await section.locator("pre code").textContent()) ?? "");
  await page.goto(`${other!.clientUrl}/ui/`);
  await page.locator("#live-counts").filter({ hasText: "2 voters" }).waitFor({ timeout: 30_000 });
  expect(await votersOf(other!)).toEqual([other!.name, "m5"].sort());
  expect(await (await fetch(`${fifth.clientUrl}/api/v1/kv/kept`)).text()).toBe("all along");
}, 60_000);
