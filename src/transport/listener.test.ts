import { afterEach, describe, expect, test } from "bun:test";
import { createServer as createHttpServer } from "node:http";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { RangeResponseSchema } from "../proto/gen/etcd/rpc_pb";
import { GrpcServer } from "./grpc/server";
import { eventually, grpcHeaders, message, raw, session, tcp } from "./grpc/testing";
import type { Listener } from "./listener";
import { listen, sniff } from "./listener";
import { bindMethods } from "./methods";

const rangePath = "/etcdserverpb.KV/Range";
const kv = { range: () => create(RangeResponseSchema, { count: 7n }) };
const closers: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function both(
  options: { urls?: string[]; firstByteTimeoutMs?: number; connectionsMax?: number } = {},
): Promise<{ listener: Listener; grpc: GrpcServer; port: number }> {
  const grpc = new GrpcServer({ methods: bindMethods({ kv }) });
  const http = createHttpServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => response.end(`${request.method} ${request.url} ${body}`));
  });
  const listener = await listen({ urls: ["http://127.0.0.1:0"], ...options, grpc, http });
  closers.push(
    () => grpc.stop(0).then(() => {}),
    () => listener.close(),
  );
  return { listener, grpc, port: Number(new URL(listener.urls[0]!).port) };
}

describe("one port", () => {
  test("serves gRPC and HTTP/1.1", async () => {
    const { listener } = await both();
    const http2 = session(listener.urls[0]!);
    const answer = await raw(http2, grpcHeaders(rangePath), [message(Buffer.from([0x0a, 1, 0x61]))]);
    expect(answer.status).toBe(0);
    http2.destroy();
    const response = await fetch(`${listener.urls[0]}/v3/kv/range?x=%2F`, { method: "POST", body: "{}" });
    expect(await response.text()).toBe("POST /v3/kv/range?x=%2F {}");
  });

  test("loses no byte, wherever the first packets are cut", async () => {
    const { port } = await both();
    const request = "POST /v3/a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    for (const at of [1, 2, 3, 10, 24, 60]) {
      const socket = await tcp(port);
      let text = "";
      socket.on("data", (chunk) => (text += String(chunk)));
      const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
      socket.write(request.slice(0, at));
      await Bun.sleep(3);
      socket.write(request.slice(at));
      await closed;
      expect(text).toContain("POST /v3/a hi");
    }
    const start = Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1"),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
      Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0]),
      Buffer.alloc(8, 9),
    ]);
    for (const at of [1, 3, 18, 23, 24, 25, 33, 40]) {
      const socket = await tcp(port);
      let bytes = Buffer.alloc(0);
      socket.on("data", (chunk: Buffer) => (bytes = Buffer.concat([bytes, chunk])));
      socket.write(start.subarray(0, at));
      await Bun.sleep(3);
      socket.write(start.subarray(at));
      // The acknowledgement of the ping proves that everything before it arrived as well.
      const pong = Buffer.concat([Buffer.from([0, 0, 8, 6, 1, 0, 0, 0, 0]), Buffer.alloc(8, 9)]);
      await eventually(`the answer when cut at ${at}`, () => bytes.includes(pong));
      socket.destroy();
    }
  });

  test("closes a connection that does not say what it is, or stops in the middle", async () => {
    const { listener, port } = await both({ firstByteTimeoutMs: 40 });
    for (const said of ["", "P", "PRI * HT"]) {
      const socket = await tcp(port);
      const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
      socket.resume();
      if (said !== "") socket.write(said);
      await closed;
    }
    expect(listener.counts()).toMatchObject({ open: 0, accepted: 3, timedOut: 3 });
  });

  test("refuses connections above the limit, and takes new ones when others have gone", async () => {
    const { listener, port } = await both({ connectionsMax: 2 });
    const first = await tcp(port);
    const second = await tcp(port);
    await eventually("two are open", () => listener.counts().open === 2);
    const third = await tcp(port);
    third.resume();
    await eventually("the third is refused", () => listener.counts().refused === 1);
    first.destroy();
    await eventually("one is left", () => listener.counts().open === 1);
    const fourth = await tcp(port);
    await eventually("two are open again", () => listener.counts().open === 2);
    for (const socket of [second, third, fourth]) socket.destroy();
  });

  test("is left with nothing after thousands of connections came and went in every way", async () => {
    const { listener, grpc, port } = await both();
    const connections = process.env["KEELSON_TEST_HEAVY"] === undefined ? 1_500 : 10_000;
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1");
    for (let done = 0; done < connections; done += 100) {
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const socket = await tcp(port);
          socket.resume();
          if (i % 4 === 1) socket.write("PRI ");
          else if (i % 4 === 2) socket.write(preface);
          else if (i % 4 === 3) socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
          if (i % 8 < 4) socket.resetAndDestroy();
          else socket.end();
          // A server that keeps its half open would keep the client's socket as well.
          if (i % 4 > 1) setTimeout(() => socket.destroy(), 5);
        }),
      );
    }
    await eventually("no connection is left", () => listener.counts().open === 0);
    await eventually("no session is left", () => grpc.counts().connections === 0);
    expect(listener.counts().accepted).toBeGreaterThan(connections * 0.5);
  }, 60_000);
});

describe("listen URLs", () => {
  test("several ports and a Unix socket", async () => {
    const path = join(tmpdir(), `keelson-listener-${process.pid}.sock`);
    const { listener } = await both({ urls: ["http://127.0.0.1:0", "http://localhost:0", `unix://${path}`] });
    expect(listener.urls).toHaveLength(3);
    expect(new Set(listener.urls).size).toBe(3);
    const socket = createConnection({ path });
    let text = "";
    socket.on("data", (chunk) => (text += String(chunk)));
    socket.write("GET /unix HTTP/1.1\r\nhost: x\r\n\r\n");
    await eventually("an answer", () => text.includes("GET /unix"));
    socket.destroy();
  });

  test("a port in use fails the whole opening", async () => {
    const { port } = await both();
    const urls = ["http://127.0.0.1:0", `http://127.0.0.1:${port}`];
    await expect(listen({ urls })).rejects.toThrow();
  });

  test("an HTTP-only port closes HTTP/2 connections", async () => {
    const http = createHttpServer((_request, response) => response.end("metrics"));
    const listener = await listen({ urls: ["http://127.0.0.1:0"], http });
    closers.push(() => listener.close());
    expect(await (await fetch(listener.urls[0]!)).text()).toBe("metrics");
    const http2 = session(listener.urls[0]!);
    const closed = new Promise<void>((resolve) => http2.on("close", () => resolve()));
    await closed;
  });
});

test("the preface is told from everything else at the first byte that differs", () => {
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
  expect(sniff(preface)).toBe("http2");
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      expect(sniff(preface.subarray(0, at))).toBe("undecided");
      const changed = Buffer.concat([preface.subarray(0, at), Buffer.from([byte])]);
      expect(sniff(changed)).toBe(byte !== preface[at] ? "other" : at === 23 ? "http2" : "undecided");
    }),
  );
});
