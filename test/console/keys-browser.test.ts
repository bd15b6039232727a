/** The pages about keys in Chromium: with scripts, without, in both themes. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { RestHarness } from "../rest/harness";
import { accessFindings, TestBrowser } from "./browser";

let server: RestHarness;
let browser: TestBrowser;

const coded = (key: string): string => Buffer.from(key).toString("base64url");

async function put(key: string, value: string): Promise<void> {
  const { status } = await server.ask("PUT", `/kv64/${coded(key)}`, { body: Buffer.from(value) });
  expect([200, 201]).toContain(status);
}
async function get(key: string): Promise<string> {
  const { bytes } = await server.ask("GET", `/kv64/${coded(key)}`);
  return Buffer.from(bytes).toString();
}

beforeAll(async () => {
  server = await RestHarness.start();
  browser = await TestBrowser.launch();
  await put("config/app", '{"a": 1}');
  await put("config/text", "one\ntwo\n");
  await put("config/text", "one\n2\n");
  await put("/registry/pods/web", "pod");
  await put("evil/\u202e<script>", "<img src=x>\0");
}, 60_000);
afterAll(async () => {
  await browser.close();
  await server.stop();
});

const values = [
  "plain",
  "\nleading\n\nand trailing\n\n",
  "win\r\ndows\r\n",
  "no end\nof line",
  "\n",
  "  \t<b>&lt; é 😀\u202e ",
];

test.each([true, false])(
  "a value edited in a real text area comes back to the byte (scripts %p)",
  async (scripts) => {
    const page = await browser.page([server.url], { scripts });
    for (const value of values) {
      await put("text/real", value);
      const before = server.server.member.revision;
      await page.goto(`${server.url}/ui/key/edit?k=text/real`);
      await page.click("text=Review the change");
      expect(await page.textContent("h1")).toBe("Nothing to save");
      expect(server.server.member.revision).toBe(before);
      await page.goto(`${server.url}/ui/key/edit?k=text/real`);
      await page.focus("#value");
      await page.keyboard.press("Control+End");
      await page.keyboard.type("X");
      await page.click("text=Review the change");
      await page.click("text=Save the change");
      expect(await page.textContent(".notice-title")).toContain("Saved at revision");
      expect(await get("text/real")).toBe(`${value}X`);
    }
    await page.context().close();
  },
  60_000,
);

test("from a new key to its deletion, without scripts", async () => {
  const page = await browser.page([server.url], { scripts: false });
  await page.goto(`${server.url}/ui/keys?prefix=config/`);
  await page.click("text=New key");
  await page.fill("#key", "config/new");
  await page.fill("#value", "value\n");
  await page.click("text=Review the new key");
  await page.click("text=Create the key");
  expect(await get("config/new")).toBe("value\n");
  await page.click("main >> text=Delete");
  await page.click("button:has-text('Delete 1 key')");
  expect(await page.textContent(".notice-title")).toContain("1 key deleted");
  await page.context().close();
}, 30_000);

test("levels open in place, with scripts and without", async () => {
  for (const scripts of [true, false]) {
    const page = await browser.page([server.url], { scripts });
    await page.goto(`${server.url}/ui/keys`);
    await page.click("[aria-label='Open config/']");
    await page.waitForSelector("[aria-label='Close config/']");
    expect(page.url()).toContain(`open=${coded("config/")}`);
    expect(await page.locator("tbody >> text=app").count()).toBe(1);
    await page.click("[aria-label='Close config/']");
    await page.waitForSelector("[aria-label='Open config/']");
    await page.context().close();
  }
}, 30_000);

test("an upload replaces a binary value, and a snapshot is taken, with scripts", async () => {
  const page = await browser.page([server.url]);
  await page.goto(`${server.url}/ui/key/edit?k64=${coded("evil/\u202e<script>")}`);
  await page.setInputFiles("#file", {
    name: "value",
    mimeType: "application/x",
    buffer: Buffer.from([0, 255, 13, 10]),
  });
  await page.click("text=Review the upload");
  await page.click("text=Save the change");
  const { bytes } = await server.ask("GET", `/kv64/${coded("evil/\u202e<script>")}`);
  expect(Buffer.from(bytes).toString("hex")).toBe("00ff0d0a");
  await page.goto(`${server.url}/ui/snapshots`);
  await page.click("text=Take a snapshot");
  await page.waitForSelector("text=Done", { timeout: 15_000 });
  await page.context().close();
}, 30_000);

const pages = [
  "/ui/keys",
  "/ui/keys?prefix=config/",
  "/ui/keys?find=config",
  "/ui/keys?prefix=nothing/",
  "/ui/keys?prefix=config/&rev=3",
  "/ui/key?k=config/app",
  "/ui/key?k=nope",
  "/ui/key/edit?k=config/text",
  "/ui/key/edit?k=/registry/pods/web",
  "/ui/key/new?prefix=config/",
  "/ui/key/history?k=config/text",
  "/ui/key/restore?k=config/text&rev=3",
  "/ui/key/delete?k=config/text",
  "/ui/keys/delete?prefix=config/",
  "/ui/keys/export?prefix=config/",
  "/ui/keys/copy?prefix=config/",
  "/ui/keys/import",
  "/ui/snapshots",
  "/ui/help",
  "/ui/help/install",
  "/ui/help/limits",
];

test.each(["light", "dark"] as const)(
  "axe finds nothing serious in %s",
  async (theme) => {
    const page = await browser.page([server.url], { theme });
    for (const path of pages) {
      await page.goto(server.url + path);
      expect(await accessFindings(page)).toEqual([]);
    }
    // What only a form leads to: a difference, a conflict, a refusal.
    await put("config/seen", "before\n");
    await page.goto(`${server.url}/ui/key/edit?k=config/seen`);
    await page.fill("#value", "mine\n");
    await page.click("text=Review the change");
    expect(await accessFindings(page)).toEqual([]);
    await put("config/seen", "theirs\n");
    await page.click("text=Save the change");
    expect(await page.textContent("h1")).toBe("Somebody else was faster");
    expect(await accessFindings(page)).toEqual([]);
    await page.context().close();
  },
  120_000,
);

test("nothing scrolls sideways at 390 pixels", async () => {
  const page = await browser.page([server.url], { width: 390 });
  for (const path of pages) {
    await page.goto(server.url + path);
    const beyond = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    expect([path, beyond]).toEqual([path, 0]);
  }
  await page.context().close();
}, 60_000);

test("no page asked elsewhere, met the policy, or had a script fail", () => {
  expect(browser.incidents.found).toEqual([]);
});
