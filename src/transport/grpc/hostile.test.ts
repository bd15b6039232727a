import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { connect } from "node:http2";
import fc from "fast-check";
import { RangeResponseSchema } from "../../proto/gen/etcd/rpc_pb";
import type { WatchRequestSchema, WatchResponseSchema } from "../../proto/gen/etcd/rpc_pb";
import type { ServerStream } from "../call";
import { EncodedMessage } from "../call";
import { bindMethods } from "../methods";
import { Deadlines } from "./deadlines";
import { FrameReader, frame } from "./frames";
import { encodeGrpcMessage, grpcContentType, parseTimeoutMs } from "./metadata";
import { PingPolicy } from "./pings";
import type { Running } from "./testing";
import { eventually, grpcHeaders, message, raw, session, start, tcp, wireFrames } from "./testing";

const rangePath = "/etcdserverpb.KV/Range";
const watchPath = "/etcdserverpb.Watch/Watch";
const logged: string[] = [];
const methods = bindMethods({
  kv: { range: () => create(RangeResponseSchema, { count: 7n }) },
  watch: {
    async watch(stream: ServerStream<typeof WatchRequestSchema, typeof WatchResponseSchema>) {
      for await (const request of stream.requests) void request;
    },
  },
});
let running: Running;

beforeAll(async () => {
  running = await start({
    methods,
    log: (level, text) => {
      if (level === "error") logged.push(text);
    },
  });
});

afterAll(async () => {
  await running.close();
  expect(logged).toEqual([]);
});

async function stillServes(): Promise<void> {
  const http2 = session(running.url);
  const answer = await raw(http2, grpcHeaders(rangePath), [message(Buffer.from([0x0a, 1, 0x61]))]);
  expect(answer.status).toBe(0);
  http2.destroy();
}

