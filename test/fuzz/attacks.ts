/**
 * Bad input of every kind, drawn from a seed. Each attack ends by itself, whatever the server does, and tells what
 * the server should not have done.
 */
import {
  create,
  toBinary,
  type DescMessage,
  type MessageInitShape,
  type DescMethodUnary,
} from "@bufbuild/protobuf";
import { connect, type Socket } from "node:net";
import type { EventEmitter } from "node:events";
import { KV, Lease, Maintenance, Watch } from "../../src/proto/gen/etcd/rpc_pb";
import type { SeededRng } from "../../src/rng";
import { ConnectionLost, frame, GrpcClient, methodPath } from "../tools/grpc-client";
import type { Server } from "../tools/server";

/** What an attack may find. */
export interface Findings {
  /** Things that must not happen. */
  readonly wrong: string[];
  /** The newest revision that an answer with status OK told; only such requests may have written. */
  revision: bigint;
}

export interface Attack {
  readonly name: string;
  /** `count` scales how much is done. */
  run(server: Server, rng: SeededRng, count: number, findings: Findings): Promise<void>;
}

const utf8 = (text: string): Uint8Array => Buffer.from(text);

function randomBytes(rng: SeededRng, length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, () => rng.below(256)));
}

function encoded<Input extends DescMessage>(
  method: DescMethodUnary<Input, DescMessage>,
  request: MessageInitShape<Input>,
): { path: string; body: Uint8Array } {
  return { path: methodPath(method), body: toBinary(method.input, create(method.input, request)) };
}

/** Well-formed requests, as the raw material. */
function material(rng: SeededRng): { path: string; body: Uint8Array } {
  const key = utf8(`fuzz/${rng.below(20)}`);
  const put = {
    request: { case: "requestPut" as const, value: { key, value: randomBytes(rng, rng.below(60)) } },
  };
  const all = [
    encoded(KV.method.put, { key, value: randomBytes(rng, 30), lease: BigInt(rng.below(3)) }),
    encoded(KV.method.range, { key, rangeEnd: utf8("fuzz0"), limit: 3n, revision: 2n }),
    encoded(KV.method.deleteRange, { key, rangeEnd: utf8("fuzz/5"), prevKv: true }),
    encoded(KV.method.txn, {
      compare: [{ key, targetUnion: { case: "version", value: 1n } }],
      success: [put],
    }),
    encoded(Lease.method.leaseTimeToLive, { ID: 5n, keys: true }),
    encoded(Maintenance.method.hashKV, { revision: 3n }),
    encoded(Maintenance.method.status, {}),
  ];
  const chosen = all[rng.below(all.length)];
  if (chosen === undefined) throw new Error("no material");
  return chosen;
}

/** One to four random changes: bits, bytes, cuts, repeats, insertions. */
function mutate(rng: SeededRng, bytes: Uint8Array): Buffer {
  let result = Buffer.from(bytes);
  for (let changes = rng.below(4); changes >= 0; changes--) {
    const at = rng.below(result.length + 1);
    switch (rng.below(5)) {
      case 0:
        if (at < result.length) result[at] = (result[at] ?? 0) ^ (1 << rng.below(8));
        break;
      case 1:
        result = result.subarray(0, at);
        break;
      case 2:
        result = Buffer.concat([
          result.subarray(0, at),
          randomBytes(rng, 1 + rng.below(12)),
          result.subarray(at),
        ]);
        break;
      case 3:
        result = Buffer.concat([result, result.subarray(at)]);
        break;
      default:
        if (at < result.length) result[at] = [0, 255, 127, 128][rng.below(4)] ?? 0;
    }
  }
  return result;
}

function noteReply(
  findings: Findings,
  path: string,
  frames: readonly Buffer[],
  code: number | undefined,
): void {
  if (code === undefined || code > 16) findings.wrong.push(`${path} ended with status ${String(code)}`);
  const [body] = frames;
  if (code !== 0 || body === undefined) return;
  // Every answer has its header in field 1, and the revision in field 3 of that.
  const header = firstField(body);
  if (header === undefined) return;
  const revision = varintField(header, 3);
  if (revision !== undefined && revision > findings.revision) findings.revision = revision;
}

