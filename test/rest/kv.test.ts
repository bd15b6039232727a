import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { at, RestHarness } from "./harness";

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
});
afterAll(() => store.stop());

describe("one key", () => {
  test("PUT creates with 201 and overwrites with 200; GET gives the bytes and what the key is", async () => {
    const created = await store.ask("PUT", "/kv/greeting", { body: "hello" });
    expect(created).toMatchObject({ status: 201, json: { created: true, version: "1" } });
    const again = await store.ask("PUT", "/kv/greeting?prev", { body: "hello again" });
    expect(again).toMatchObject({
      status: 200,
      json: { created: false, version: "2", prev: { key: "greeting", value: "hello", version: "1" } },
    });
    expect(Number(at(again.json, "revision"))).toBe(Number(at(created.json, "revision")) + 1);
    const read = await store.ask("GET", "/kv/greeting");
    expect(read).toMatchObject({ status: 200, text: "hello again" });
    expect(read.headers).toMatchObject({
      etag: `"${at(again.json, "revision")}"`,
      "keelson-mod-revision": at(again.json, "revision"),
      "keelson-create-revision": at(created.json, "revision"),
      "keelson-version": "2",
      "content-type": "application/octet-stream",
    });
    const old = await store.ask("GET", `/kv/greeting?revision=${at(created.json, "revision")}`);
    expect(old.text).toBe("hello");
  });

  test("what is not there is 404, and a deleted key says how many went", async () => {
    expect(await store.ask("GET", "/kv/none")).toMatchObject({ status: 404 });
    expect(await store.ask("DELETE", "/kv/none?prev")).toMatchObject({
      status: 200,
      json: { deleted: "0", prev: null },
    });
    await store.ask("PUT", "/kv/gone", { body: "x" });
    expect(await store.ask("DELETE", "/kv/gone?prev=true")).toMatchObject({
      status: 200,
      json: { deleted: "1", prev: { key: "gone", value: "x" } },
    });
    expect((await store.ask("GET", "/kv/gone")).status).toBe(404);
  });

  test("paths are bytes: literal and escaped slashes are one, doubled and trailing ones count, plus is plus", async () => {
    const same = async (a: string, b: string): Promise<void> => {
      const body = `for ${a}`;
      await store.ask("PUT", `/kv/${a}`, { body });
      expect((await store.ask("GET", `/kv/${b}`)).text).toBe(body);
    };
    await same("a/b", "a%2Fb");
    await same("a//b/", "a%2F%2fb%2F");
    await same("1+1", "1%2B1");
    await same("a%20b", "%61%20b");
    await same("%252F", "%25%32%46");
    await same("...", "%2e%2E%2e");
    await same(".hidden", "%2Ehidden");
    expect((await store.ask("GET", "/kv/a/b")).text).toBe("for a/b");
    expect((await store.ask("GET", "/kv//a")).status).toBe(404);
    const raw = Buffer.from([0, 0xff, 0x2f, 0x2e, 0x25]);
    await store.ask("PUT", "/kv/%00%ff%2F%2E%25", { body: "bytes" });
    expect((await store.ask("GET", `/kv64/${raw.toString("base64url")}`)).text).toBe("bytes");
  });

  test("bad escapes, dot segments and empty keys are 400, with what to do", async () => {
    for (const path of [
      "/kv/",
      "/kv/%",
      "/kv/%2",
      "/kv/%zz",
      "/kv/.",
      "/kv/..",
      "/kv/a/../b",
      "/kv/a/%2e%2E/b",
      "/kv/a%2F..",
      "/kv64/",
      "/kv64/a",
      "/kv64/a+b=",
      "/kv64/YQ=",
      "/kv64/YR",
    ]) {
      const refused = await store.ask("GET", path);
      expect([path, refused.status]).toEqual([path, 400]);
      expect(refused.headers["content-type"]).toBe("application/problem+json");
      expect(at(refused.json, "fix").length).toBeGreaterThan(5);
      expect(at(refused.json, "requestId")).toBe(refused.headers["x-request-id"]!);
    }
  });

  test("unknown, repeated and bad parameters are refused", async () => {
    for (const query of [
      "revison=1",
      "revision=1&revision=2",
      "revision=0",
      "revision=-1",
      "revision=01",
      "serializable=yes",
      "revision=%zz",
    ]) {
      expect([query, (await store.ask("GET", `/kv/greeting?${query}`)).status]).toEqual([query, 400]);
    }
    expect((await store.ask("GET", "/kv/greeting?revision=99999999")).json).toMatchObject({
      status: 400,
      etcd: { code: 11, message: "etcdserver: mvcc: required revision is a future revision" },
    });
  });
});

