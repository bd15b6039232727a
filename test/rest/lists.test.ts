import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { at, type Asked, RestHarness } from "./harness";

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
  for (let i = 0; i < 25; i++)
    await store.ask("PUT", `/kv/list/${String(i).padStart(2, "0")}`, { body: `v${24 - i}` });
  await store.ask("PUT", "/kv64/_wA", { body: Buffer.from([0xff, 0]) });
});
afterAll(() => store.stop());

const keysOf = ({ json }: Asked): string[] =>
  (json as { keys: { key?: string; key64?: string }[] }).keys.map(({ key, key64 }) => key ?? `64:${key64}`);

async function pages(path: string): Promise<string[][]> {
  const found: string[][] = [];
  let cursor = "";
  do {
    const page = await store.ask("GET", `${path}${cursor}`);
    expect(page.status).toBe(200);
    found.push(keysOf(page));
    cursor = at(page.json, "more") === "true" ? `&cursor=${at(page.json, "cursor")}` : "";
  } while (cursor !== "");
  return found;
}

describe("lists", () => {
  test("by prefix, by range, everything; values as text or base64url", async () => {
    const all = await store.ask("GET", "/keys");
    expect(at(all.json, "count")).toBe("26");
    expect(keysOf(all).at(-1)).toBe("64:_wA");
    expect(at(all.json, "keys", 25, "value64")).toBe("_wA");
    expect(at(all.json, "keys", 0)).toContain('"value":"v24"');
    expect(keysOf(await store.ask("GET", "/keys?prefix=list/0"))).toHaveLength(10);
    expect(keysOf(await store.ask("GET", "/keys?from=list/05&to=list/07"))).toEqual(["list/05", "list/06"]);
    expect(keysOf(await store.ask("GET", "/keys?prefix64=_w"))).toEqual(["64:_wA"]);
    expect((await store.ask("GET", "/keys?prefix=a&from=b")).status).toBe(400);
    expect((await store.ask("GET", "/keys?prefix=a&prefix64=YQ")).status).toBe(400);
    expect((await store.ask("GET", "/keys?prefix=%ff")).json).toMatchObject({ status: 400 });
    expect((await store.ask("GET", "/keys?to=")).status).toBe(400);
    const lean = await store.ask("GET", "/keys?prefix=list/00&keysOnly");
    expect(lean.text).not.toContain("value");
    expect((await store.ask("GET", "/keys?prefix=list/&countOnly")).json).toMatchObject({
      count: "25",
      keys: [],
    });
  });

  test("pages show one revision, whatever is written meanwhile", async () => {
    const first = await store.ask("GET", "/keys?prefix=list/&limit=10");
    expect(keysOf(first)).toHaveLength(10);
    await store.ask("PUT", "/kv/list/10a", { body: "new" });
    await store.ask("DELETE", "/kv/list/11");
    const second = await store.ask("GET", `/keys?prefix=list/&limit=10&cursor=${at(first.json, "cursor")}`);
    expect(keysOf(second)).toEqual(Array.from({ length: 10 }, (_, i) => `list/${10 + i}`));
    expect(at(second.json, "revision")).toBe(at(first.json, "revision"));
    expect(at(second.json, "count")).toBe("25");
    const third = await store.ask("GET", `/keys?prefix=list/&limit=10&cursor=${at(second.json, "cursor")}`);
    expect(third.json).toMatchObject({ more: false });
    expect(keysOf(third)).toHaveLength(5);
    await store.ask("DELETE", "/kv/list/10a");
    await store.ask("PUT", "/kv/list/11", { body: "v13" });
    const foreign = await store.ask("GET", `/keys?prefix=lis&limit=10&cursor=${at(first.json, "cursor")}`);
    expect(foreign.status).toBe(400);
    expect((await store.ask("GET", "/keys?cursor=AAAA")).status).toBe(400);
  });

  test("pages go on behind keys of many kilobytes", async () => {
    const long = (digit: number): string => `long/${"k".repeat(20_000)}${digit}`;
    const bodies = [1, 2, 3].map((digit) => ({ put: { key: long(digit), value: "v" } }));
    expect((await store.ask("POST", "/txn", { body: { then: bodies } })).status).toBe(200);
    expect((await pages("/keys?prefix=long/&limit=1&keysOnly")).flat()).toEqual([1, 2, 3].map(long));
    await store.ask("DELETE", "/keys?prefix=long/");
  });

  test("sorted lists and searches page too", async () => {
    expect((await pages("/keys?prefix=list/&limit=7&order=desc&keysOnly")).flat()).toEqual(
      Array.from({ length: 25 }, (_, i) => `list/${String(24 - i).padStart(2, "0")}`),
    );
    const byValue = (await pages("/keys?prefix=list/&limit=10&sort=value&keysOnly")).flat();
    expect(byValue.slice(0, 3)).toEqual(["list/24", "list/23", "list/14"]);
    expect(await pages("/keys?contains=1&prefix=list/&limit=6&keysOnly")).toEqual([
      ["list/01", "list/10", "list/11", "list/12", "list/13", "list/14"],
      ["list/15", "list/16", "list/17", "list/18", "list/19", "list/21"],
      // The search looked at keys behind the last find.
      [],
    ]);
    expect((await store.ask("GET", "/keys?sort=mod&limit=10000")).status).toBe(200);
    const sorted = await store.ask("GET", "/keys?prefix=list/&sort=value&order=desc&limit=5");
    const { keys } = sorted.json as { keys: { key: string; value: string }[] };
    expect(keys.map(({ value }) => value)).toEqual(
      keys
        .map(({ value }) => value)
        .toSorted()
        .toReversed(),
    );
    for (const { key, value } of keys) expect((await store.ask("GET", `/kv/${key}`)).text).toBe(value);
  });

  test("lines end with the word that they are complete", async () => {
    const lines = await store.ask("GET", "/keys?prefix=list/", {
      headers: { accept: "application/x-ndjson" },
    });
    expect(lines.headers["content-type"]).toBe("application/x-ndjson");
    const parsed = lines.text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { key?: string; end?: boolean });
    expect(parsed).toHaveLength(26);
    expect(parsed.slice(0, -1).every(({ key }) => key?.startsWith("list/"))).toBe(true);
    expect(parsed.at(-1)).toMatchObject({ end: true, count: "25", more: false });
  });

  test("a compacted page is 410 and says what is left", async () => {
    const first = await store.ask("GET", "/keys?limit=1");
    const put = await store.ask("PUT", "/kv/moves", { body: "1" });
    await store.server.member.write({
      case: "compaction",
      value: {
        $typeName: "etcdserverpb.CompactionRequest",
        revision: BigInt(at(put.json, "revision")),
        physical: false,
      },
    });
    const gone = await store.ask("GET", `/keys?limit=1&cursor=${at(first.json, "cursor")}`);
    expect(gone).toMatchObject({ status: 410, json: { oldestRevision: at(put.json, "revision") } });
    await store.ask("DELETE", "/kv/moves");
  });

  test("range deletes need a bound or the word all", async () => {
    for (let i = 0; i < 5; i++) await store.ask("PUT", `/kv/bulk/${i}`, { body: "x" });
    for (const query of ["", "?prefix=", "?from=bulk/", "?to=zzz", "?prefix=&all=false"]) {
      expect([query, (await store.ask("DELETE", `/keys${query}`)).status]).toEqual([query, 400]);
    }
    expect((await store.ask("DELETE", "/keys?from=bulk/0&to=bulk/2")).json).toMatchObject({ deleted: "2" });
    expect((await store.ask("DELETE", "/keys?prefix=bulk/")).json).toMatchObject({ deleted: "3" });
    expect((await store.ask("GET", "/keys?prefix=bulk/")).json).toMatchObject({ count: "0" });
  });
});

