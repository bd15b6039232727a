import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { at, RestHarness } from "./harness";

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
});
afterAll(() => store.stop());

describe("Idempotency-Key", () => {
  const key = (name: string): { headers: Record<string, string> } => ({
    headers: { "Idempotency-Key": name },
  });

  test("a write that is sent again is applied once, and answered as the first time", async () => {
    const put = () => store.ask("PUT", "/kv/i/a", { body: "1", ...key("put-1") });
    const first = await put();
    await store.ask("PUT", "/kv/i/a", { body: "2" });
    const second = await put();
    expect(second.status).toBe(201);
    expect(second.json).toEqual(first.json);
    expect((await store.ask("GET", "/kv/i/a")).text).toBe("2");
    const many = await Promise.all(
      Array.from({ length: 20 }, () => store.ask("PUT", "/kv/i/b", { body: "x", ...key("race") })),
    );
    expect(new Set(many.map(({ text }) => text)).size).toBe(1);
    expect((await store.ask("GET", "/kv/i/b")).headers["keelson-version"]).toBe("1");
  });

  test("conditional puts, deletes, range deletes, txns and leases too", async () => {
    const twice = async (method: string, path: string, options: object): Promise<void> => {
      const first = await store.ask(method, path, options);
      expect([path, first.status < 300]).toEqual([path, true]);
      const revision = (await store.ask("GET", "/keys?limit=1")).headers["keelson-revision"];
      expect((await store.ask(method, path, options)).json).toEqual(first.json);
      expect((await store.ask("GET", "/keys?limit=1")).headers["keelson-revision"]).toBe(revision!);
    };
    await twice("PUT", "/kv/i/c", { body: "1", headers: { "Idempotency-Key": "c1", "If-None-Match": "*" } });
    await twice("POST", "/txn", {
      body: { then: [{ put: { key: "i/d", value: "1", prev: true } }] },
      ...key("t1"),
    });
    await twice("DELETE", "/kv/i/c?prev", key("d1"));
    await twice("DELETE", "/keys?prefix=i/", key("d2"));
    await twice("POST", "/leases", { body: { ttl: 60 }, ...key("l1") });
  });

  test("the same key with another request is 422, and a bad key 400", async () => {
    await store.ask("PUT", "/kv/i/e", { body: "1", ...key("reused") });
    const other = await store.ask("PUT", "/kv/i/e", { body: "2", ...key("reused") });
    expect(other).toMatchObject({ status: 422, json: { outcome: "not-applied" } });
    expect((await store.ask("PUT", "/kv/i/other", { body: "1", ...key("reused") })).status).toBe(422);
    expect((await store.ask("PUT", "/kv/i/e", { body: "1", ...key("with space") })).status).toBe(400);
    expect((await store.ask("POST", "/maintenance/defragment", key("local"))).status).toBe(400);
    expect((await store.ask("GET", "/kv/i/e")).text).toBe("1");
  });
});

describe("history and time", () => {
  test("all revisions of a key, deletions too, in pages, with their times", async () => {
    for (const body of ["1", "2", "3"]) await store.ask("PUT", "/kv/past", { body });
    await store.ask("DELETE", "/kv/past");
    await store.ask("PUT", "/kv/past", { body: "4" });
    const all = await store.ask("GET", "/history/past");
    const versions = (all.json as { versions: { type: string; value?: string; time: string }[] }).versions;
    expect(versions.map(({ type, value }) => value ?? type)).toEqual(["4", "delete", "3", "2", "1"]);
    for (const { time } of versions) expect(Math.abs(Date.parse(time) - Date.now())).toBeLessThan(60_000);
    const page = await store.ask("GET", "/history/past?limit=2&keysOnly");
    expect(page.text).not.toContain("value");
    const rest = await store.ask("GET", `/history64/cGFzdA?before=${at(page.json, "before")}`);
    expect((rest.json as { versions: unknown[] }).versions).toHaveLength(3);
    expect((await store.ask("GET", "/history/never")).json).toMatchObject({ versions: [], more: false });
  });

  test("a read as of a time sees what was there then", async () => {
    await store.ask("PUT", "/kv/timed", { body: "before" });
    await Bun.sleep(1_100);
    const between = new Date().toISOString();
    await Bun.sleep(1_100);
    await store.ask("PUT", "/kv/timed", { body: "after" });
    const now = await store.ask("GET", "/kv/timed");
    expect(now.text).toBe("after");
    expect(Math.abs(Date.parse(now.headers["keelson-time"]!) - Date.now())).toBeLessThan(10_000);
    expect((await store.ask("GET", `/kv/timed?time=${between}`)).text).toBe("before");
    expect((await store.ask("GET", `/keys?prefix=timed&time=${between}`)).json).toMatchObject({
      keys: [{ value: "before" }],
    });
    expect((await store.ask("GET", "/kv/timed?time=2001-01-01T00:00:00Z")).status).toBe(410);
    expect((await store.ask("GET", "/kv/timed?time=yesterday")).status).toBe(400);
    expect((await store.ask("GET", `/kv/timed?time=${between}&revision=2`)).status).toBe(400);
  });
});