describe("conditions", () => {
  async function fresh(): Promise<{ path: string; tag: string }> {
    const path = `/kv/conditional-${Math.floor(performance.now() * 1e6)}`;
    const { headers } = await store.ask("PUT", path, { body: "1" });
    return { path, tag: headers["etag"]! };
  }

  test("If-None-Match: * creates only", async () => {
    const headers = { "If-None-Match": "*" };
    expect((await store.ask("PUT", "/kv/once", { body: "1", headers })).status).toBe(201);
    const second = await store.ask("PUT", "/kv/once", { body: "secret-2", headers });
    expect(second).toMatchObject({
      status: 412,
      json: { outcome: "not-applied", current: { key: "once", version: "1" } },
    });
    expect(second.headers["etag"]).toBe(`"${at(second.json, "current", "modRevision")}"`);
    expect(second.text).not.toContain("value");
    expect((await store.ask("GET", "/kv/once")).text).toBe("1");
  });

  test("If-Match takes lists, weak tags and *, and anything else fails", async () => {
    const { path, tag } = await fresh();
    const put = async (ifMatch: string): Promise<number> =>
      (await store.ask("PUT", path, { body: "2", headers: { "If-Match": ifMatch } })).status;
    expect(await put('"1"')).toBe(412);
    expect(await put('"nonsense", W/"1"')).toBe(412);
    expect(await put('"0"')).toBe(412);
    const missing = await store.ask("PUT", `${path}-missing`, { body: "x", headers: { "If-Match": '"0"' } });
    expect(missing).toMatchObject({ status: 412, json: { current: null } });
    expect(await put(`"1", W/${tag}`)).toBe(200);
    expect(await put(tag)).toBe(412);
    expect(await put("*")).toBe(200);
    expect(await put("unquoted")).toBe(400);
    expect(await put("")).toBe(400);
    expect(
      (await store.ask("PUT", `${path}-missing`, { body: "x", headers: { "If-Match": "*" } })).status,
    ).toBe(412);
    expect((await store.ask("DELETE", `${path}-missing`, { headers: { "If-Match": "*" } })).status).toBe(412);
    expect((await store.ask("DELETE", path, { headers: { "If-Match": tag } })).status).toBe(412);
    expect((await store.ask("DELETE", path, { headers: { "If-Match": "*" } })).status).toBe(200);
  });

  test("GET answers 304 to a tag that still fits, and 412 to one that has to", async () => {
    const { path, tag } = await fresh();
    const get = (headers: Record<string, string>) => store.ask("GET", path, { headers });
    const same = await get({ "If-None-Match": `"1", W/${tag}` });
    expect(same).toMatchObject({ status: 304, text: "" });
    expect(same.headers["etag"]).toBe(tag);
    expect((await get({ "If-None-Match": '"1"' })).status).toBe(200);
    expect((await get({ "If-None-Match": "*" })).status).toBe(304);
    expect((await get({ "If-Match": '"1"' })).status).toBe(412);
    expect((await get({ "If-Match": tag })).status).toBe(200);
  });

  test("of many that compare-and-set at once, one wins each round", async () => {
    const { path, tag } = await fresh();
    const tries = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        store.ask("PUT", path, { body: String(at), headers: { "If-Match": tag } }),
      ),
    );
    expect(tries.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(tries.filter(({ status }) => status === 412)).toHaveLength(19);
  });
});

