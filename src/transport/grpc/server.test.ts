import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { InvariantError } from "../../assert";
import { GrpcCode, refuse } from "../../errors";
import type { PutRequest, RangeRequest, WatchRequestSchema } from "../../proto/gen/etcd/rpc_pb";
import {
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  WatchResponseSchema,
} from "../../proto/gen/etcd/rpc_pb";
import type { Call, ServerStream } from "../call";
import { EncodedMessage } from "../call";
import { HealthService } from "../health";
import { bindMethods } from "../methods";
import { ReflectionService } from "../reflection";
import type { MemberView } from "./options";
import type { Running } from "./testing";
import { eventually, grpcHeaders, message, raw, session, start, tcp, wireFrames } from "./testing";

const rangePath = "/etcdserverpb.KV/Range";
const putPath = "/etcdserverpb.KV/Put";
const watchPath = "/etcdserverpb.Watch/Watch";

/** A store with just enough behaviour to see what the transport does with it. */
class Kv {
  readonly waiting: { call: Call; answer: () => void }[] = [];
  puts = 0;

  range(request: RangeRequest): ReturnType<Kv["answer"]> | EncodedMessage {
    const key = Buffer.from(request.key).toString();
    if (key === "") throw refuse("emptyKey");
    if (key === "ütf") throw new Error("käputt: 100%\n");
    if (key === "invariant") throw new InvariantError("impossible");
    if (key === "large") {
      // A kvs field that holds zeros: 64 chunks of 256 KiB behind one tag and length.
      return new EncodedMessage(largeChunks);
    }
    return this.answer(7n);
  }

  answer(count: bigint) {
    return create(RangeResponseSchema, { count });
  }

  put(request: PutRequest, call: Call) {
    this.puts++;
    if (Buffer.from(request.key).toString() !== "wait") return Promise.resolve(create(PutResponseSchema));
    return new Promise<ReturnType<typeof empty>>((resolve) => {
      this.waiting.push({ call, answer: () => resolve(empty()) });
    });
  }
}

function empty() {
  return create(PutResponseSchema);
}

const largeChunkBytes = 256 * 1024;
const largeChunks: Uint8Array[] = [
  // Field 15, unknown to RangeResponse, length-delimited: 16 MiB.
  Buffer.from([0x7a, 0x80, 0x80, 0x80, 0x08]),
  ...Array.from({ length: 64 }, (_, i) => Buffer.alloc(largeChunkBytes, i)),
];

class Watch {
  open = 0;
  canceled = 0;
  slowSends = 0;

  async watch(
    stream: ServerStream<typeof WatchRequestSchema, typeof WatchResponseSchema>,
    call: Call,
  ): Promise<void> {
    this.open++;
    call.onCancel(() => this.canceled++);
    let id = 0n;
    for await (const request of stream.requests) {
      if (request.requestUnion.case === "progressRequest") {
        // A flood: as much as the client takes.
        while (!call.canceled) {
          this.slowSends++;
          if (!stream.send(new EncodedMessage([Buffer.alloc(16 * 1024)]))) await stream.drained();
        }
      } else {
        stream.send(create(WatchResponseSchema, { watchId: id++, created: true }));
      }
    }
    this.open--;
  }
}

const kv = new Kv();
const watch = new Watch();
const health = new HealthService();
const fatal: Error[] = [];
const view = { leader: true, learner: false };
const member: MemberView = { leaderKnown: () => view.leader, isLearner: () => view.learner };
let running: Running;
let client: grpc.Client;

beforeAll(async () => {
  running = await start({
    methods: bindMethods({ kv, watch, health, reflection: new ReflectionService() }),
    member,
    electionTimeoutMs: 30,
    onFatal: (error) => fatal.push(error),
  });
  client = new grpc.Client(`127.0.0.1:${running.port}`, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
  });
});