describe("hostile clients", () => {
  test("any bytes as the body of a call end in a status", async () => {
    const http2 = session(running.url);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(rangePath, watchPath),
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 5 }),
        async (path, pieces) => {
          const answer = await raw(http2, grpcHeaders(path), pieces);
          expect(answer.status).toBeNumber();
        },
      ),
      { numRuns: 300 },
    );
    http2.destroy();
    await stillServes();
  });

  test("any HTTP/2 frames after the preface never stop the server", async () => {
    const someFrame = fc
      .record({
        type: fc.integer({ min: 0, max: 10 }),
        flags: fc.integer({ min: 0, max: 255 }),
        stream: fc.integer({ min: 0, max: 9 }),
        payload: fc.uint8Array({ maxLength: 32 }),
      })
      .map(({ type, flags, stream, payload }) => {
        const head = Buffer.alloc(9);
        head.writeUIntBE(payload.length, 0, 3);
        head[3] = type;
        head[4] = flags;
        head.writeUInt32BE(stream, 5);
        return Buffer.concat([head, payload]);
      });
    await fc.assert(
      fc.asyncProperty(fc.array(someFrame, { maxLength: 6 }), async (frames) => {
        const socket = await tcp(running.port);
        socket.resume();
        socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
        socket.write(Buffer.concat([Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]), ...frames]));
        await Bun.sleep(1);
        socket.destroy();
      }),
      { numRuns: 200 },
    );
    await stillServes();
    await eventually("nothing is left", () => running.server.counts().calls === 0);
  });

  test("odd metadata is carried or refused, never fatal", async () => {
    const http2 = session(running.url);
    for (const value of ["", "\u00ff", "%%%", "a".repeat(20_000), "a, b"]) {
      for (const name of ["x-odd", "x-odd-bin", "token", "authorization", "hasleader"]) {
        const answer = await raw(http2, grpcHeaders(rangePath, { [name]: value }), [
          message(Buffer.from([0x0a, 1, 0x61])),
        ]);
        expect(answer.status).toBe(0);
      }
    }
    http2.destroy();
  });

  test("requests that never end are bounded per connection, and given back when it goes", async () => {
    const own = await start({ methods, connectionBufferedBytesMax: 100_000 });
    const http2 = session(own.url);
    const unfinished = Buffer.concat([Buffer.from([0, 0, 0x10, 0, 0]), Buffer.alloc(40_000)]);
    const answers = [0, 1, 2].map(() => raw(http2, grpcHeaders(rangePath), [unfinished], false));
    const refused = await Promise.race(answers);
    expect([refused.status, refused.message]).toEqual([8, "grpc: too many request bytes are waiting"]);
    expect(own.server.counts().bufferedRequestBytes).toBeLessThanOrEqual(100_000);
    http2.destroy();
    await eventually("all is given back", () => own.server.counts().bufferedRequestBytes === 0);
    await own.close();
  });

  test("answers that a client does not read are bounded per connection", async () => {
    const large = new EncodedMessage([Buffer.from([0x7a, 0xc0, 0x9a, 0x0c]), Buffer.alloc(200_000)]);
    const own = await start({
      methods: bindMethods({ kv: { range: () => large } }),
      connectionAnswerBytesMax: 1_000_000,
    });
    // A window of nothing: no answer may be sent.
    const http2 = connect(own.url, { settings: { initialWindowSize: 0 } });
    http2.on("error", () => {});
    const unread = Array.from({ length: 10 }, () => {
      const stream = http2.request(grpcHeaders(rangePath));
      stream.on("error", () => {});
      stream.end(message(Buffer.from([0x0a, 1, 0x61])));
      return stream;
    });
    const refused = await raw(http2, grpcHeaders(rangePath), [message(Buffer.from([0x0a, 1, 0x61]))]);
    expect([refused.status, refused.message]).toEqual([8, "grpc: too many answer bytes are waiting"]);
    for (const stream of unread) stream.close(8);
    await eventually("the calls are gone", () => own.server.counts().calls === 0);
    http2.settings({ initialWindowSize: 1024 ** 2 });
    const served = await raw(http2, grpcHeaders(rangePath), [message(Buffer.from([0x0a, 1, 0x61]))]);
    expect([served.status, served.body.length]).toEqual([0, 200_009]);
    http2.destroy();
    await own.close();
  });

  test("large ranges that clients do not read are bounded over all connections, and nothing else is", async () => {
    const large = new EncodedMessage([Buffer.from([0x7a, 0x80, 0x89, 0x7a]), Buffer.alloc(2_000_000)]);
    const small = new EncodedMessage([Buffer.from([0x7a, 0x02]), Buffer.alloc(2)]);
    let answer = large;
    const own = await start({
      methods: bindMethods({ kv: { range: () => answer } }),
      answerBytesMax: 3_000_000,
    });
    const ask = message(Buffer.from([0x0a, 1, 0x61]));
    const deaf = connect(own.url, { settings: { initialWindowSize: 0 } });
    deaf.on("error", () => {});
    const unread = deaf.request(grpcHeaders(rangePath));
    unread.on("error", () => {});
    unread.end(ask);
    await eventually("its call is there", () => own.server.counts().calls === 1);
    const other = connect(own.url);
    const refused = await raw(other, grpcHeaders(rangePath), [ask]);
    expect([refused.status, refused.message]).toEqual([8, "grpc: too many answer bytes are waiting"]);
    answer = small;
    expect((await raw(other, grpcHeaders(rangePath), [ask])).status).toBe(0);
    deaf.destroy();
    await eventually("the call is gone", () => own.server.counts().calls === 0);
    answer = large;
    expect((await raw(other, grpcHeaders(rangePath), [ask])).status).toBe(0);
    other.destroy();
    await own.close();
  });

  test("a client that falls silent is pinged, and dropped when it does not answer", async () => {
    const own = await start({ methods, keepaliveIntervalMs: 60, keepaliveTimeoutMs: 60 });
    const alive = session(own.url);
    const socket = await tcp(own.port);
    const received: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    await closed;
    expect(wireFrames(Buffer.concat(received)).some((one) => one.type === 6)).toBe(true);
    await Bun.sleep(150);
    expect(alive.destroyed).toBe(false);
    expect(own.server.counts().connections).toBe(1);
    alive.destroy();
    await own.close();
  });
});