describe("transactions", () => {
  const txn = (body: unknown) => store.ask("POST", "/txn", { body });

  test("compare, then and else, nested, with previous values", async () => {
    const body = {
      compare: [{ key: "t/a", target: "exists", exists: false }],
      then: [
        { put: { key: "t/a", value: "1", prev: true } },
        { put: { key64: "dC9i_w", value64: "_w" } },
        {
          txn: {
            compare: [{ key: "t/a", target: "exists", exists: false }],
            then: [{ get: { prefix: "t/" } }],
          },
        },
      ],
      else: [{ get: { key: "t/a" } }],
    };
    const first = await txn(body);
    expect(first).toMatchObject({
      status: 200,
      json: {
        succeeded: true,
        results: [
          { put: { prev: null } },
          { put: {} },
          { txn: { succeeded: true, results: [{ get: { count: "2", more: false } }] } },
        ],
      },
    });
    const second = await txn(body);
    expect(second.json).toMatchObject({
      succeeded: false,
      results: [{ get: { keys: [{ key: "t/a", value: "1" }] } }],
    });
    const revision = at(first.json, "revision");
    const swapped = await txn({
      compare: [
        { key: "t/a", target: "modRevision", number: revision },
        { key: "t/a", target: "version", is: "<", number: "2" },
        { key: "t/a", target: "lease", lease: "0" },
        { key: "t/a", target: "value", is: "!=", value64: "Mg" },
        { key: "t/a", target: "exists", exists: true },
      ],
      then: [{ delete: { prefix: "t/", prev: true } }],
    });
    expect(swapped.json).toMatchObject({
      succeeded: true,
      results: [{ delete: { deleted: "2", prev: [{ key: "t/a" }, { key64: "dC9i_w", value64: "_w" }] } }],
    });
  });

  test("what is unclear is refused, and nothing happens", async () => {
    const bad: unknown[] = [
      { compare: [{ target: "exists", exists: true }] },
      { compare: [{ key: "a", key64: "YQ", target: "exists", exists: true }] },
      { compare: [{ key: "a", target: "exists" }] },
      { compare: [{ key: "a", target: "version", value: "1" }] },
      { compare: [{ key: "a", target: "version", number: "1", lease: "1" }] },
      { compare: [{ key: "a", target: "version", number: 1 }] },
      { compare: [{ key: "a", target: "version", number: "99999999999999999999" }] },
      { then: [{ put: { key: "a" } }] },
      { then: [{ put: { key: "a", value: "1", value64: "MQ" } }] },
      { then: [{ put: { key: "", value: "1" } }] },
      { then: [{ put: { key: "\ud800", value: "1" } }] },
      { then: [{}] },
      { then: [{ get: { key: "a" }, put: { key: "a", value: "1" } }] },
      { then: [{ get: {} }] },
      { then: [{ put: { key: "a", value: "1" } }, { put: { key: "a", value: "2" } }] },
      { otherwise: [] },
    ];
    for (const body of bad)
      expect([JSON.stringify(body), (await txn(body)).status]).toEqual([JSON.stringify(body), 400]);
    const twice = await store.ask("POST", "/txn", {
      headers: { "content-type": "application/json" },
      body: '{"then":[],"then":[{"put":{"key":"a","value":"1"}}]}',
    });
    expect(twice.status).toBe(400);
    const form = await store.ask("POST", "/txn", { body: "{}" });
    expect(form.status).toBe(415);
    expect((await store.ask("GET", "/kv/a")).status).toBe(404);
  });
});