afterAll(async () => {
  client.close();
  await running.close();
  expect(running.server.counts()).toEqual({
    connections: 0,
    calls: 0,
    deadlines: 0,
    bufferedRequestBytes: 0,
    responseBytesInFlight: 0,
  });
});

const identity = (bytes: Buffer): Buffer => bytes;

function unary(path: string, request: Uint8Array, options: grpc.CallOptions = {}, metadata?: grpc.Metadata) {
  return new Promise<{ code: number; text: string; bytes: Buffer | undefined }>((resolve) => {
    client.makeUnaryRequest(
      path,
      identity,
      identity,
      Buffer.from(request),
      metadata ?? new grpc.Metadata(),
      options,
      (error, bytes) =>
        resolve({ code: error?.code ?? 0, text: error?.details ?? "", bytes: bytes as Buffer | undefined }),
    );
  });
}

function keyed(key: string): Uint8Array {
  return toBinary(RangeRequestSchema, create(RangeRequestSchema, { key: Buffer.from(key) }));
}

function put(key: string): Uint8Array {
  return toBinary(PutRequestSchema, create(PutRequestSchema, { key: Buffer.from(key) }));
}

describe("unary calls", () => {
  test("are answered, synchronously and asynchronously", async () => {
    const ranged = await unary(rangePath, keyed("a"));
    expect(ranged.bytes?.toString("hex")).toBe("2007");
    expect((await unary(putPath, put("a"))).code).toBe(0);
  });

  test("carry a refusal's code and exact text", async () => {
    expect(await unary(rangePath, keyed(""))).toMatchObject({
      code: GrpcCode.invalidArgument,
      text: "etcdserver: key is not provided",
    });
  });

  test("carry any other error as Unknown with its text, UTF-8 and control characters included", async () => {
    expect(await unary(rangePath, keyed("ütf"))).toMatchObject({
      code: GrpcCode.unknown,
      text: "käputt: 100%\n",
    });
  });

  test("a broken invariant is escalated and the client is told nothing about the outcome", async () => {
    const raised = unary(rangePath, keyed("invariant"), { deadline: Date.now() + 300 });
    await eventually("escalation", () => fatal.length === 1);
    expect(fatal[0]?.message).toBe("impossible");
    expect((await raised).code).toBe(GrpcCode.deadlineExceeded);
  });

  test("a large answer arrives whole, in order, and without long stalls", async () => {
    let worstMs = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      worstMs = Math.max(worstMs, performance.now() - last);
      last = performance.now();
    }, 1);
    const raw16 = session(running.url);
    const answer = await raw(raw16, grpcHeaders(rangePath), [message(keyed("large"))]);
    clearInterval(timer);
    raw16.destroy();
    expect(answer.status).toBe(0);
    expect(Buffer.compare(answer.body.subarray(5), Buffer.concat(largeChunks))).toBe(0);
    expect(running.server.counts().responseBytesInFlight).toBe(0);
    // The client is in the same process, so this is a coarse bound.
    expect(worstMs).toBeLessThan(100);
  });

  test("many large requests on one connection all get through", async () => {
    const http2 = session(running.url);
    const value = Buffer.alloc(1_400_000, 1);
    const request = message(toBinary(PutRequestSchema, create(PutRequestSchema, { value })));
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => raw(http2, grpcHeaders(putPath), [request])),
      );
      expect(answers.map((answer) => answer.status)).toEqual(Array(10).fill(0));
    }
    http2.destroy();
  });

  test("a deadline that passed before the handler ran leaves the store untouched", async () => {
    const http2 = session(running.url);
    const before = kv.puts;
    for (const timeout of ["0n", "1n", "0S"]) {
      const answer = await raw(http2, grpcHeaders(putPath, { "grpc-timeout": timeout }), [message(put("a"))]);
      expect([answer.status, answer.message]).toEqual([4, "context deadline exceeded"]);
    }
    expect(kv.puts).toBe(before);
    http2.destroy();
  });

  test("a deadline that passes later tells client and handler, and frees the call", async () => {
    const http2 = session(running.url);
    const answer = await raw(http2, grpcHeaders(putPath, { "grpc-timeout": "30m" }), [message(put("wait"))]);
    expect([answer.status, answer.message]).toEqual([4, "context deadline exceeded"]);
    const { call, answer: late } = kv.waiting.pop()!;
    expect(call.canceled).toBe(true);
    late();
    await eventually("no call is left", () => running.server.counts().calls === 0);
    http2.destroy();
  });

  test("a reset stream and a lost connection reach the handler", async () => {
    for (const how of ["reset", "lost"] as const) {
      const http2 = session(running.url);
      const stream = http2.request(grpcHeaders(putPath));
      stream.on("error", () => {});
      stream.end(message(put("wait")));
      await eventually("the handler waits", () => kv.waiting.length === 1);
      const { call, answer } = kv.waiting.pop()!;
      let told = 0;
      call.onCancel(() => told++);
      if (how === "reset") stream.close(8);
      else http2.destroy();
      await eventually(`cancelled when ${how}`, () => told === 1);
      call.onCancel(() => told++);
      expect(told).toBe(2);
      answer();
      http2.destroy();
    }
    await eventually("no call is left", () => running.server.counts().calls === 0);
  });
});

