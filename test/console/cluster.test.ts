/** The console of a real cluster of three in a real browser: what it says, what it does, and whether that is true. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Page } from "playwright-core";
import { Cluster, type ClusterMember, startCluster } from "../tools/cluster";
import { accessFindings, TestBrowser } from "./browser";

let cluster: Cluster;
let browser: TestBrowser;

beforeAll(async () => {
  [cluster, browser] = await Promise.all([startCluster({ size: 3, kind: "keelson" }), TestBrowser.launch()]);
}, 60_000);

afterAll(async () => {
  await browser.close();
  await cluster.kill();
});

const origins = (): string[] => cluster.members.map(({ clientUrl }) => clientUrl);

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly learner: boolean;
  readonly leader: boolean;
}

async function listed(asked: ClusterMember): Promise<readonly Listed[]> {
  const answer = await fetch(`${asked.clientUrl}/api/v1/members`);
  return ((await answer.json()) as { readonly members: readonly Listed[] }).members;
}

async function until(what: string, fits: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await fits().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await Bun.sleep(100);
  }
}

/** What a page could have changed by being looked at. */
async function written(asked: ClusterMember): Promise<unknown> {
  const ask = async (path: string): Promise<unknown> =>
    (await fetch(`${asked.clientUrl}/api/v1${path}`)).json();
  const { revision } = (await ask("/status")) as { readonly revision: string };
  return {
    revision,
    members: await ask("/members"),
    snapshots: await ask("/snapshots"),
    jobs: await ask("/jobs"),
  };
}

/** Waits until a part of the page says this. */
function says(page: Page, selector: string, text: string | RegExp): Promise<void> {
  return page.locator(selector).filter({ hasText: text }).first().waitFor();
}

test("every page can be read by everybody, in both themes, wide and narrow, and leads only to pages that exist", async () => {
  const [first] = cluster.members;
  const queue = ["/ui/", "/ui/kit", "/docs"];
  const seen = new Set(queue);
  const findings: string[] = [];
  const broken: string[] = [];
  const before = await written(first!);
  const pages = await Promise.all(
    (["light", "dark"] as const).flatMap((theme) =>
      [1_440, 390].map((width) => browser.page(origins(), { theme, width })),
    ),
  );
  for (const path of queue) {
    for (const [at, page] of pages.entries()) {
      const answer = await page.goto(first!.clientUrl + path);
      if (answer?.status() !== 200) broken.push(`${path}: ${answer?.status()}`);
      const sideways = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      if ((sideways as number) > 0) broken.push(`${path} scrolls sideways by ${String(sideways)}`);
      findings.push(...(await accessFindings(page)));
      if (at > 0) continue;
      const links = (await page.evaluate(
        "[...document.querySelectorAll('a[href^=\"/ui\"]')].map((a) => a.getAttribute('href').split('#')[0])",
      )) as string[];
      for (const link of links) {
        // Of pages that differ by their parameters alone, one of each kind is enough.
        const kind = link.replace(/=[^&]*/g, "=").replace(/[0-9a-f]{16}/g, "ID");
        if (seen.has(kind) || link === "") continue;
        seen.add(kind);
        const linked = await fetch(first!.clientUrl + link);
        await linked.body?.cancel();
        if (linked.headers.get("content-disposition") === null) queue.push(link);
        else if (!linked.ok) broken.push(`${link}: ${linked.status}`);
      }
    }
  }
  await Promise.all(pages.map((page) => page.context().close()));
  expect(queue.length).toBeGreaterThan(6);
  expect(await written(first!)).toEqual(before);
  expect(findings).toEqual([]);
  expect(broken).toEqual([]);
}, 180_000);

test("what happens elsewhere is seen without loading anew, and a server that comes back is found again", async () => {
  const [first, second, third] = cluster.members;
  const page = await browser.page(origins());
  await page.goto(`${first!.clientUrl}/ui/`);
  await says(page, "#connection-text", "Live");
  await says(page, ".verdict", "Healthy");
  await says(page, ".verdict-sentence", "Can lose 1 of 3.");
  await third!.kill();
  await says(page, ".verdict", "Degraded");
  await says(page, ".verdict-sentence", `${third!.name} does not answer; the next failure stops writes.`);
  await second!.kill();
  await says(page, ".verdict", /No quorum|Isolated/);
  await first!.kill();
  await says(page, "#stale", "Stale since");
  expect(await page.locator("html").getAttribute("class")).toContain("is-stale");
  await Promise.all([first!.start({ begin: [] }), second!.start({ begin: [] }), third!.start({ begin: [] })]);
  await says(page, "#connection-text", "Live");
  await says(page, ".verdict", "Healthy");
  await page.locator("#stale").waitFor({ state: "hidden" });
  await page.context().close();
}, 90_000);

test("ten open pages work: four stream, the others ask", async () => {
  const [first] = cluster.members;
  const context = await browser.context();
  const pages: Page[] = [];
  for (let count = 0; count < 10; count++) {
    const page = await context.newPage();
    browser.incidents.watch(page, new Set(origins()));
    await page.goto(`${first!.clientUrl}/ui/`);
    pages.push(page);
  }
  for (const page of pages) await says(page, "#connection-text", /Live|Every 2 s/);
  await fetch(`${first!.clientUrl}/api/v1/kv/ten`, { method: "PUT", body: "1" });
  const answer = await fetch(`${first!.clientUrl}/api/v1/status`);
  const { revision } = (await answer.json()) as { readonly revision: string };
  for (const page of pages) await says(page, "#live-revision", revision);
  await context.close();
}, 60_000);