describe("leases and locks", () => {
  test("grant, attach, look, renew, revoke", async () => {
    const granted = await store.ask("POST", "/leases", { body: { ttl: 100 } });
    expect(granted).toMatchObject({ status: 201, json: { ttl: "100" } });
    const id = at(granted.json, "id");
    expect(id).toMatch(/^[0-9a-f]{16}$/);
    const put = await store.ask("PUT", `/kv/leased?lease=${id}`, { body: "x" });
    expect(put.headers["keelson-lease"]).toBe(id);
    expect((await store.ask("GET", "/kv/leased")).headers["keelson-lease"]).toBe(id);
    expect((await store.ask("GET", `/leases/${id}`)).json).toMatchObject({
      grantedTtl: "100",
      keys: [{ key: "leased" }],
    });
    expect((await store.ask("GET", "/leases")).json).toMatchObject({
      count: "1",
      leases: [{ id, keys: [{ key: "leased" }] }],
    });
    expect((await store.ask("POST", `/leases/${id}/keepalive`)).json).toMatchObject({ id, ttl: "100" });
    const kept = await store.ask("PUT", "/kv/leased?ignoreLease", { body: "y" });
    expect(kept.headers["keelson-lease"]).toBe(id);
    expect((await store.ask("DELETE", `/leases/${id}`)).status).toBe(200);
    expect((await store.ask("GET", "/kv/leased")).status).toBe(404);
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/keepalive"],
    ] as const) {
      expect(await store.ask(method, `/leases/${id}${path}`)).toMatchObject({
        status: 404,
        json: { etcd: { message: "etcdserver: requested lease not found" } },
      });
    }
    expect((await store.ask("PUT", `/kv/x?lease=${id}`, { body: "" })).status).toBe(404);
    expect((await store.ask("POST", "/leases", { body: { ttl: 0 } })).status).toBe(400);
    expect((await store.ask("GET", "/leases/zz")).status).toBe(400);
  });

  test("a lock has one holder, others wait or are told, and the fencing revision grows", async () => {
    const first = await store.ask("POST", "/locks/jobs/nightly", { body: { ttl: 60 } });
    expect(first.status).toBe(200);
    const lease = at(first.json, "lease");
    expect(await store.ask("POST", "/locks/jobs/nightly")).toMatchObject({
      status: 409,
      json: { outcome: "not-applied" },
    });
    expect((await store.ask("GET", "/locks/jobs/nightly")).json).toMatchObject({
      holder: { lease },
      waiting: [],
    });
    const waiting = store.ask("POST", "/locks/jobs/nightly", { body: { waitSeconds: 30 } });
    await Bun.sleep(50);
    expect((await store.ask("DELETE", `/locks/jobs/nightly?lease=${lease}&revoke`)).json).toMatchObject({
      released: true,
    });
    const second = await waiting;
    expect(second.status).toBe(200);
    expect(Number(at(second.json, "fencingRevision"))).toBeGreaterThan(
      Number(at(first.json, "fencingRevision")),
    );
    expect((await store.ask("DELETE", "/locks/jobs/nightly")).status).toBe(400);
    await store.ask("DELETE", `/locks/jobs/nightly?lease=${at(second.json, "lease")}&revoke`);
    expect((await store.ask("GET", "/leases")).json).toMatchObject({ count: "0" });
  });
});