describe("what is not gRPC, or broken, is answered as etcd's transport does", () => {
  const wellFormed = message(keyed("a"));
  const cases: [string, Record<string, string>, Uint8Array[], number, number, string][] = [
    [
      "unknown method",
      { ":path": "/etcdserverpb.KV/Nope" },
      [wellFormed],
      200,
      12,
      "unknown method Nope for service etcdserverpb.KV",
    ],
    ["unknown service", { ":path": "/foo.Bar/Nope" }, [wellFormed], 200, 12, "unknown service foo.Bar"],
    ["path of three parts", { ":path": "/a/b/c" }, [wellFormed], 200, 12, "unknown service a/b"],
    ["path without method", { ":path": "/nope" }, [wellFormed], 200, 12, 'malformed method name: "/nope"'],
    [
      "content type",
      { "content-type": "application/json" },
      [wellFormed],
      415,
      3,
      'invalid gRPC request content-type "application/json"',
    ],
    [
      "content type that only starts like gRPC",
      { "content-type": "application/grpcx" },
      [wellFormed],
      415,
      3,
      'invalid gRPC request content-type "application/grpcx"',
    ],
    [
      "GET",
      { ":method": "GET" },
      [wellFormed],
      405,
      13,
      'Received a HEADERS frame with :method "GET" which should be POST',
    ],
    [
      "timeout without digits",
      { "grpc-timeout": "S" },
      [wellFormed],
      400,
      13,
      'malformed grpc-timeout: transport: timeout string is too short: "S"',
    ],
    [
      "timeout of unknown unit",
      { "grpc-timeout": "1x" },
      [wellFormed],
      400,
      13,
      'malformed grpc-timeout: transport: timeout unit is not recognized: "1x"',
    ],
    [
      "compressed flag without encoding",
      {},
      [message(keyed("a")).fill(1, 0, 1)],
      200,
      13,
      "grpc: compressed flag set with identity or empty encoding",
    ],
    [
      "unknown flag",
      {},
      [message(keyed("a")).fill(2, 0, 1)],
      200,
      13,
      "grpc: received unexpected payload format 2",
    ],
    [
      "encoding that is not installed",
      { "grpc-encoding": "gzip" },
      [wellFormed],
      200,
      12,
      'grpc: Decompressor is not installed for grpc-encoding "gzip"',
    ],
    [
      "too large",
      {},
      [Buffer.from([0, 0x7f, 0xff, 0xff, 0xff])],
      200,
      8,
      "grpc: received message larger than max (2147483647 vs. 2097152)",
    ],
    ["no message", {}, [], 200, 2, "EOF"],
    ["part of a prefix", {}, [Buffer.from([0, 0, 0])], 200, 2, "unexpected EOF"],
    ["part of a message", {}, [wellFormed.subarray(0, 6)], 200, 2, "unexpected EOF"],
    [
      "a number where the key belongs",
      {},
      [message(Buffer.from([0x08, 1]))],
      200,
      13,
      "grpc: error unmarshalling request: proto: wrong wireType = 0 for field Key",
    ],
    [
      "cut message inside a whole frame",
      {},
      [message(Buffer.from([0x0a, 9, 0x61]))],
      200,
      13,
      "grpc: error unmarshalling request: unexpected EOF",
    ],
  ];
  test.each(cases)("%s", async (_name, headers, pieces, httpStatus, status, text) => {
    const http2 = session(running.url);
    const answer = await raw(http2, grpcHeaders(rangePath, headers), pieces);
    expect([Number(answer.headers[":status"]), answer.status, answer.message]).toEqual([
      httpStatus,
      status,
      text,
    ]);
    http2.destroy();
  });

  test("a client that never half-closes is answered and its stream closed", async () => {
    const http2 = session(running.url);
    const answer = await raw(http2, grpcHeaders(rangePath), [wellFormed], false);
    expect(answer.status).toBe(0);
    http2.destroy();
  });

  test("a missing te header and content subtypes are no obstacle", async () => {
    const http2 = session(running.url);
    const headers = grpcHeaders(rangePath, { "content-type": "application/grpc+proto" });
    delete headers["te"];
    const answer = await raw(http2, headers, [wellFormed]);
    expect(answer.status).toBe(0);
    expect(answer.headers["content-type"]).toBe("application/grpc+proto");
    http2.destroy();
  });
});