function firstField(body: Buffer): Buffer | undefined {
  if (body[0] !== 0x0a) return undefined;
  const length = body[1] ?? 0;
  return length < 128 ? body.subarray(2, 2 + length) : undefined;
}

function varintField(body: Buffer, wanted: number): bigint | undefined {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = body[at++] ?? 0;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < body.length) {
    const tag = varint();
    const value = varint();
    if (tag === BigInt(wanted << 3)) return value;
  }
  return undefined;
}

/** Resolves at an event; unlike events.once, an error does not reject it. */
function at(emitter: EventEmitter, event: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  emitter.once(event, () => resolve());
  return promise;
}

/** Runs tasks with so many at a time. */
async function inParallel(
  total: number,
  width: number,
  task: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < total) await task(next++);
    }),
  );
}

/** How long an answer may take that must come. */
const slowAnswerMs = 5_000;

/** A plain TCP connection that gives up after a while; an answer that must come is given time on a busy machine. */
async function withSocket(
  server: Server,
  attack: (socket: Socket) => void,
  waitMs: number,
  answerExpected = false,
): Promise<{ received: Buffer; closedByServer: boolean }> {
  const socket = connect(server.port, "127.0.0.1");
  const chunks: Buffer[] = [];
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const closed = at(socket, "close").then(() => true);
  socket.once("connect", () => attack(socket));
  let closedByServer = await Promise.race([closed, Bun.sleep(waitMs).then(() => false)]);
  if (answerExpected && !closedByServer && chunks.length === 0) {
    const answered = at(socket, "data").then(() => false);
    closedByServer = await Promise.race([closed, answered, Bun.sleep(slowAnswerMs).then(() => false)]);
  }
  socket.destroy();
  return { received: Buffer.concat(chunks), closedByServer };
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** One HTTP/2 frame. */
function h2(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** A header list, each as a literal that is not indexed and not compressed, so that any byte can be sent. */
function hpack(headers: readonly (readonly [string | Buffer, string | Buffer])[]): Buffer {
  const text = (value: string | Buffer): Buffer => {
    const bytes = Buffer.from(value as string);
    if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
    let rest = bytes.length - 127;
    const length = [127];
    while (rest >= 128) {
      length.push((rest & 127) | 128);
      rest >>>= 7;
    }
    length.push(rest);
    return Buffer.concat([Buffer.from(length), bytes]);
  };
  return Buffer.concat(headers.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function callHeaders(
  path: string,
  more: readonly (readonly [string | Buffer, string | Buffer])[] = [],
): Buffer {
  return hpack([
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...more,
  ]);
}

const settings = h2(4, 0, 0, Buffer.alloc(0));

/** A txn inside a txn, so deep; encoded from the inside out, because encoders of messages would not go so far. */
export function nestedTxn(depth: number): Buffer {
  const varint = (value: number): Buffer => {
    const bytes: number[] = [];
    let rest = value;
    while (rest >= 128) {
      bytes.push((rest & 127) | 128);
      rest >>>= 7;
    }
    bytes.push(rest);
    return Buffer.from(bytes);
  };
  // Lengths first, then one buffer filled from the outside in.
  const headers: Buffer[] = [];
  let length = 0;
  for (let level = 0; level < depth; level++) {
    const operation = Buffer.concat([Buffer.from([0x22]), varint(length)]);
    const entry = Buffer.concat([Buffer.from([0x12]), varint(length + operation.length), operation]);
    headers.push(entry);
    length += entry.length;
  }
  return Buffer.concat(headers.toReversed());
}

export const attacks: readonly Attack[] = [
  {
    name: "mutated messages",
    async run(server, rng, count, findings) {
      const client = new GrpcClient(server.url);
      await inParallel(count * 20, 16, async () => {
        const { path, body } = material(rng);
        const reply = await client.raw(path, frame(mutate(rng, body)), { timeoutMs: 10_000 });
        noteReply(findings, path, reply.frames, reply.status?.code);
      });
      client.close();
    },
  },
  {
    name: "frames that lie about their length, are cut short, or are none",
    async run(server, rng, count, findings) {
      const client = new GrpcClient(server.url);
      await inParallel(count * 4, 8, async () => {
        const { path, body } = material(rng);
        const whole = frame(body);
        const lies: Buffer[] = [
          whole.subarray(0, rng.below(whole.length)),
          Buffer.concat([whole.subarray(0, 1), Buffer.from([0xff, 0xff, 0xff, 0xff]), whole.subarray(5)]),
          Buffer.concat([whole, whole]),
          frame(body, 1 + rng.below(255)),
          randomBytes(rng, rng.below(50)),
          Buffer.alloc(0),
        ];
        const bytes = lies[rng.below(lies.length)] ?? whole;
        const reply = await client.raw(path, bytes, { timeoutMs: 10_000 });
        noteReply(
          findings,
          path,
          reply.frames,
          reply.status?.code ?? (reply.reset === undefined ? undefined : 1),
        );
      });
      client.close();
    },
  },
  {
    name: "wrong methods, paths and content types",
    async run(server, rng, count, findings) {
      const client = new GrpcClient(server.url);
      const headers: Record<string, string>[] = [
        { "content-type": "application/json" },
        { "content-type": "text/plain" },
        { "content-type": "application/grpc-web" },
        { ":method": "GET" },
        { ":method": "PATCH" },
        { "grpc-encoding": "snappy" },
        { "grpc-timeout": "never" },
        { "grpc-timeout": "99999999999999S" },
        { "grpc-timeout": "0n" },
        { "grpc-timeout": "-1S" },
        { "client-api-version": "3.6" },
        { hasleader: "maybe" },
        { authorization: "Bearer x" },
        { "x-long": "y".repeat(6000) },
      ];
      const paths = [
        "/",
        "//",
        "/etcdserverpb.KV",
        "/etcdserverpb.KV/",
        "/etcdserverpb.KV/Put/x",
        "/%00",
        "/v3/kv/put",
      ];
      await inParallel(count * 3, 8, async () => {
        const body = encoded(KV.method.range, { key: utf8("a") });
        const path = rng.below(2) === 0 ? body.path : (paths[rng.below(paths.length)] ?? "/");
        const reply = await client.raw(path, frame(body.body), {
          headers: headers[rng.below(headers.length)] ?? {},
          timeoutMs: 10_000,
        });
        if (reply.httpStatus === undefined && reply.reset === undefined)
          findings.wrong.push(`${path}: no end`);
      }).catch((error: unknown) => {
        // A server may hang up on what is not HTTP/2 at all, such as a GET with a body.
        if (!(error instanceof ConnectionLost)) throw error;
      });
      client.close();
    },
  },
  {
    name: "streams that are reset or half-closed at any point",
    async run(server, rng, count) {
      const client = new GrpcClient(server.url);
      await inParallel(count * 4, 16, async () => {
        const body = frame(encoded(KV.method.range, { key: utf8("a"), rangeEnd: utf8("b") }).body);
        const path = [
          methodPath(KV.method.range),
          methodPath(Watch.method.watch),
          methodPath(Lease.method.leaseKeepAlive),
        ][rng.below(3)];
        const stream = client.open(path ?? "/");
        stream.on("error", () => {});
        stream.on("data", () => {});
        const closed = at(stream, "close");
        stream.write(body.subarray(0, rng.below(body.length + 1)));
        if (rng.below(3) > 0) await Bun.sleep(rng.below(4));
        const way = rng.below(3);
        if (way === 0) stream.end();
        else stream.close([0, 2, 7, 8, 11][rng.below(5)] ?? 8);
        const over = await Promise.race([closed.then(() => true), Bun.sleep(3_000).then(() => false)]);
        if (!over) stream.close(8);
      });
      client.close();
    },
  },
  {
    name: "watch and keep-alive streams fed with nonsense",
    async run(server, rng, count) {
      const client = new GrpcClient(server.url);
      await inParallel(count, 8, async () => {
        const watch = client.stream(Watch.method.watch);
        const extremes = [0n, -1n, 1n, (1n << 63n) - 1n, -(1n << 63n), BigInt(rng.below(50))];
        const some = (): bigint => extremes[rng.below(extremes.length)] ?? 0n;
        for (let message = rng.below(12); message >= 0; message--) {
          const key = randomBytes(rng, rng.below(4));
          const rangeEnd = randomBytes(rng, rng.below(3));
          switch (rng.below(4)) {
            case 0:
              watch.send({
                requestUnion: {
                  case: "createRequest",
                  value: { key, rangeEnd, startRevision: some(), watchId: some(), filters: [rng.below(9)] },
                },
              });
              break;
            case 1:
              watch.send({ requestUnion: { case: "cancelRequest", value: { watchId: some() } } });
              break;
            case 2:
              watch.send({ requestUnion: { case: "progressRequest", value: {} } });
              break;
            default:
              watch.send({});
          }
        }
        if (rng.below(3) === 0) watch.http2Stream.write(randomBytes(rng, 30));
        await watch.activity(30);
        if (rng.below(2) === 0) watch.halfClose();
        else watch.cancel();
        const beats = client.stream(Lease.method.leaseKeepAlive);
        for (let message = 0; message < 5; message++) beats.send({ ID: some() });
        await beats.activity(30);
        beats.cancel();
        watch.cancel();
      });
      client.close();
    },
  },
  {
    name: "numbers at their ends",
    async run(server, rng, count, findings) {
      const client = new GrpcClient(server.url);
      const ends = [0n, -1n, 1n, (1n << 63n) - 1n, -(1n << 63n), (1n << 53n) + 1n];
      const some = (): bigint => ends[rng.below(ends.length)] ?? 0n;
      const small = (): number => [0, 1, 7, 2147483647, -1, -2147483648][rng.below(6)] ?? 0;
      await inParallel(count * 2, 8, async () => {
        const key = utf8("fuzz/numbers");
        const requests = [
          encoded(KV.method.range, {
            key,
            rangeEnd: utf8("\0"),
            limit: some(),
            revision: some(),
            sortOrder: small(),
            sortTarget: small(),
            minModRevision: some(),
            maxModRevision: some(),
            minCreateRevision: some(),
            maxCreateRevision: some(),
          }),
          encoded(KV.method.put, { key, lease: some() }),
          encoded(KV.method.txn, {
            compare: [
              { key, result: small(), target: small(), targetUnion: { case: "modRevision", value: some() } },
            ],
          }),
          encoded(Lease.method.leaseRevoke, { ID: some() }),
          encoded(Lease.method.leaseTimeToLive, { ID: some(), keys: true }),
          encoded(Maintenance.method.hashKV, { revision: some() }),
          encoded(Maintenance.method.alarm, { action: 0, memberID: BigInt(rng.below(3)), alarm: small() }),
        ];
        const { path, body } = requests[rng.below(requests.length)] ?? { path: "/", body: new Uint8Array(0) };
        const reply = await client.raw(path, frame(body), { timeoutMs: 10_000 });
        noteReply(findings, path, reply.frames, reply.status?.code);
      });
      client.close();
    },
  },
  {
    name: "deeply nested txns",
    async run(server, _rng, _count, findings) {
      const client = new GrpcClient(server.url);
      for (const depth of [100, 127, 128, 500, 5_000, 100_000]) {
        const reply = await client.raw(methodPath(KV.method.txn), frame(nestedTxn(depth)), {
          timeoutMs: 10_000,
        });
        noteReply(findings, `txn of depth ${depth}`, reply.frames, reply.status?.code);
        if (depth >= 500 && reply.status?.code === 0)
          findings.wrong.push(`a txn of depth ${depth} was carried out`);
      }
      client.close();
    },
  },
  {
    name: "oversized requests",
    async run(server, _rng, _count, findings) {
      const client = new GrpcClient(server.url);
      for (const mebibytes of [1.6, 2.2, 8]) {
        const { path, body } = encoded(KV.method.put, {
          key: utf8("fuzz/large"),
          value: new Uint8Array(mebibytes * 1024 * 1024),
        });
        const reply = await client.raw(path, frame(body), { timeoutMs: 20_000 }).catch((error: unknown) => {
          if (error instanceof ConnectionLost) return undefined;
          throw error;
        });
        if (reply?.status?.code === 0) findings.wrong.push(`a request of ${mebibytes} MiB was taken`);
      }
      const answer = await fetch(`${server.url}/v3/kv/put`, {
        method: "POST",
        body: JSON.stringify({ key: "ZnV6eg==", value: "A".repeat(8 * 1024 * 1024) }),
        signal: AbortSignal.timeout(10_000),
      }).catch(() => undefined);
      if (answer?.ok === true) findings.wrong.push("8 MiB over JSON were taken");
      client.close();
    },
  },
  {
    name: "metadata that is not UTF-8, and headers that are none",
    async run(server, rng, count, findings) {
      await inParallel(count, 8, async () => {
        const bad = Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x80]);
        const more: (readonly [string | Buffer, string | Buffer])[] = [
          ["client-api-version", bad],
          ["token", bad],
          ["x-bin", Buffer.from([0, 1, 2])],
          ["x\u0000y", "z"],
          ["Upper", "case"],
          [bad, "value"],
          ["x-line", "a\r\nb: c"],
        ];
        const body = frame(encoded(KV.method.put, { key: new Uint8Array(0) }).body);
        const chosen = more[rng.below(more.length)] ?? ["a", "b"];
        const { received, closedByServer } = await withSocket(
          server,
          (socket) => {
            const headers = callHeaders(methodPath(KV.method.put), [chosen]);
            socket.write(Buffer.concat([preface, settings, h2(1, 4, 1, headers), h2(0, 1, 1, body)]));
          },
          150,
          true,
        );
        if (received.length === 0 && !closedByServer)
          findings.wrong.push("bad metadata: neither answer nor end");
      });
    },
  },
  {
    name: "HTTP/2 frames out of place",
    async run(server, rng, count) {
      const shapes: (() => Buffer)[] = [
        () => h2(0, 0, 0, utf8("data on stream 0")),
        () => h2(0, 1, 5, utf8("data on an idle stream")),
        () => h2(1, 4, 2, callHeaders("/etcdserverpb.KV/Range")),
        () => h2(1, 4, 1, randomBytes(rng, 40)),
        () => h2(1, 0, 1, callHeaders("/etcdserverpb.KV/Range")),
        () => Buffer.concat(Array.from({ length: 50 }, () => h2(9, 0, 1, Buffer.alloc(10)))),
        () => h2(8, 0, 0, Buffer.alloc(4)),
        () => h2(8, 0, 1, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
        () => h2(4, 0, 0, Buffer.from([0, 4, 0xff, 0xff, 0xff, 0xff])),
        () => h2(4, 0, 3, Buffer.alloc(6)),
        () => h2(3, 0, 9, Buffer.alloc(4)),
        () => h2(6, 0, 0, Buffer.alloc(3)),
        () => Buffer.concat(Array.from({ length: 200 }, () => h2(6, 0, 0, Buffer.alloc(8)))),
        () => Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        () => h2(0x7b, 0xff, 1, randomBytes(rng, 20)),
        () => randomBytes(rng, 100),
      ];
      await inParallel(count, 16, async () => {
        await withSocket(
          server,
          (socket) => {
            socket.write(Buffer.concat([preface, settings]));
            for (let frames = rng.below(4); frames >= 0; frames--) {
              socket.write((shapes[rng.below(shapes.length)] ?? (() => settings))());
            }
          },
          40,
        );
      });
    },
  },
  {
    name: "streams opened and reset at once",
    async run(server, _rng, count) {
      await inParallel(4, 4, async () => {
        await withSocket(
          server,
          (socket) => {
            socket.write(Buffer.concat([preface, settings]));
            const headers = callHeaders("/etcdserverpb.KV/Range");
            for (let index = 0; index < count * 5; index++) {
              const stream = index * 2 + 1;
              socket.write(
                Buffer.concat([h2(1, 4, stream, headers), h2(3, 0, stream, Buffer.from([0, 0, 0, 8]))]),
              );
            }
          },
          300,
        );
      });
    },
  },
  {
    name: "garbage on the port",
    async run(server, rng, count) {
      const shapes: (() => Buffer)[] = [
        () => randomBytes(rng, 1 + rng.below(300)),
        () => preface.subarray(0, rng.below(preface.length)),
        () => Buffer.concat([preface, randomBytes(rng, 60)]),
        () => Buffer.from("GET / HTTP/1.1\r\n\r\n"),
        () => Buffer.from("GET /health HTTP/9.9\r\nHost: x\r\n\r\n"),
        () => Buffer.from("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{"),
        () => Buffer.from("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
        () => Buffer.from("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"),
        () => Buffer.from(`GET /${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`),
        () => Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${"A: b\r\n".repeat(3_000)}`),
        () => Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        () => Buffer.from("SSH-2.0-OpenSSH_9.6\r\n"),
        () => Buffer.alloc(0),
      ];
      await inParallel(count, 16, async () => {
        await withSocket(
          server,
          (socket) => socket.write((shapes[rng.below(shapes.length)] ?? shapes[0])?.() ?? ""),
          30,
        );
      });
    },
  },
  {
    name: "bodies over JSON that are none",
    async run(server, rng, count, findings) {
      const bodies = [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        '{"key":1}',
        '{"key":"%%%"}',
        '{"key":"YQ==","value":{"a":[]}}',
        `{"key":"YQ==","lease":"${"9".repeat(40)}"}`,
        '{"key":"YQ==","lease":1e400}',
        `${"[".repeat(20_000)}`,
        `${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}`,
        '{"success":[{"request_txn":{"success":[{"request_txn":null}]}}]}',
        "\u0000",
        "\ud800",
      ];
      const paths = [
        "/v3/kv/put",
        "/v3/kv/range",
        "/v3/kv/txn",
        "/v3/lease/grant",
        "/v3/kv/compaction",
        "/v3/nothing",
      ];
      await inParallel(count, 8, async () => {
        const path = paths[rng.below(paths.length)] ?? "/";
        const answer = await fetch(server.url + path, {
          method: "POST",
          body: bodies[rng.below(bodies.length)] ?? "",
          signal: AbortSignal.timeout(10_000),
        });
        const text = await answer.text();
        if (answer.status === 200) {
          const revision = /"revision":\s*"(\d+)"/.exec(text)?.[1];
          if (revision !== undefined && BigInt(revision) > findings.revision)
            findings.revision = BigInt(revision);
        }
      });
    },
  },
  {
    name: "connections opened and dropped",
    async run(server, rng, count) {
      await inParallel(count * 30, 64, async (index) => {
        const socket = connect(server.port, "127.0.0.1");
        socket.on("error", () => {});
        await Promise.race([at(socket, "connect"), at(socket, "close"), Bun.sleep(2_000)]);
        if (index % 4 === 1) socket.write(preface.subarray(0, 1 + rng.below(preface.length)));
        if (index % 4 === 2) socket.write(Buffer.concat([preface, settings]));
        if (index % 4 === 3) socket.write("POST /v3/kv/range HTTP/1.1\r\n");
        if (rng.below(2) === 0) socket.resetAndDestroy();
        else socket.destroy();
      });
    },
  },
];
