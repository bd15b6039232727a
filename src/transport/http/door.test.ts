import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { hostName } from "./access";
import { splitTarget } from "./door";
import { FakeHealth, runDoor, type RunningDoor } from "./door-fixture";

let door: RunningDoor;

beforeAll(async () => {
  door = await runDoor();
});
afterAll(() => door.close());
afterEach(() => {
  Object.assign(door.health, new FakeHealth());
});

async function get(
  path: string,
  init: RequestInit = {},
): Promise<{ status: number; body: string; headers: Headers }> {
  const response = await fetch(door.url + path, init);
  return { status: response.status, body: await response.text(), headers: response.headers };
}

describe("/health", () => {
  test("says true as a string while all is well", async () => {
    const answer = await get("/health");
    expect(answer).toMatchObject({ status: 200, body: '{"health":"true","reason":""}' });
    expect(answer.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  });

  test("names the alarm, unless it is excluded", async () => {
    door.health.raised = [{ type: "NOSPACE", memberId: 1n }];
    expect(await get("/health")).toMatchObject({
      status: 503,
      body: '{"health":"false","reason":"ALARM NOSPACE"}\n',
    });
    expect((await get("/health?exclude=CORRUPT")).status).toBe(503);
    expect((await get("/health?exclude=NOSPACE")).status).toBe(200);
    door.health.raised = [
      { type: "NOSPACE", memberId: 1n },
      { type: "CORRUPT", memberId: 1n },
    ];
    expect((await get("/health?exclude=NOSPACE")).body).toContain("ALARM CORRUPT");
    expect((await get("/health?exclude=NOSPACE&exclude=CORRUPT")).status).toBe(200);
  });

  test("fails without a leader and when the read fails, but a serializable question asks neither", async () => {
    door.health.leader = false;
    expect((await get("/health")).body).toBe('{"health":"false","reason":"RAFT NO LEADER"}\n');
    expect((await get("/health?serializable=true")).status).toBe(200);
    door.health.leader = true;
    door.health.read = () => Promise.reject(new Error("etcdserver: request timed out"));
    expect((await get("/health")).body).toBe(
      '{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}\n',
    );
    expect((await get("/health?serializable=true")).status).toBe(200);
  });
});

describe("/livez and /readyz", () => {
  test("say ok, and with verbose each check", async () => {
    expect(await get("/livez")).toMatchObject({ status: 200, body: "ok\n" });
    expect((await get("/livez?verbose")).body).toBe("[+]serializable_read ok\nok\n");
    expect((await get("/readyz?verbose")).body).toBe(
      "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
    );
    expect((await get("/readyz/data_corruption?verbose")).body).toBe("[+]data_corruption ok\nok\n");
  });

  test("list all checks when one fails", async () => {
    door.health.raised = [{ type: "CORRUPT", memberId: 1n }];
    door.health.learner = true;
    expect(await get("/readyz?exclude=linearizable_read")).toMatchObject({
      status: 503,
      body: "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[-]non_learner failed: not supported for learner\n\n",
    });
    expect((await get("/readyz?exclude=data_corruption&exclude=non_learner")).status).toBe(200);
    expect((await get("/livez")).status).toBe(200);
  });

  test("a full store stays ready, so that probes do not kill it", async () => {
    door.health.raised = [{ type: "NOSPACE", memberId: 1n }];
    expect((await get("/readyz")).status).toBe(200);
  });

  test("a read that hangs is a failure, not a hanging probe", async () => {
    const slow = await runDoor({}, { healthTimeoutMs: 50 });
    slow.health.read = () => new Promise(() => {});
    const response = await fetch(`${slow.url}/readyz/linearizable_read`);
    expect(response.status).toBe(503);
    expect(await response.text()).toContain("[-]linearizable_read failed: context deadline exceeded\n");
    await slow.close();
  });

  test("an unknown check to exclude only warns, and only once", async () => {
    const before = door.log.lines.length;
    expect((await get("/readyz?exclude=zzz")).status).toBe(200);
    expect((await get("/readyz?exclude=zzz")).status).toBe(200);
    expect(door.log.lines.slice(before).filter((line) => line.level === "warn")).toHaveLength(1);
  });

  test("each check has a path, and only of its own kind", async () => {
    for (const name of ["data_corruption", "serializable_read", "linearizable_read", "non_learner"]) {
      expect((await get(`/readyz/${name}`)).body).toBe("ok\n");
    }
    expect((await get("/livez/serializable_read")).status).toBe(200);
    expect((await get("/livez/linearizable_read")).status).toBe(404);
    expect((await get("/readyz/")).status).toBe(404);
  });
});

describe("the rest of the door", () => {
  test("/version tells the three versions", async () => {
    const answer = await get("/version");
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(answer.body).toBe('{"etcdserver":"3.6.14","etcdcluster":"3.6.0","storage":"3.6.0"}');
  });

  test("/metrics is Prometheus text and counts the health checks", async () => {
    await get("/livez");
    const answer = await get("/metrics");
    expect(answer.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    expect(answer.body).toMatch(
      /^etcd_server_healthchecks_total\{type="livez",name="serializable_read",status="success"\} [1-9]/m,
    );
  });

  test("other methods are refused with what is allowed", async () => {
    for (const path of ["/health", "/livez", "/readyz", "/version", "/readyz/non_learner"]) {
      const answer = await get(path, { method: "POST", body: "x" });
      expect(answer).toMatchObject({ status: 405, body: "Method Not Allowed\n" });
      expect(answer.headers.get("allow")).toBe("GET");
    }
    expect((await get("/health", { method: "HEAD" })).status).toBe(405);
  });

  test("unknown paths are not found", async () => {
    expect(await get("/")).toMatchObject({ status: 404, body: "404 page not found\n" });
    expect((await get("/v3alpha/kv/range", { method: "POST" })).status).toBe(404);
    expect((await get("/v3")).status).toBe(404);
  });

  test("by default only pages of the own origin are let in", async () => {
    const statusOf = async (headers: Record<string, string>, init: RequestInit = {}): Promise<number> =>
      (await fetch(`${door.url}/version`, { ...init, headers })).status;
    expect(await statusOf({})).toBe(200);
    expect(await statusOf({ origin: door.url })).toBe(200);
    expect(await statusOf({ origin: "https://evil.example" })).toBe(403);
    expect(await statusOf({ origin: "null" })).toBe(403);
    expect(await statusOf({ origin: "https://evil.example" }, { method: "OPTIONS" })).toBe(403);
    expect(await statusOf({ "sec-fetch-site": "cross-site" })).toBe(403);
    expect(await statusOf({ "sec-fetch-site": "same-site", "sec-fetch-mode": "cors" })).toBe(403);
    expect(await statusOf({ "sec-fetch-site": "same-origin" })).toBe(200);
    expect(await statusOf({ "sec-fetch-site": "none" })).toBe(200);
    const visit = {
      "sec-fetch-site": "cross-site",
      "sec-fetch-mode": "navigate",
      "sec-fetch-dest": "document",
    };
    expect(await statusOf(visit)).toBe(200);
    expect(await statusOf(visit, { method: "POST" })).toBe(403);
    expect(await statusOf({ ...visit, "sec-fetch-dest": "iframe" })).toBe(403);
    const gateway = await fetch(`${door.url}/v3/kv/range`, {
      method: "POST",
      headers: { origin: "https://evil.example" },
      body: "{}",
    });
    expect(gateway.status).toBe(403);
    expect(gateway.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("with --cors=* browsers of every origin are let in, as etcd does by default", async () => {
    const open = await runDoor({}, { cors: ["*"] });
    const answer = await fetch(`${open.url}/version`, { headers: { origin: "https://a.example" } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("access-control-allow-origin")).toBe("*");
    expect(answer.headers.get("access-control-allow-methods")).toBe("POST, GET, OPTIONS, PUT, DELETE");
    const preflight = await fetch(`${open.url}/anything`, { method: "OPTIONS" });
    expect([preflight.status, await preflight.text()]).toEqual([200, ""]);
    expect((await fetch(`${open.url}/version`, { headers: { "sec-fetch-site": "cross-site" } })).status).toBe(
      200,
    );
    await open.close();
  });

  test("with a list of origins only those are let in", async () => {
    const strict = await runDoor({}, { cors: ["https://a.example"] });
    const asked = async (origin: string): Promise<unknown> => {
      const answer = await fetch(`${strict.url}/version`, { headers: { origin } });
      return [answer.status, answer.headers.get("access-control-allow-origin")];
    };
    expect(await asked("https://a.example")).toEqual([200, "https://a.example"]);
    expect(await asked("https://b.example")).toEqual([403, null]);
    await strict.close();
  });

  test("by default a Host that another site could own is turned away: DNS rebinding", async () => {
    const known = await runDoor({}, { ownNames: ["store.example.com"] });
    const ask = (host: string, path = "/version"): Promise<string> =>
      known.raw(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    for (const host of [
      "localhost:1",
      "127.0.0.1",
      "[::1]:2379",
      "etcd",
      "etcd-0.etcd.default.svc",
      "STORE.example.com:2379",
    ]) {
      expect(await ask(host)).toStartWith("HTTP/1.1 200 ");
    }
    for (const host of ["rebound.evil.example", "127.0.0.1.evil.example", "store.example.com.evil.example"]) {
      expect(await ask(host)).toStartWith("HTTP/1.1 421 ");
      expect(await ask(host, "/v3/kv/range")).toStartWith("HTTP/1.1 421 ");
    }
    await known.close();
  });

  test("with a list of hosts others are misdirected", async () => {
    const strict = await runDoor({}, { hostWhitelist: ["good.example"] });
    const ask = (host: string): Promise<string> =>
      strict.raw(`GET /version HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    expect(await ask("good.example:2379")).toStartWith("HTTP/1.1 200 ");
    const refused = await ask("evil.example:2379");
    expect(refused).toStartWith("HTTP/1.1 421 ");
    expect(refused).toContain('--host-whitelist "evil.example"');
    expect(await ask("good.example.evil.example")).toStartWith("HTTP/1.1 421 ");
    await strict.close();
  });

  test("host names are read without port and brackets", () => {
    expect(hostName("a.example:80")).toBe("a.example");
    expect(hostName("[::1]:2379")).toBe("::1");
    expect(hostName("::1")).toBe("::1");
    expect(hostName("127.0.0.1")).toBe("127.0.0.1");
  });

  test("a listener for metrics serves nothing else", async () => {
    const only = await runDoor({}, { metricsOnly: true });
    expect((await fetch(`${only.url}/metrics`)).status).toBe(200);
    expect((await fetch(`${only.url}/readyz`)).status).toBe(200);
    expect((await fetch(`${only.url}/version`)).status).toBe(404);
    await only.close();
  });

  test("targets are read in origin and in absolute form", () => {
    expect(splitTarget("/a%2Fb?c=d?e")).toEqual({ path: "/a/b", query: "c=d?e" });
    expect(splitTarget("http://x:1/health?q")).toEqual({ path: "/health", query: "q" });
    expect(splitTarget("http://x")).toEqual({ path: "/", query: "" });
    expect(splitTarget("*")).toBeUndefined();
    expect(splitTarget("/%zz")).toBeUndefined();
  });
});

describe("clients that misbehave", () => {
  test("garbage gets a refusal, and the door stays open", async () => {
    const garbage: readonly string[] = [
      "GARBAGE\r\n\r\n",
      "\u0000\u0001\u0002\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "GET /health HTTP/1.1\r\n\r\n",
      "GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
      "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for (const bytes of garbage) expect(await door.raw(bytes)).toMatch(/^(HTTP\/1\.1 [45]\d\d |$)/);
    const large = await door.raw(`GET /health HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(200_000)}\r\n\r\n`);
    expect(large).toMatch(/^(HTTP\/1\.1 431 |$)/);
    expect((await get("/livez")).body).toBe("ok\n");
  });

  test("a request whose headers never end, and a silent connection, are cut", async () => {
    const strict = await runDoor({}, { timeouts: { headersMs: 100, idleMs: 150, bodyMs: 200 } });
    const began = performance.now();
    const [slow, idle, body] = await Promise.all([
      strict.raw("GET /health HTTP/1.1\r\nHost:"),
      strict.raw("GET /version HTTP/1.1\r\nHost: x\r\n\r\n"),
      strict.raw("POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"),
    ]);
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(slow).toBe("");
    expect(idle).toStartWith("HTTP/1.1 200 ");
    expect(body).not.toContain("200 OK");
    await strict.close();
  });

  test("requests in a row are answered in order on one connection", async () => {
    const answer = await door.raw(
      "GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    expect(answer.indexOf("etcdserver")).toBeGreaterThan(0);
    expect(answer.indexOf("ok\n")).toBeGreaterThan(answer.indexOf("etcdserver"));
  });
});

describe("requests to switch protocols", () => {
  test("are answered over HTTP/1.1: a proposal may be declined", async () => {
    const h2c = await door.raw(
      "GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
      "etcdserver",
    );
    expect(h2c).toStartWith("HTTP/1.1 200 ");
    const webSocket = await door.raw(
      "GET /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      "Method Not Allowed",
    );
    expect(webSocket).toStartWith("HTTP/1.1 501 ");
  });
});

test("an answer may take longer than a body, a body that does not come may not", async () => {
  const door = await runDoor(
    {},
    {
      timeouts: { headersMs: 250, idleMs: 250, bodyMs: 250 },
      rest: {
        owns: () => true,
        async handle(request, response) {
          try {
            if (request.method === "POST") for await (const _piece of request);
          } catch {
            return;
          }
          response.writeHead(200);
          for (let round = 0; round < 10; round++) {
            await Bun.sleep(100);
            response.write("more ");
          }
          response.end("done");
        },
      },
    },
  );
  const ask = (head: string, body = ""): Promise<string> =>
    door.raw(`${head} /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${body}`);
  const [without, withBody, withHalf] = await Promise.all([
    ask("GET", "\r\n"),
    ask("POST", "Content-Length: 2\r\n\r\nab"),
    ask("POST", "Content-Length: 2\r\n\r\na"),
  ]);
  expect(without).toContain("done");
  expect(withBody).toContain("done");
  expect(withHalf).toBe("");
  await door.close();
});