describe("messages survive every way of cutting them", () => {
  test("a unary request split at each byte", async () => {
    const http2 = session(running.url);
    const whole = message(keyed("some-key"));
    for (let at = 1; at < whole.length; at++) {
      const answer = await raw(http2, grpcHeaders(rangePath), [whole.subarray(0, at), whole.subarray(at)]);
      expect(answer.body.toString("hex")).toBe("00000000022007");
    }
    const bytes = [...whole].map((byte) => Buffer.from([byte]));
    expect((await raw(http2, grpcHeaders(rangePath), bytes)).status).toBe(0);
    http2.destroy();
  });

  test("several messages of a stream in one DATA frame, or one in several", async () => {
    const http2 = session(running.url);
    const created = message(Buffer.from([0x0a, 0x03, 0x0a, 0x01, 0x61]));
    const joined = Buffer.concat([created, created, created]);
    for (const pieces of [[joined], [joined.subarray(0, 7), joined.subarray(7, 13), joined.subarray(13)]]) {
      const answer = await raw(http2, grpcHeaders(watchPath), pieces);
      expect(answer.status).toBe(0);
      expect(answer.body.toString("hex")).toBe(
        ["00000000021801", "000000000410011801", "000000000410021801"].join(""),
      );
    }
    http2.destroy();
  });
});

