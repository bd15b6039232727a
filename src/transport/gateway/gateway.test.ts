import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../proto/gen/etcd/kv_pb";
import {
  LeaseKeepAliveResponseSchema,
  LeaseLeasesResponseSchema,
  PutResponseSchema,
  RangeResponseSchema,
  SnapshotResponseSchema,
  TxnResponseSchema,
  WatchResponseSchema,
  type RangeRequest,
  type RangeResponse,
} from "../../proto/gen/etcd/rpc_pb";
import { GrpcCode, refuse, StoreError, type GrpcCode as Code } from "../../errors";
import { InvariantError } from "../../assert";
import { runDoor, type RunningDoor } from "../http/door-fixture";
import { EncodedMessage, type Call } from "../call";
import type { Services } from "../methods";
import { jsonPieces, jsonText } from "./answer-json";
import { parseGatewayTimeout } from "./headers";

const header = {
  clusterId: 14841639068965178418n,
  memberId: 10276657743932975437n,
  revision: 7n,
  raftTerm: 2n,
};
const headerJson = {
  cluster_id: "14841639068965178418",
  member_id: "10276657743932975437",
  revision: "7",
  raft_term: "2",
};

/** A range answer as the store makes it: bytes put together from stored records. */
function encodedRange(count: number, valueBytes: number): EncodedMessage {
  const chunks: Uint8Array[] = [toBinary(RangeResponseSchema, create(RangeResponseSchema, { header }))];
  for (let i = 0; i < count; i++) {
    const kv = {
      key: Buffer.from(`key-${i}`),
      value: new Uint8Array(valueBytes).fill(i),
      modRevision: BigInt(i + 1),
    };
    chunks.push(
      toBinary(RangeResponseSchema, create(RangeResponseSchema, { kvs: [create(KeyValueSchema, kv)] })),
    );
  }
  chunks.push(
    toBinary(RangeResponseSchema, create(RangeResponseSchema, { more: true, count: BigInt(count) })),
  );
  return new EncodedMessage(chunks);
}

interface Seen {
  range: RangeRequest | undefined;
  call: Call | undefined;
}
const seen: Seen = { range: undefined, call: undefined };
let canceledWatches = 0;
let canceledRanges = 0;
let watchSends = 0;

const services: Services = {
  kv: {
    range(request, call) {
      seen.range = request;
      seen.call = call;
      const key = Buffer.from(request.key).toString();
      if (key === "") throw refuse("emptyKey");
      if (key === "broken") throw new TypeError("not what was expected");
      if (key === "invariant") throw new InvariantError("impossible");
      if (key.startsWith("code:")) throw new StoreError(Number(key.slice(5)) as Code, "some text");
      if (key === "never") {
        call.onCancel(() => canceledRanges++);
        return new Promise<RangeResponse>(() => {});
      }
      if (key === "large") return encodedRange(2_000, 1_000);
      if (key === "huge") return encodedRange(500, 100_000);
      return encodedRange(1, 3);
    },
    put: () => create(PutResponseSchema, { header }),
  },
  lease: {
    async leaseKeepAlive(stream) {
      for await (const { ID } of stream.requests) {
        stream.send(create(LeaseKeepAliveResponseSchema, { header, ID, TTL: 5n }));
      }
    },
  },
  watch: {
    async watch(stream, call) {
      call.onCancel(() => canceledWatches++);
      for await (const { requestUnion } of stream.requests) {
        if (requestUnion.case === "cancelRequest") return;
        if (requestUnion.case === "progressRequest") throw refuse("noLeader");
        if (requestUnion.case !== "createRequest") continue;
        stream.send(
          create(WatchResponseSchema, { header, created: true, watchId: requestUnion.value.watchId }),
        );
        if (requestUnion.value.watchId === 99n) {
          const value = new Uint8Array(8_000);
          while (!call.canceled) {
            watchSends++;
            const event = { kv: create(KeyValueSchema, { key: Buffer.from("k"), value }) };
            if (!stream.send(create(WatchResponseSchema, { events: [event as never] })))
              await stream.drained();
          }
        }
      }
      await new Promise<void>((resolve) => call.onCancel(resolve));
    },
  },
  maintenance: {
    async snapshot(stream) {
      for await (const _ of stream.requests) {
        for (let i = 0; i < 3; i++) {
          const message = create(SnapshotResponseSchema, {
            remainingBytes: BigInt(2 - i),
            blob: new Uint8Array(40_000).fill(i),
          });
          stream.send(new EncodedMessage([toBinary(SnapshotResponseSchema, message)]));
        }
      }
    },
  },
};