describe("over a socket", () => {
  test("HEAD has the headers alone, an unfit method says which fit, and limits hold", async () => {
    const head = await fetch(`${store.url}/api/v1/kv/greeting`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    expect(head.headers.get("keelson-version")).toBe("2");
    const post = await fetch(`${store.url}/api/v1/kv/greeting`, { method: "POST", body: "x" });
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, PUT, DELETE"]);
    const large = await fetch(`${store.url}/api/v1/kv/large`, {
      method: "PUT",
      body: new Uint8Array(1_572_865),
    });
    expect(large.status).toBe(413);
    const chunked = await fetch(`${store.url}/api/v1/kv/large`, {
      method: "PUT",
      body: new ReadableStream({
        pull(controller) {
          controller.enqueue(new Uint8Array(600_000));
          if (++pulls === 4) controller.close();
        },
      }),
    });
    expect(chunked.status).toBe(413);
    expect((await store.ask("GET", "/kv/large")).status).toBe(404);
  });
  let pulls = 0;

  test("the raw target counts, whatever clients usually make of it", async () => {
    const ask = (target: string): Promise<string> =>
      new Promise((resolve) => {
        const { port } = new URL(store.url);
        let text = "";
        const socket = connect(Number(port), "127.0.0.1", () =>
          socket.write(
            `PUT ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1`,
          ),
        );
        socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
        socket.on("close", () => resolve(text));
      });
    expect(await ask("/api/v1/kv/raw//x/")).toStartWith("HTTP/1.1 201");
    expect((await store.ask("GET", `/kv64/${Buffer.from("raw//x/").toString("base64url")}`)).status).toBe(
      200,
    );
    expect(await ask("/api/v1/kv/raw/../y")).toStartWith("HTTP/1.1 400");
    expect(await ask("http://anywhere/api/v1/kv/absolute")).toStartWith("HTTP/1.1 201");
    expect((await store.ask("GET", "/kv/absolute")).status).toBe(200);
  });

  test("a request that was passed on is not from this machine, and needs a token", async () => {
    const passedOn = await fetch(`${store.url}/api/v1/kv/greeting`, {
      headers: { "x-forwarded-for": "10.0.0.1" },
    });
    expect(passedOn.status).toBe(403);
    expect(passedOn.headers.get("content-type")).toBe("application/problem+json");
  });
});

describe("a transaction with a large answer", () => {
  test("says the same as with a small one, and the store goes on beside it", async () => {
    const value = (place: number): string => String.fromCharCode(97 + place).repeat(200_000);
    for (let place = 0; place < 10; place++)
      await store.ask("PUT", `/kv/large-txn/${place}`, { body: value(place) });
    const answered = await store.ask("POST", "/txn", {
      body: {
        then: [
          { get: { prefix: "large-txn/" } },
          { put: { key: "large-txn-put", value: "x", prev: true } },
          {
            txn: {
              compare: [{ key: "none", target: "exists", exists: true }],
              else: [{ get: { key: "large-txn/3" } }],
            },
          },
          { delete: { prefix: "large-txn/", prev: true } },
          { delete: { prefix: "large-txn-none/", prev: true } },
        ],
      },
    });
    expect(answered.status).toBe(200);
    expect(answered.headers["content-type"]).toBe("application/json");
    const { json } = answered;
    for (let place = 0; place < 10; place++) {
      expect(at(json, "results", 0, "get", "keys", place, "value")).toBe(value(place));
      expect(at(json, "results", 3, "delete", "prev", place, "value")).toBe(value(place));
    }
    expect(json).toMatchObject({
      succeeded: true,
      revision: expect.stringMatching(/^\d+$/),
      results: [
        { get: { count: "10", more: false } },
        { put: { prev: null } },
        {
          txn: { succeeded: false, results: [{ get: { keys: [{ key: "large-txn/3", value: value(3) }] } }] },
        },
        { delete: { deleted: "10" } },
        { delete: { deleted: "0", prev: [] } },
      ],
    });
  });
});