describe("metadata rules come in etcd's order", () => {
  test("a learner serves serializable ranges and refuses the rest, even health", async () => {
    view.learner = true;
    try {
      const refused = {
        code: GrpcCode.failedPrecondition,
        text: "etcdserver: rpc not supported for learner",
      };
      expect(await unary(rangePath, keyed("a"))).toMatchObject(refused);
      expect(await unary("/grpc.health.v1.Health/Check", new Uint8Array())).toMatchObject(refused);
      const serializable = create(RangeRequestSchema, { key: Buffer.from("a"), serializable: true });
      expect((await unary(rangePath, toBinary(RangeRequestSchema, serializable))).code).toBe(0);
    } finally {
      view.learner = false;
    }
  });

  test("a version that is not UTF-8 is refused", async () => {
    const http2 = session(running.url);
    const bad = await raw(http2, grpcHeaders(rangePath, { "client-api-version": "\u00ff\u00fe" }), [
      message(keyed("a")),
    ]);
    expect([bad.status, bad.message]).toEqual([3, "etcdserver: invalid client api version"]);
    const good = await raw(http2, grpcHeaders(rangePath, { "client-api-version": "3.6" }), [
      message(keyed("a")),
    ]);
    expect(good.status).toBe(0);
    http2.destroy();
  });

  test("hasleader refuses calls without a leader and ends streams after three checks in a row", async () => {
    const metadata = new grpc.Metadata();
    metadata.set("hasleader", "true");
    const stream = client.makeBidiStreamRequest(watchPath, identity, identity, metadata);
    const ended = new Promise<grpc.ServiceError>((resolve) =>
      stream.on("error", resolve as (e: Error) => void),
    );
    stream.on("data", () => {});
    stream.write(Buffer.from([0x0a, 0x03, 0x0a, 0x01, 0x61]));
    await eventually("the stream is open", () => watch.open > 0);
    view.leader = false;
    try {
      const refused = await unary(rangePath, keyed("a"), {}, metadata);
      expect(refused).toMatchObject({ code: GrpcCode.unavailable, text: "etcdserver: no leader" });
      expect((await unary(rangePath, keyed("a"))).code).toBe(0);
      const error = await ended;
      expect([error.code, error.details]).toEqual([GrpcCode.unavailable, "etcdserver: no leader"]);
      await eventually("the handler ended", () => watch.open === 0);
    } finally {
      view.leader = true;
    }
  });
});

