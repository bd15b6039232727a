/** The WebSocket forms of etcd's streams, through the real port. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { RestHarness } from "./harness";

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
});
afterAll(() => store.stop());

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const url = (path: string): string => `${store.url.replace("http", "ws")}${path}`;

/** Opens a socket; messages are handed out one by one. */
async function open(
  path: string,
  protocols?: string[],
): Promise<{ socket: WebSocket; next(): Promise<string> }> {
  const socket = protocols === undefined ? new WebSocket(url(path)) : new WebSocket(url(path), protocols);
  const waiting: string[] = [];
  let wake = (): void => {};
  socket.addEventListener("message", (event) => {
    waiting.push(String(event.data));
    wake();
  });
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve());
    socket.addEventListener("error", () => reject(new Error("the socket did not open")));
  });
  return {
    socket,
    async next() {
      while (waiting.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return waiting.shift()!;
    },
  };
}

describe("WebSocket", () => {
  test("a watch takes requests and gives responses as messages, both ways at once", async () => {
    const { socket, next } = await open("/v3/watch");
    socket.send(JSON.stringify({ create_request: { key: base64("ws/a"), watch_id: 1 } }));
    expect(JSON.parse(await next())).toMatchObject({ result: { created: true, watch_id: "1" } });
    await store.ask("PUT", "/kv/ws/a", { body: "1" });
    expect(JSON.parse(await next())).toMatchObject({ result: { events: [{ kv: { value: base64("1") } }] } });
    socket.send(JSON.stringify({ create_request: { key: base64("ws/b"), watch_id: 2 } }));
    expect(JSON.parse(await next())).toMatchObject({ result: { created: true, watch_id: "2" } });
    const large = "x".repeat(200_000);
    await store.ask("PUT", "/kv/ws/b", { body: large });
    expect(
      (JSON.parse(await next()) as { result: { events: { kv: { value: string } }[] } }).result.events[0]!.kv
        .value,
    ).toBe(base64(large));
    socket.send(JSON.stringify({ cancel_request: { watch_id: 1 } }));
    expect(JSON.parse(await next())).toMatchObject({ result: { canceled: true } });
    const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
    socket.close();
    await closed;
  });

  test("leases are kept alive, a unary call is answered and closed, and Bearer is taken from the sub-protocol", async () => {
    const granted = await store.ask("POST", "/leases", { body: { ttl: 60, id: "bb" } });
    expect(granted.status).toBe(201);
    const alive = await open("/v3/lease/keepalive", ["Bearer", "some-token"]);
    expect(alive.socket.protocol).toBe("Bearer");
    alive.socket.send('{"ID":187}');
    expect(JSON.parse(await alive.next())).toMatchObject({ result: { ID: "187", TTL: "60" } });
    alive.socket.close();
    const put = await open("/v3/kv/put");
    const closed = new Promise((resolve) => put.socket.addEventListener("close", resolve));
    put.socket.send(JSON.stringify({ key: base64("ws/c"), value: base64("3") }));
    expect(JSON.parse(await put.next())).toHaveProperty("header");
    await closed;
    expect((await store.ask("GET", "/kv/ws/c")).text).toBe("3");
  });

  test("pages of other sites, foreign hosts and broken frames are turned away, and the port lives on", async () => {
    const raw = (head: string, then: Buffer = Buffer.alloc(0)): Promise<string> =>
      new Promise((resolve) => {
        let text = "";
        const socket = connect(Number(new URL(store.url).port), "127.0.0.1", () => socket.write(head));
        socket.on("data", (chunk: Buffer) => {
          if (text === "" && then.length > 0) socket.write(then);
          text += chunk.toString("latin1");
        });
        socket.on("error", () => {});
        socket.on("close", () => resolve(text));
      });
    const handshake = (more: string, host = "x"): string =>
      `GET /v3/watch HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;
    expect(await raw(handshake("Origin: https://evil.example\r\n"))).toStartWith("HTTP/1.1 403");
    expect(await raw(handshake("", "rebound.evil.example"))).toStartWith("HTTP/1.1 421");
    expect(await raw(handshake("").replace("Version: 13", "Version: 8"))).toStartWith("HTTP/1.1 400");
    const sample = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    for (const frame of [
      Buffer.from([0x81, 0x01, 0x61]),
      Buffer.from([0xc1, 0x80, 0, 0, 0, 0]),
      Buffer.from([0x09, 0x80, 0, 0, 0, 0]),
      Buffer.from([0x81, 0xff, 0, 0, 0, 9, 0, 0, 0, 0]),
    ]) {
      const answer = await raw(handshake(""), frame);
      expect(answer).toContain(sample);
      expect(answer.at(-4)).toBe("\x88");
    }
    expect((await fetch(`${store.url}/health`)).status).toBe(200);
  });
});