for (const scripts of [true, false]) {
  test(`a member joins, votes, leads and leaves from the browser ${scripts ? "with" : "without"} scripts`, async () => {
    const [first] = cluster.members;
    const page = await browser.page(origins(), { scripts });
    const added = await cluster.newMember();
    await page.goto(`${first!.clientUrl}/ui/members`);
    await page.getByRole("link", { name: "Add member" }).click();
    await page.getByLabel("Peer URL").fill("nonsense");
    await page.getByRole("button", { name: "Show effect" }).click();
    await says(page, ".problem", "nonsense is not of the form");
    await page.getByLabel("Peer URL").fill(added.peerUrl);
    await page.getByRole("button", { name: "Show effect" }).click();
    await says(page, ".quorum", "1 of 3");
    expect(await listed(first!)).toHaveLength(3);
    await page.getByRole("button", { name: "Add learner" }).click();
    await says(page, ".notice", "A learner was added");
    const id = /members\/([0-9a-f]{16})/.exec(page.url())![1]!;
    expect(await listed(first!)).toContainEqual(expect.objectContaining({ id, learner: true }));

    const known = cluster.members.filter((member) => member !== added && member.running);
    await added.start({ begin: added.clusterFlags("existing", [...known, added]) }, 30_000);
    await page.goto(`${first!.clientUrl}/ui/members/${id}/promote`);
    await says(page, ".quorum", "1 of 4");
    await until("the learner is in step", async () => {
      await page.goto(`${first!.clientUrl}/ui/members/${id}/promote`);
      await page.getByRole("button", { name: `Promote ${added.name}` }).click();
      return (await page.locator(".notice").first().textContent())?.includes("votes now. 4 voters") === true;
    });
    expect(await listed(first!)).toContainEqual(expect.objectContaining({ id, learner: false }));

    await page.goto(`${first!.clientUrl}/ui/members/${id}/lead`);
    await page.getByRole("button", { name: `Let ${added.name} lead` }).click();
    await says(page, ".notice", `${added.name} leads`);
    await until("it leads", async () => (await listed(first!)).some((one) => one.id === id && one.leader));

    await page.goto(`${first!.clientUrl}/ui/members/${id}/remove`);
    await says(page, "main", `${added.name} leads: it hands over first`);
    await page.getByLabel(/to confirm/).fill("something else");
    await page.getByRole("button", { name: `Remove ${added.name}` }).click();
    await says(page, ".problem", "Nothing was removed");
    expect(await listed(first!)).toHaveLength(4);
    // Members have to have been connected for five seconds before one may be removed.
    await until("it can be removed", async () => {
      await page.goto(`${first!.clientUrl}/ui/members/${id}/remove`);
      await page.getByLabel(/to confirm/).fill(added.name);
      await page.getByRole("button", { name: `Remove ${added.name}` }).click();
      return (
        (await page.locator(".notice").first().textContent())?.includes("was removed. 3 voters") === true
      );
    });
    expect((await listed(first!)).map((one) => one.id)).not.toContain(id);
    await added.kill();
    await page.context().close();
  }, 120_000);
}

test("the theme is a choice that is kept, without scripts too", async () => {
  const [first] = cluster.members;
  for (const scripts of [true, false]) {
    const page = await browser.page(origins(), { scripts });
    await page.goto(`${first!.clientUrl}/ui/members`);
    await page.getByRole("button", { name: "Dark" }).click();
    await page.waitForURL("**/ui/members");
    expect(await page.locator("html").getAttribute("data-theme")).toBe("dark");
    await page.goto(`${first!.clientUrl}/ui/`);
    expect(await page.locator("html").getAttribute("data-theme")).toBe("dark");
    await page.context().close();
  }
}, 30_000);

test("keys lead everywhere, and do nothing while somebody types", async () => {
  const [first] = cluster.members;
  const page = await browser.page(origins());
  await page.goto(`${first!.clientUrl}/ui/`);
  await page.keyboard.press("g");
  await page.keyboard.press("m");
  await page.waitForURL("**/ui/members");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  expect(await page.locator("tr.chosen").count()).toBe(1);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/ui\/members\/[0-9a-f]{16}$/);
  await page.keyboard.press("Control+k");
  await page.locator("#palette").waitFor();
  await page.keyboard.type("metr");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/ui/metrics");
  await page.keyboard.press("Tab");
  expect(await page.evaluate("document.activeElement.className")).toBe("skip");
  await page.goto(`${first!.clientUrl}/ui/members/add`);
  await page.getByLabel("Peer URL").pressSequentially("gm?j");
  expect(page.url()).toEndWith("/ui/members/add");
  await page.context().close();
}, 30_000);

test("no page asked elsewhere, met the policy, or had a script fail", () => {
  expect(browser.incidents.found).toEqual([]);
});