describe("streams", () => {
  test("a client that does not read holds the sender back", async () => {
    const http2 = session(running.url);
    const stream = http2.request(grpcHeaders(watchPath));
    stream.on("error", () => {});
    stream.pause();
    const before = watch.slowSends;
    stream.write(message(Buffer.from([0x1a, 0x00])));
    await eventually("the flood began", () => watch.slowSends > before);
    await Bun.sleep(100);
    const sent = watch.slowSends - before;
    await Bun.sleep(100);
    expect(watch.slowSends - before).toBe(sent);
    // 16 KiB each: what the windows and queues take, not what a loop could make.
    expect(sent).toBeLessThan(512);
    const canceled = watch.canceled;
    http2.destroy();
    await eventually("the handler heard of it", () => watch.canceled === canceled + 1);
    await eventually("the handler ended", () => watch.open === 0);
  });

  test("a client far ahead of its handler loses nothing, not even its end", async () => {
    const http2 = session(running.url);
    const created = message(Buffer.from([0x0a, 0x03, 0x0a, 0x01, 0x61]));
    const messages = 20_000;
    const all = Buffer.concat(Array.from({ length: messages }, () => created));
    const answer = await raw(http2, grpcHeaders(watchPath), [all]);
    expect(answer.status).toBe(0);
    const last = create(WatchResponseSchema, { watchId: BigInt(messages - 1), created: true });
    expect(answer.body.toString("hex")).toEndWith(
      Buffer.from(toBinary(WatchResponseSchema, last)).toString("hex"),
    );
    // A message cut short behind as many is still told from a clean end.
    const cut = await raw(http2, grpcHeaders(watchPath), [all, created.subarray(0, 7)]);
    expect([cut.status, cut.message]).toEqual([13, "unexpected EOF"]);
    await eventually("nothing is held", () => running.server.counts().bufferedRequestBytes === 0);
    http2.destroy();
  });

  test("health watches report each change, reflection lists every service", async () => {
    const statuses: number[] = [];
    const watching = client.makeServerStreamRequest(
      "/grpc.health.v1.Health/Watch",
      identity,
      identity,
      Buffer.alloc(0),
    );
    watching.on("data", (bytes: Buffer) => statuses.push(bytes[1] ?? 0));
    watching.on("error", () => {});
    await eventually("the first status", () => statuses.length === 1);
    health.setServing(false);
    await eventually("the change", () => statuses.length === 2);
    health.setServing(true);
    await eventually("the change back", () => statuses.length === 3);
    expect(statuses).toEqual([1, 2, 1]);
    watching.cancel();
    expect(await unary("/grpc.health.v1.Health/Check", Buffer.from([0x0a, 1, 0x78]))).toMatchObject({
      code: GrpcCode.notFound,
      text: "unknown service",
    });
    for (const version of ["v1", "v1alpha"]) {
      const asked = client.makeBidiStreamRequest(
        `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        identity,
        identity,
      );
      const listed = new Promise<Buffer>((resolve) => asked.on("data", resolve));
      asked.on("error", () => {});
      asked.write(Buffer.from([0x3a, 0x00]));
      expect((await listed).toString("latin1")).toContain("etcdserverpb.KV");
      asked.end();
    }
  });
});

describe("pings", () => {
  test("with every piece of a large answer, as grpc-go sends them to measure, are no strikes", async () => {
    const http2 = session(running.url);
    let pings = 0;
    let waiting = false;
    const stream = http2.request(grpcHeaders(rangePath));
    let bytes = 0;
    const ended = new Promise<void>((resolve) => stream.on("close", () => resolve()));
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (waiting) return;
      waiting = true;
      http2.ping(() => {
        pings++;
        waiting = false;
      });
    });
    stream.end(message(keyed("large")));
    await ended;
    expect(bytes).toBe(5 + Buffer.concat(largeChunks).length);
    expect(pings).toBeGreaterThan(10);
    http2.destroy();
  });

  test("the fourth early ping without traffic is answered with GOAWAY too_many_pings", async () => {
    const socket = await tcp(running.port);
    const received: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    const ping = Buffer.concat([Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0]), Buffer.alloc(8, 1)]);
    for (let i = 0; i < 4; i++) {
      socket.write(ping);
      await Bun.sleep(5);
    }
    await closed;
    const goaway = wireFrames(Buffer.concat(received)).find((frame) => frame.type === 7);
    expect(goaway?.payload.readUInt32BE(4)).toBe(11);
    expect(goaway?.payload.subarray(8).toString()).toBe("too_many_pings");
  });
});

describe("stopping", () => {
  test("finishes unary calls, ends streams as Unavailable, names the last stream in GOAWAY", async () => {
    const own = await start({ methods: bindMethods({ kv, watch }) });
    const http2 = session(own.url);
    const goaways: [number, number][] = [];
    http2.on("goaway", (code, last) => goaways.push([code, last]));
    const streaming = raw(
      http2,
      grpcHeaders(watchPath),
      [message(Buffer.from([0x0a, 0x03, 0x0a, 0x01, 0x61]))],
      false,
    );
    await eventually("the stream is open", () => watch.open > 0);
    const waiting = raw(http2, grpcHeaders(putPath), [message(put("wait"))]);
    await eventually("the put waits", () => kv.waiting.length === 1);
    own.listener.stopAccepting();
    const stopped = own.server.stop(1_000);
    const cut = await streaming;
    expect([cut.status, cut.message]).toEqual([14, "etcdserver: server stopped"]);
    kv.waiting.pop()!.answer();
    expect((await waiting).status).toBe(0);
    await stopped;
    // A smaller id would tell the client that its put was never looked at, and it would send it again.
    expect(goaways[0]).toEqual([0, 3]);
    expect(own.server.counts().connections).toBe(0);
    await own.listener.close();
  });

  test("cuts what does not end within the grace", async () => {
    const own = await start({ methods: bindMethods({ kv }) });
    const http2 = session(own.url);
    const waiting = raw(http2, grpcHeaders(putPath), [message(put("wait"))]);
    await eventually("the put waits", () => kv.waiting.length === 1);
    const began = performance.now();
    await own.server.stop(50);
    expect(performance.now() - began).toBeLessThan(1_000);
    expect([14, undefined]).toContain((await waiting).status as number);
    expect(kv.waiting.pop()!.call.canceled).toBe(true);
    await own.listener.close();
  });
});