let door: RunningDoor;
let learner = false;
let leader = true;
const fatal: Error[] = [];

beforeAll(async () => {
  door = await runDoor(
    services,
    { timeouts: { bodyMs: 300 } },
    {
      electionTimeoutMs: 20,
      member: { leaderKnown: () => leader, isLearner: () => learner },
      onFatal: (error) => void fatal.push(error),
    },
  );
});
afterAll(() => door.close());

interface Answered {
  readonly status: number;
  readonly json: unknown;
  readonly text: string;
  readonly headers: Headers;
}

async function post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answered> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(door.url + path, { method: "POST", body: text, headers });
  const answer = await response.text();
  const lines = answer.split("\n").filter((line) => line !== "");
  const json: unknown =
    lines.length === 1 ? JSON.parse(answer) : lines.map((line) => JSON.parse(line) as unknown);
  return { status: response.status, json, text: answer, headers: response.headers };
}

const key = (text: string): { key: string } => ({ key: Buffer.from(text).toString("base64") });
const settle = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe("calls with one answer", () => {
  test("answers have proto names, 64-bit integers as strings and no defaults", async () => {
    const answer = await post("/v3/kv/range", key("foo"));
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual({
      header: headerJson,
      kvs: [{ key: "a2V5LTA=", mod_revision: "1", value: "AAAA" }],
      more: true,
      count: "1",
    });
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(answer.headers.get("grpc-metadata-content-type")).toBe("application/grpc");
  });

  test("the whole message reaches the service", async () => {
    await post("/v3/kv/range", {
      ...key("foo"),
      rangeEnd: "Zm9w",
      limit: 5,
      revision: "9007199254740993",
      sort_order: "DESCEND",
    });
    expect(seen.range).toMatchObject({ limit: 5n, revision: 9007199254740993n, sortOrder: 2 });
  });

  test("an empty body is the default message, and what follows the first value is ignored", async () => {
    expect((await post("/v3/kv/put", "")).json).toEqual({ header: headerJson });
    expect((await post("/v3/kv/range", "")).json).toEqual({
      code: 3,
      message: "etcdserver: key is not provided",
    });
    expect((await post("/v3/kv/range", `${JSON.stringify(key("a"))} trailing`)).status).toBe(200);
  });

  test("/v3beta and etcd's aliases lead to the same calls", async () => {
    expect((await post("/v3beta/kv/range", key("foo"))).status).toBe(200);
    expect((await post("/v3/kv/lease/leases", {})).json).toMatchObject({ code: 12 });
    expect((await post("/v3/kv/%72ange", key("foo"))).status).toBe(200);
  });

  test("other methods are not allowed, other paths not found", async () => {
    const status = async (method: string, path: string): Promise<readonly [number, unknown]> => {
      const response = await fetch(door.url + path, { method });
      return [response.status, await response.json()];
    };
    expect(await status("GET", "/v3/kv/range")).toEqual([501, { code: 12, message: "Method Not Allowed" }]);
    expect(await status("PUT", "/v3/kv/range")).toEqual([501, { code: 12, message: "Method Not Allowed" }]);
    expect(await status("GET", "/v3/watch")).toEqual([501, { code: 12, message: "Method Not Allowed" }]);
    expect(await status("GET", "/v3/lease/grant")).toEqual([
      501,
      { code: 12, message: "Method Not Allowed" },
    ]);
    expect(await status("POST", "/v3/nothing")).toEqual([404, { code: 5, message: "Not Found" }]);
    expect(await status("POST", "/v3/kv/range/")).toEqual([404, { code: 5, message: "Not Found" }]);
    expect(await status("POST", "/v3/")).toEqual([404, { code: 5, message: "Not Found" }]);
  });

  test("each status has its HTTP status", async () => {
    const expected: readonly (readonly [number, number])[] = [
      [1, 499],
      [2, 500],
      [3, 400],
      [4, 504],
      [5, 404],
      [6, 409],
      [7, 403],
      [8, 429],
      [9, 400],
      [10, 409],
      [11, 400],
      [12, 501],
      [13, 500],
      [14, 503],
      [15, 500],
      [16, 401],
    ];
    for (const [code, http] of expected) {
      const answer = await post("/v3/kv/range", key(`code:${code}`));
      expect([code, answer.status, answer.json]).toEqual([code, http, { code, message: "some text" }]);
      expect(answer.headers.get("www-authenticate")).toBe(
        code === GrpcCode.unauthenticated ? "some text" : null,
      );
    }
  });

  test("malformed JSON is the client's fault, an unexpected failure ours, a broken invariant fatal", async () => {
    expect(await post("/v3/kv/range", "{")).toMatchObject({
      status: 400,
      json: { code: 3, message: "unexpected EOF" },
    });
    expect(await post("/v3/kv/range", key("broken"))).toMatchObject({ status: 500, json: { code: 2 } });
    expect(fatal).toHaveLength(0);
    expect(await post("/v3/kv/range", key("invariant"))).toMatchObject({ status: 500 });
    expect(fatal).toHaveLength(1);
  });

  test("a request larger than gRPC would let in is refused, also unread", async () => {
    const value = (bytes: number): { key: string; value: string } => ({
      key: "YQ==",
      value: "A".repeat(Math.ceil(bytes / 3) * 4),
    });
    expect((await post("/v3/kv/put", value(2_000_000))).status).toBe(200);
    const refused = await post("/v3/kv/put", value(2_200_000));
    expect(refused.status).toBe(429);
    expect(refused.json).toMatchObject({
      code: 8,
      message: expect.stringMatching(/^grpc: received message larger than max \(22000\d\d vs\. 2097152\)$/),
    });
    expect((await post("/v3/kv/put", `${" ".repeat(10_000_000)}{"key":"YQ=="}`)).status).toBe(200);
    expect((await post("/v3/kv/put", `{"x":"${"a".repeat(12_000_000)}"}`)).status).toBe(429);
    expect(door.gateway.counts()).toEqual({ calls: 0, bufferedRequestBytes: 0, answerBytes: 0 });
  });

  test("large ranges that nobody takes leave room for everything else, and further ones are refused", async () => {
    const bounded = await runDoor(services, {}, { answerBytesMax: 60_000_000 });
    try {
      const body = JSON.stringify({ key: Buffer.from("huge").toString("base64") });
      const ask = (): Promise<Response> => fetch(`${bounded.url}/v3/kv/range`, { method: "POST", body });
      const idle = await bounded.connect();
      idle.pause();
      idle.write(
        `POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      while (bounded.gateway.counts().answerBytes === 0) await Bun.sleep(5);
      const refused = await ask();
      expect(refused.status).toBe(429);
      expect(await refused.json()).toEqual({ code: 8, message: "grpc: too many answer bytes are waiting" });
      const large = JSON.stringify({ key: Buffer.from("large").toString("base64") });
      expect((await fetch(`${bounded.url}/v3/kv/range`, { method: "POST", body: large })).status).toBe(200);
      idle.destroy();
      while (bounded.gateway.counts().answerBytes > 0) await Bun.sleep(5);
      const answered = await ask();
      expect(answered.status).toBe(200);
      expect((await answered.text()).length).toBeGreaterThan(60_000_000);
    } finally {
      await bounded.close();
    }
  });

  test("large answers arrive whole", async () => {
    const { json, status } = await post("/v3/kv/range", key("large"));
    expect(status).toBe(200);
    const {
      kvs,
      count,
      header: got,
    } = json as {
      kvs: { key: string; mod_revision: string; value: string }[];
      count: string;
      header: unknown;
    };
    expect(got).toEqual(headerJson);
    expect(count).toBe("2000");
    expect(kvs).toHaveLength(2_000);
    expect(kvs[1_999]).toEqual({
      key: Buffer.from("key-1999").toString("base64"),
      mod_revision: "2000",
      value: Buffer.alloc(1_000, 1_999).toString("base64"),
    });
  });

  test("a client that leaves cancels its call", async () => {
    const before = canceledRanges;
    const controller = new AbortController();
    const request = fetch(`${door.url}/v3/kv/range`, {
      method: "POST",
      body: JSON.stringify(key("never")),
      signal: controller.signal,
    });
    await settle(30);
    controller.abort();
    await expect(request).rejects.toThrow();
    await settle(50);
    expect(canceledRanges).toBe(before + 1);
    expect(door.gateway.counts().calls).toBe(0);
  });

  test("a body that never ends is cut", async () => {
    const began = performance.now();
    await door.raw("POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
    expect(performance.now() - began).toBeGreaterThan(250);
    expect(performance.now() - began).toBeLessThan(2_500);
    expect(door.gateway.counts().calls).toBe(0);
  });
});

describe("headers", () => {
  test("become metadata as etcd's gateway maps them", async () => {
    await post("/v3/kv/range", key("a"), {
      authorization: "token.1",
      "Grpc-Metadata-Token": "token.2",
      "Grpc-Metadata-Foo": "bar",
      "user-agent": "tester",
      "x-other": "no",
    });
    const metadata = (name: string): string | undefined => seen.call!.metadata(name);
    expect(metadata("authorization")).toBe("token.1");
    expect(metadata("grpcgateway-authorization")).toBe("token.1");
    expect(metadata("token")).toBe("token.2");
    expect(metadata("foo")).toBe("bar");
    expect(metadata("grpcgateway-user-agent")).toBe("tester");
    expect(metadata("grpcgateway-accept")).toBeDefined();
    expect(metadata("x-other")).toBeUndefined();
    expect(metadata("grpcgateway-x-other")).toBeUndefined();
    expect(seen.call!.door).toBe("gateway");
  });

  test("a deadline ends the call", async () => {
    const answer = await post("/v3/kv/range", key("never"), { "grpc-timeout": "30m" });
    expect(answer).toMatchObject({ status: 504, json: { code: 4, message: "context deadline exceeded" } });
    expect(await post("/v3/kv/range", key("a"), { "grpc-timeout": "-1S" })).toMatchObject({ status: 504 });
    expect(await post("/v3/kv/range", key("a"), { "grpc-timeout": "1S" })).toMatchObject({ status: 200 });
    expect(await post("/v3/kv/range", key("a"), { "grpc-timeout": "abc" })).toMatchObject({
      status: 400,
      json: { code: 3, message: "invalid grpc-timeout: abc" },
    });
  });

  test("timeouts are read as etcd's gateway reads them", () => {
    expect(parseGatewayTimeout("2H")).toBe(7_200_000);
    expect(parseGatewayTimeout("100000000S")).toBe(1e11);
    expect(parseGatewayTimeout("0S")).toBeUndefined();
    for (const text of ["1", "S", "1x", "1.5S", ""]) expect(parseGatewayTimeout(text)).toBeNull();
  });

  test("hasleader and the learner's rule are checked before the service", async () => {
    leader = false;
    expect(await post("/v3/kv/range", key("a"), { "Grpc-Metadata-Hasleader": "true" })).toMatchObject({
      status: 503,
      json: { code: 14, message: "etcdserver: no leader" },
    });
    expect((await post("/v3/kv/range", key("a"))).status).toBe(200);
    expect(await post("/v3/watch", "", { "Grpc-Metadata-Hasleader": "true" })).toMatchObject({
      status: 503,
      json: { error: { code: 14, message: "etcdserver: no leader" } },
    });
    leader = true;
    learner = true;
    expect(await post("/v3/kv/range", key("a"))).toMatchObject({
      status: 400,
      json: { code: 9, message: "etcdserver: rpc not supported for learner" },
    });
    expect((await post("/v3/kv/range", { ...key("a"), serializable: true })).status).toBe(200);
    learner = false;
  });
});

describe("calls with a stream of answers", () => {
  test("a body with several messages gets a line for each, and ends with them", async () => {
    const answer = await post("/v3/lease/keepalive", `{"ID":"99"} {"ID":98}\n`);
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual([
      { result: { header: headerJson, ID: "99", TTL: "5" } },
      { result: { header: headerJson, ID: "98", TTL: "5" } },
    ]);
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect((await fetch(`${door.url}/v3/lease/keepalive`, { method: "POST" })).status).toBe(200);
  });

  test("messages are answered as they arrive, however the body is cut", async () => {
    const socket = await door.connect();
    let text = "";
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.write("POST /v3/lease/keepalive HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    const piece = (part: string): boolean => socket.write(`${part.length.toString(16)}\r\n${part}\r\n`);
    piece(`{"ID":`);
    await settle(20);
    expect(text).toBe("");
    piece(`"1"}{"I`);
    await settle(30);
    expect(text).toContain(`"ID":"1"`);
    piece(`D":"2"}`);
    await settle(30);
    expect(text).toContain(`"ID":"2"`);
    expect(text).not.toContain("0\r\n\r\n");
    // Longer open than any body but a stream's may be.
    await settle(400);
    piece(`{"ID":"3"}`);
    await settle(30);
    expect(text).toContain(`"ID":"3"`);
    socket.write("0\r\n\r\n");
    await settle(30);
    expect(text).toEndWith("0\r\n\r\n");
    socket.destroy();
  });

  test("a watch stays open after its body ended, and ends with the connection", async () => {
    const before = canceledWatches;
    const text = await door.raw(
      `POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n{"create_request":{"key":"Zm9v"}}`,
      "created",
    );
    expect(text).toContain(`{"result":{"header":${JSON.stringify(headerJson)},"created":true}}\n`);
    await settle(50);
    expect(canceledWatches).toBe(before + 1);
  });

  test("a failure before the first line has its status, after it is the last line", async () => {
    expect(await post("/v3/watch", `{"progress_request":{}}`)).toMatchObject({
      status: 503,
      json: { error: { code: 14, message: "etcdserver: no leader" } },
    });
    expect(await post("/v3/watch", `{"create_request":{}}{"progress_request":{}}`)).toMatchObject({
      status: 200,
      json: [{ result: { created: true } }, { error: { code: 14, message: "etcdserver: no leader" } }],
    });
    expect(await post("/v3/watch", `{"create_request":{}}`, { "grpc-timeout": "50m" })).toMatchObject({
      status: 200,
      json: [{ result: { created: true } }, { error: { code: 4, message: "context deadline exceeded" } }],
    });
  });

  test("a body that stops being JSON ends the stream with a word about it", async () => {
    expect(await post("/v3/watch", `{"create_request":{}} garbage`)).toMatchObject({
      status: 200,
      json: [
        { result: { created: true } },
        { error: { code: 3, message: "invalid character 'g' looking for beginning of value" } },
      ],
    });
    expect(await post("/v3/lease/keepalive", `{"ID":"99"}{"ID":"x"}`)).toMatchObject({
      json: [
        { result: { ID: "99" } },
        { error: { code: 3, message: `proto: (line 1:7): invalid value for int64 field ID: "x"` } },
      ],
    });
    expect(await post("/v3/watch", "garbage")).toMatchObject({ status: 400, json: { error: { code: 3 } } });
    expect(await post("/v3/maintenance/snapshot", "garbage")).toMatchObject({
      status: 400,
      json: { code: 3 },
    });
  });

  test("a stream with hasleader ends after three looks without one", async () => {
    const request = post("/v3/watch", `{"create_request":{}}`, { "Grpc-Metadata-Hasleader": "true" });
    await settle(30);
    leader = false;
    const answer = await request;
    leader = true;
    expect(answer.json).toMatchObject([
      { result: { created: true } },
      { error: { code: 14, message: "etcdserver: no leader" } },
    ]);
  });

  test("large answers of a stream keep their order", async () => {
    const { json } = await post("/v3/maintenance/snapshot", "");
    const lines = json as { result: { remaining_bytes?: string; blob: string } }[];
    expect(lines.map((line) => line.result.remaining_bytes)).toEqual(["2", "1", undefined]);
    expect(lines.map((line) => Buffer.from(line.result.blob, "base64")[39_999])).toEqual([0, 1, 2]);
  });

  test("a slow reader holds its service back instead of filling memory", async () => {
    const socket = await door.connect();
    socket.pause();
    const body = `{"create_request":{"watch_id":"99"}}`;
    socket.write(`POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await settle(300);
    const sent = watchSends;
    await settle(200);
    expect(watchSends).toBe(sent);
    // What the kernel's buffers of both sides take, and no more.
    expect(sent * 10_000).toBeLessThan(32 * 1024 * 1024);
    socket.resume();
    const goesOn = (): boolean => watchSends > sent;
    for (let looks = 0; looks < 400 && !goesOn(); looks++) await settle(10);
    expect(watchSends).toBeGreaterThan(sent);
    socket.destroy();
    while (door.gateway.counts().calls > 0) await settle(10);
  });

  test("stopping ends streams as unavailable and lets no call begin", async () => {
    const stopped = await runDoor(services);
    const request = fetch(`${stopped.url}/v3/watch`, { method: "POST", body: `{"create_request":{}}` });
    const response = await request;
    await stopped.gateway.stop();
    const lines = (await response.text()).trimEnd().split("\n");
    expect(JSON.parse(lines.at(-1)!)).toEqual({ error: { code: 14, message: "etcdserver: server stopped" } });
    expect((await fetch(`${stopped.url}/v3/kv/put`, { method: "POST" })).status).toBe(503);
    await stopped.close();
  });
});

describe("pieces of a large answer", () => {
  const same = (pieces: Iterable<string>, whole: string): void => {
    expect(JSON.parse([...pieces].join(""))).toEqual(JSON.parse(whole) as object);
  };

  test("say the same as the whole, at every depth", () => {
    const range = create(RangeResponseSchema, {
      header,
      kvs: Array.from({ length: 300 }, (_, i) =>
        create(KeyValueSchema, { key: Buffer.from(`k${i}`), value: new Uint8Array(400) }),
      ),
    });
    const txn = create(TxnResponseSchema, {
      succeeded: true,
      responses: [
        { response: { case: "responseRange", value: range } },
        { response: { case: "responsePut", value: create(PutResponseSchema, { header }) } },
      ] as never,
    });
    const encoded = new EncodedMessage([toBinary(TxnResponseSchema, txn)]);
    expect(jsonText(TxnResponseSchema, encoded)).toBeUndefined();
    same(jsonPieces(TxnResponseSchema, encoded), jsonText(TxnResponseSchema, txn)!);
    const leases = create(LeaseLeasesResponseSchema, {
      leases: Array.from({ length: 150 }, (_, i) => ({ ID: BigInt(i) })) as never,
    });
    same(jsonPieces(LeaseLeasesResponseSchema, leases), jsonText(LeaseLeasesResponseSchema, leases)!);
    same(
      jsonPieces(RangeResponseSchema, range),
      [...jsonPieces(RangeResponseSchema, new EncodedMessage([toBinary(RangeResponseSchema, range)]))].join(
        "",
      ),
    );
  });
});
