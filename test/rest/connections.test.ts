/** What clients may do to their connections: leave early, send ahead, ask oddly. Through the real port. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { RestHarness } from "./harness";

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
});
afterAll(() => store.stop());

const port = (): number => Number(new URL(store.url).port);
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const open = (): Promise<Socket> =>
  new Promise((resolve) => {
    const socket: Socket = connect(port(), "127.0.0.1", () => resolve(socket));
    socket.on("error", () => {});
  });
const get = (target: string): string => `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
const gateway = (path: string, body: object): string => {
  const text = JSON.stringify(body);
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
};

/** Resolves once the condition holds; rejects after five seconds. */
async function eventually(what: string, condition: () => boolean): Promise<void> {
  for (const endMs = performance.now() + 5_000; !condition();) {
    if (performance.now() > endMs) throw new Error(`not in five seconds: ${what}`);
    await Bun.sleep(20);
  }
}

/** Sends bytes, and gives back what came until `enough` is in it, the server closes, or five seconds passed. */
function raw(bytes: string | Uint8Array, enough?: string): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port(), "127.0.0.1", () => socket.write(bytes));
    const timer = setTimeout(() => socket.destroy(), 5_000);
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (enough !== undefined && text.includes(enough)) socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(text);
    });
  });
}

describe("a client that leaves", () => {
  test("takes everything with it that it had asked for ahead", async () => {
    const { hub } = store.server.member;
    const before = hub.stats.watchers;
    const socket = await open();
    socket.write(get("/api/v1/watch?prefix=ahead").repeat(20));
    await eventually("the first watch is open", () => hub.stats.watchers > before);
    socket.destroy();
    await eventually("no watch is left", () => hub.stats.watchers === before);
    await Bun.sleep(200);
    expect(hub.stats.watchers).toBe(before);
  });
});

describe("requests that are sent ahead", () => {
  test("begin when the one before is answered: a range behind a put sees it, over /v3 too", async () => {
    for (let round = 0; round < 30; round++) {
      const value = base64(`round ${round}`);
      const text = await raw(
        gateway("/v3/kv/put", { key: base64("ahead"), value }) +
          gateway("/v3/kv/range", { key: base64("ahead") }),
        `"count":"1"`,
      );
      expect(text).toContain(`"value":"${value}"`);
    }
  });

  test("wait with the client beyond a few", async () => {
    const socket = await open();
    const request = get("/health");
    const megabytes = 48;
    socket.write(get("/api/v1/watch?prefix=ahead"));
    const many = Buffer.from(request.repeat(Math.floor(1024 ** 2 / request.length)));
    for (let megabyte = 0; megabyte < megabytes; megabyte++) socket.write(many);
    await Bun.sleep(1_500);
    // What the system's buffers took is a few megabytes.
    expect(socket.writableLength).toBeGreaterThan((megabytes / 2) * 1024 ** 2);
    socket.destroy();
  });
});

describe("requests that are turned away", () => {
  test("hear of it in a problem document, and writes that nothing was written", async () => {
    const ask = async (method: string, head: string): Promise<unknown> => {
      const text = await raw(
        `${method} /api/v1/kv/away HTTP/1.1\r\n${head}Content-Length: 0\r\nConnection: close\r\n\r\n`,
      );
      expect(text.toLowerCase()).toContain("content-type: application/problem+json");
      return JSON.parse(text.slice(text.indexOf("\r\n\r\n") + 4)) as unknown;
    };
    const unknown = await ask("PUT", "Host: rebound.example\r\n");
    expect(unknown).toMatchObject({ status: 421, outcome: "not-applied" });
    expect(unknown).toMatchObject({ detail: expect.stringContaining("rebound.example") });
    expect(unknown).toMatchObject({ fix: expect.stringContaining("--host-whitelist") });
    const page = await ask("DELETE", "Host: localhost\r\nOrigin: https://elsewhere.example\r\n");
    expect(page).toMatchObject({ status: 403, outcome: "not-applied" });
    expect(await ask("PUT", "Host: localhost\r\nX-Forwarded-For: 1.2.3.4\r\n")).toMatchObject({
      status: 403,
      outcome: "not-applied",
    });
    expect(await ask("POST", "Host: localhost\r\n")).toMatchObject({ status: 405, outcome: "not-applied" });
    expect(await ask("GET", "Host: rebound.example\r\n")).not.toHaveProperty("outcome");
  });
});

describe("odd requests", () => {
  test("a HEAD of an endless answer ends", async () => {
    const { hub } = store.server.member;
    const before = hub.stats.watchers;
    const head = get("/api/v1/watch?prefix=a").replace("GET", "HEAD");
    const text = await raw(head + get("/api/v1/keys?prefix=nothing"), '"more":false');
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
    expect(hub.stats.watchers).toBe(before);
  });

  test("two Hosts, no version and other transfer codings are refused, and write nothing", async () => {
    const put = "PUT /api/v1/kv/odd";
    const length = "Content-Length: 1\r\n";
    expect(
      await raw(`${put} HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n${length}\r\nv`, "\r\n\r\n"),
    ).toStartWith("HTTP/1.1 400");
    expect(await raw(`${put}\r\nHost: localhost\r\n${length}\r\nv`, "\r\n\r\n")).toStartWith("HTTP/1.1 400");
    const coded = "Transfer-Encoding: gzip, chunked\r\n";
    expect(
      await raw(`${put} HTTP/1.1\r\nHost: localhost\r\n${coded}\r\n1\r\nv\r\n0\r\n\r\n`, "\r\n\r\n"),
    ).toStartWith("HTTP/1.1 501");
    expect((await store.ask("GET", "/kv/odd")).status).toBe(404);
    const chunked = "Transfer-Encoding: Chunked\r\n";
    expect(
      await raw(`${put} HTTP/1.1\r\nHost: localhost\r\n${chunked}\r\n1\r\nv\r\n0\r\n\r\n`, "\r\n\r\n"),
    ).toStartWith("HTTP/1.1 201");
  });
});