describe("ping policy", () => {
  test("two early pings are forgiven, the next is not; traffic wipes the slate", () => {
    const policy = new PingPolicy(5_000);
    expect([0, 6_000, 12_000].map((at) => policy.received(at, true))).toEqual([true, true, true]);
    expect([12_001, 12_002].map((at) => policy.received(at, true))).toEqual([true, true]);
    policy.wrote();
    expect([12_003, 12_004, 12_005].map((at) => policy.received(at, true))).toEqual([true, true, true]);
    expect(policy.received(12_006, true)).toBe(false);
  });

  test("without open calls even slow pings are strikes", () => {
    const policy = new PingPolicy(5_000);
    expect([0, 10_000, 20_000, 30_000].map((at) => policy.received(at, false))).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });
});

describe("frames", () => {
  test("any messages cut anywhere come out as they went in", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 40 }),
        (messages, cuts) => {
          const wire = Buffer.concat(messages.map((one) => frame([one], one.length)));
          const reader = new FrameReader(1_000);
          const out: Uint8Array[] = [];
          for (let at = 0, i = 0; at < wire.length; i++) {
            const end = Math.min(wire.length, at + cuts[i % cuts.length]!);
            reader.push(wire.subarray(at, end));
            at = end;
            for (let one = reader.next(); one !== undefined; one = reader.next()) out.push(one);
          }
          expect(out.map((one) => Buffer.from(one).toString("hex"))).toEqual(
            messages.map((one) => Buffer.from(one).toString("hex")),
          );
          expect(reader.heldBytes).toBe(0);
        },
      ),
    );
  });
});

describe("headers", () => {
  test("timeouts in every unit", () => {
    expect(["2H", "3M", "4S", "5m", "6u", "7n"].map(parseTimeoutMs)).toEqual([
      7_200_000, 180_000, 4_000, 5, 0.006, 7e-6,
    ]);
    for (const bad of ["", "S", "1", "1.5S", "-1S", "1 S", "123456789S"]) {
      expect(parseTimeoutMs(bad)).toBeString();
    }
  });

  test("messages are printable ASCII on the wire and decode to what was said", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const wire = encodeGrpcMessage(text);
        expect(wire).toMatch(/^[\x20-\x7e]*$/);
        expect(wire).toBe(wire.trim());
        expect(decodeURIComponent(wire)).toBe(text);
      }),
    );
  });

  test("content types of gRPC", () => {
    expect(grpcContentType("application/grpc")).toBe("application/grpc");
    expect(grpcContentType("application/grpc+proto")).toBe("application/grpc+proto");
    expect(grpcContentType("application/grpc;charset=utf8")).toBe("application/grpc+charset=utf8");
    for (const other of [undefined, "", "application/grpc-web", "application/json", "APPLICATION/GRPC"]) {
      expect(grpcContentType(other)).toBeUndefined();
    }
  });
});

test("deadlines fire once, in time, and leave no timer behind", async () => {
  const deadlines = new Deadlines();
  const fired: string[] = [];
  const call = (name: string) => ({ expire: () => fired.push(name) });
  const now = performance.now();
  const late = call("late");
  const ticket = deadlines.arm(late, now + 30);
  deadlines.arm(call("first"), now + 10);
  deadlines.arm(call("second"), now + 20);
  expect(deadlines.armed).toBe(3);
  deadlines.disarm(late, ticket);
  deadlines.disarm(late, ticket);
  await eventually("both fired", () => fired.length === 2);
  expect(performance.now() - now).toBeGreaterThanOrEqual(20);
  await Bun.sleep(40);
  expect(fired).toEqual(["first", "second"]);
  expect(deadlines.armed).toBe(0);
});
