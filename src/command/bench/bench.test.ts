import { afterEach, describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";

import {
  LeaseGrantResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  LeaseRevokeResponseSchema,
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  TxnResponseSchema,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../../proto/gen/etcd/rpc_pb";
import { runBench } from "./bench";
import { Connection } from "./http2/connection";
import { benchKey } from "./requests";

interface Behaviour {
  /** Every n-th put is acknowledged and forgotten. */
  readonly losesEvery?: number;
  /** Every n-th put is refused with this code and text. */
  readonly refusesEvery?: number;
  readonly refusal?: { readonly code: number; readonly text: string };
  /** Every n-th event is not delivered. */
  readonly dropsEventsEvery?: number;
  /** Ranges answer nothing. */
  readonly emptyRanges?: boolean;
  /** One range waits so long. */
  readonly stallMs?: number;
  readonly maxConcurrentStreams?: number;
  readonly initialWindowSize?: number;
}

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** The little of a store that the benchmark needs, with faults to order. */
async function startStore(behaviour: Behaviour = {}): Promise<number> {
  let revision = 1n;
  let puts = 0;
  let events = 0;
  let stallLeft = behaviour.stallMs !== undefined;
  const values = new Map<string, Uint8Array>();
  const watchers: { stream: http2.ServerHttp2Stream; watchId: bigint; key: string }[] = [];
  const header = () => ({ revision });

  const put = (key: Uint8Array, value: Uint8Array): void => {
    puts++;
    if (behaviour.losesEvery !== undefined && puts % behaviour.losesEvery === 0) return;
    revision++;
    const text = Buffer.from(key).toString("latin1");
    values.set(text, value);
    for (const watcher of watchers) {
      if (watcher.key !== text) continue;
      if (behaviour.dropsEventsEvery !== undefined && ++events % behaviour.dropsEventsEvery === 0) continue;
      const response = create(WatchResponseSchema, {
        header: header(),
        watchId: watcher.watchId,
        events: [{ kv: { key, value, modRevision: revision } }],
      });
      watcher.stream.write(framed(toBinary(WatchResponseSchema, response)));
    }
  };

  const answer = async (
    path: string,
    message: Buffer,
    stream: http2.ServerHttp2Stream,
  ): Promise<Uint8Array> => {
    switch (path) {
      case "/etcdserverpb.KV/Put": {
        const request = fromBinary(PutRequestSchema, message);
        if (behaviour.refusesEvery !== undefined && (puts + 1) % behaviour.refusesEvery === 0) {
          puts++;
          throw Object.assign(new Error(), behaviour.refusal);
        }
        put(request.key, request.value);
        return toBinary(PutResponseSchema, create(PutResponseSchema, { header: header() }));
      }
      case "/etcdserverpb.KV/Txn":
        put(Buffer.from("txn"), new Uint8Array(0));
        return toBinary(TxnResponseSchema, create(TxnResponseSchema, { header: header(), succeeded: true }));
      case "/etcdserverpb.KV/Range": {
        const request = fromBinary(RangeRequestSchema, message);
        if (request.serializable && stallLeft) {
          stallLeft = false;
          await Bun.sleep(behaviour.stallMs!);
        }
        const from = Buffer.from(request.key).toString("latin1");
        const to = Buffer.from(request.rangeEnd).toString("latin1");
        const kvs = [...values]
          .filter(([key]) => (to === "" ? key === from : key >= from && key < to))
          .map(([key, value]) => ({ key: Buffer.from(key, "latin1"), value }));
        const shown = behaviour.emptyRanges ? [] : kvs;
        return toBinary(RangeResponseSchema, create(RangeResponseSchema, { header: header(), kvs: shown }));
      }
      case "/etcdserverpb.Lease/LeaseGrant":
        return toBinary(LeaseGrantResponseSchema, create(LeaseGrantResponseSchema, { ID: 7n, TTL: 60n }));
      case "/etcdserverpb.Lease/LeaseRevoke":
        return toBinary(LeaseRevokeResponseSchema, create(LeaseRevokeResponseSchema));
      case "/etcdserverpb.Lease/LeaseKeepAlive": {
        const { ID } = fromBinary(LeaseKeepAliveRequestSchema, message);
        return toBinary(LeaseKeepAliveResponseSchema, create(LeaseKeepAliveResponseSchema, { ID, TTL: 60n }));
      }
      case "/etcdserverpb.Watch/Watch": {
        const request = fromBinary(WatchRequestSchema, message).requestUnion;
        if (request.case !== "createRequest") throw new Error("only creates watches");
        const watchId = BigInt(watchers.length);
        watchers.push({ stream, watchId, key: Buffer.from(request.value.key).toString("latin1") });
        return toBinary(WatchResponseSchema, create(WatchResponseSchema, { watchId, created: true }));
      }
      default:
        throw Object.assign(new Error(), { code: 12, text: `unknown method ${path}` });
    }
  };

  const server = http2.createServer({
    settings: {
      ...(behaviour.maxConcurrentStreams !== undefined && {
        maxConcurrentStreams: behaviour.maxConcurrentStreams,
      }),
      ...(behaviour.initialWindowSize !== undefined && { initialWindowSize: behaviour.initialWindowSize }),
    },
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.on("stream", (stream: http2.ServerHttp2Stream, headers) => {
    const path = String(headers[":path"]);
    let rest = Buffer.alloc(0);
    let working = Promise.resolve();
    let status = { code: 0, text: "" };
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => {
      stream.sendTrailers({
        "grpc-status": String(status.code),
        "grpc-message": encodeURIComponent(status.text),
      });
    });
    stream.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
        const end = 5 + rest.readUInt32BE(1);
        const message = rest.subarray(5, end);
        rest = rest.subarray(end);
        working = working.then(async () => {
          try {
            stream.write(framed(await answer(path, message, stream)));
          } catch (error) {
            const { code = 2, text = "" } = error as { code?: number; text?: string };
            status = { code, text };
          }
        });
      }
    });
    stream.on("end", () => void working.then(() => stream.end()));
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function bench(port: number, line: string): Promise<{ code: number; out: string; error: string }> {
  let out = "";
  let error = "";
  const code = await runBench([...line.split(" "), "--endpoints", `127.0.0.1:${port}`], {
    out: (text) => (out += text),
    error: (text) => (error += text),
    isTerminal: false,
  });
  return { code, out, error };
}

const small = "--clients 4 --connections 2 --in-flight 2 --key-space 50 --value-size 32";

describe("each workload counts what the server did", () => {
  test.each([
    [`put ${small} --total 200 --no-probe`, 200],
    [`txn-put ${small} --total 100 --no-probe`, 100],
    [`range ${small} --range-keys 10 --total 100 --no-probe`, 100],
    [`range ${small} --random --serializable --total 100 --no-probe`, 100],
    [`lease-keepalive ${small} --total 200 --no-probe`, 200],
    [`watch --watchers 10 --clients 2 --connections 2 --total 30 --no-probe`, 30],
    [`watch --watchers 10 --key-space 5 --clients 2 --connections 2 --total 30 --no-probe`, 30],
  ])("%s", async (line, operations) => {
    const { code, out, error } = await bench(await startStore(), `${line} --json`);
    expect(error).toBe("");
    const report = JSON.parse(out) as Record<string, unknown> & { watch?: { delivered: number } };
    expect(report).toMatchObject({ passed: true, succeeded: operations, failed: 0 });
    if (report.watch !== undefined) {
      expect(report.watch.delivered).toBe(line.includes("key-space 5") ? 60 : 300);
    }
    expect(code).toBe(0);
  });

  test("a duration ends the run, and a rate holds it back", async () => {
    const { out } = await bench(
      await startStore(),
      `put ${small} --duration 500ms --rate 100 --no-probe --json`,
    );
    const report = JSON.parse(out) as { succeeded: number; elapsedMs: number };
    expect(report.succeeded).toBeGreaterThan(25);
    expect(report.succeeded).toBeLessThanOrEqual(50);
  });
});

describe("a warm-up", () => {
  test("is not measured", async () => {
    const port = await startStore();
    const { code, out } = await bench(port, `put ${small} --warm-up 300ms --total 100 --no-probe --json`);
    const report = JSON.parse(out) as { succeeded: number; warmUpOperations: number; revision: object };
    expect(report).toMatchObject({ passed: true, succeeded: 100 });
    expect(report.warmUpOperations).toBeGreaterThan(0);
    // The store begins at revision 1.
    const before = 1 + report.warmUpOperations;
    expect(report.revision).toMatchObject({ before, after: before + 100 });
    expect(code).toBe(0);
  });

  test("that fails does not hide that the run does", async () => {
    const port = await startStore({ refusesEvery: 1, refusal: { code: 14, text: "no leader" } });
    const { code, out } = await bench(port, `put ${small} --warm-up 100ms --total 4 --no-probe`);
    expect(out).toContain("Unavailable: no leader");
    expect(code).toBe(1);
  });

  test("cannot be had where every event is counted", async () => {
    const { code, error } = await bench(1, "watch --warm-up 1s");
    expect(error).toContain("--warm-up: watch counts every event");
    expect(code).toBe(2);
  });
});

describe("a server that does something wrong is found out", () => {
  test("an acknowledged put that did not happen fails the revision check", async () => {
    const { code, out } = await bench(
      await startStore({ losesEvery: 50 }),
      `put ${small} --total 200 --no-probe`,
    );
    expect(out).toContain("revision       FAIL: advanced by 196 instead of 200");
    expect(code).toBe(1);
  });

  test("refusals are counted by code and text, and need not advance the revision", async () => {
    const refusal = { code: 8, text: "etcdserver: mvcc: database space exceeded" };
    const port = await startStore({ refusesEvery: 10, refusal });
    const { code, out } = await bench(port, `put ${small} --total 100 --no-probe`);
    expect(out).toContain("error: 10 x ResourceExhausted: etcdserver: mvcc: database space exceeded");
    expect(out).toContain("revision       ok: advanced by 90");
    expect(code).toBe(0);
  });

  test("events that do not arrive fail the run", async () => {
    const port = await startStore({ dropsEventsEvery: 100 });
    const { code, out } = await bench(
      port,
      "watch --watchers 10 --clients 2 --connections 2 --total 20 --no-probe",
    );
    expect(out).toContain("events         FAIL: 198 arrived instead of 200");
    expect(code).toBe(1);
  }, 15_000);

  test("an answer that is too short is no success", async () => {
    const { code, out } = await bench(
      await startStore({ emptyRanges: true }),
      `range ${small} --total 20 --no-probe`,
    );
    expect(out).toContain("0 operations");
    expect(out).toContain("20 x DataLoss: an answer holds less than 32 bytes");
    expect(code).toBe(1);
  });

  test("the probe sees a stall", async () => {
    const { out } = await bench(
      await startStore({ stallMs: 120 }),
      `put ${small} --rate 200 --duration 400ms --json`,
    );
    const report = JSON.parse(out) as { probe: { longestStallMs: number; probes: number } };
    expect(report.probe.longestStallMs).toBeGreaterThan(100);
    expect(report.probe.probes).toBeGreaterThan(5);
  });
});

describe("bad input gets one line and exit code 2", () => {
  test.each([
    ["putt", "Did you mean put?"],
    ["put --totl 5", "unknown option '--totl' (Did you mean --total?)"],
    ["put --total none", "whole number"],
    ["put --total 5 --duration 1s", "exclude each other"],
    ["put --duration 5", "duration such as"],
    ["put --key-size 3", "do not hold the prefix"],
    ["range --key-space 5 --range-keys 6", "more than the 5 keys"],
    ["watch --key-space 3", "cannot be spread evenly"],
    ["put --cacert /does/not/exist", "cannot read"],
    ["put --rate 0", "above zero"],
  ])("%s", async (line, expected) => {
    const { code, out, error } = await bench(1, line);
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(error).toStartWith("keelson bench: ");
    expect(error).toContain(expected);
    expect(error.trimEnd()).not.toContain("\n");
  });

  test("an endpoint that nobody listens on is one line and exit code 1", async () => {
    const { code, error } = await bench(1, "put --total 5");
    expect(code).toBe(1);
    expect(error).toContain("cannot connect to 127.0.0.1:1");
  });
});

describe("the HTTP/2 client", () => {
  const open = (port: number) => Connection.open({ host: "127.0.0.1", port, secure: false });

  function call(connection: Connection, path: string, message: Uint8Array) {
    const { promise, resolve } = Promise.withResolvers<{ code: number; text: string; answers: Buffer[] }>();
    const answers: Buffer[] = [];
    connection.call(path, message, {
      message: (bytes) => answers.push(Buffer.from(bytes)),
      end: (code, text) => resolve({ code, text, answers }),
    });
    return promise;
  }

  const putOf = (bytes: number, index = 0): Uint8Array =>
    toBinary(
      PutRequestSchema,
      create(PutRequestSchema, {
        key: benchKey({ keyPrefix: "big/", keyBytes: 16 }, index),
        value: new Uint8Array(bytes).fill(97 + (index % 26)),
      }),
    );

  test("sends and receives messages far larger than frames and windows, many at a time", async () => {
    const connection = await open(await startStore());
    const sizes = [0, 1, 16_378, 16_384, 65_535, 70_000, 300_000, 1_500_000];
    const puts = await Promise.all(
      sizes.map((bytes, i) => call(connection, "/etcdserverpb.KV/Put", putOf(bytes, i))),
    );
    expect(puts.map(({ code }) => code)).toEqual(sizes.map(() => 0));
    const range = toBinary(
      RangeRequestSchema,
      create(RangeRequestSchema, { key: Buffer.from("big/"), rangeEnd: Buffer.from("big0") }),
    );
    const { answers } = await call(connection, "/etcdserverpb.KV/Range", range);
    const { kvs } = fromBinary(RangeResponseSchema, answers[0]!);
    expect(kvs.map(({ value }) => value.length).toSorted((a, b) => a - b)).toEqual(sizes);
    for (const { value } of kvs) expect(new Set(value).size).toBeLessThanOrEqual(1);
    connection.close();
  });

  test("never has more calls open than the server allows", async () => {
    const connection = await open(await startStore({ maxConcurrentStreams: 3 }));
    const calls = Array.from({ length: 40 }, (_, i) =>
      call(connection, "/etcdserverpb.KV/Put", putOf(10, i)),
    );
    expect((await Promise.all(calls)).every(({ code }) => code === 0)).toBe(true);
    connection.close();
  });

  test("reports the server's status, its text included", async () => {
    const connection = await open(await startStore());
    expect(await call(connection, "/no.Such/Méthod", new Uint8Array(0))).toMatchObject({ code: 12 });
    connection.close();
  });

  test("tells every open call when the connection breaks, and later ones too", async () => {
    const port = await startStore({ stallMs: 5000 });
    const connection = await open(port);
    const range = toBinary(RangeRequestSchema, create(RangeRequestSchema, { serializable: true }));
    const stalled = call(connection, "/etcdserverpb.KV/Range", range);
    await Bun.sleep(50);
    for (const close of closers.splice(0)) close();
    expect((await stalled).code).toBe(14);
    expect((await call(connection, "/etcdserverpb.KV/Range", range)).code).toBe(14);
  });
});
