import { beforeEach, expect, test } from "bun:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { concatBytes } from "../bytes";
import { GrpcCode, refuse, StoreError } from "../errors";
import type { WatchCreateRequest } from "../proto/gen/etcd/rpc_pb";
import {
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponseSchema as OutputSchema,
  WatchResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import { EncodedMessage } from "../transport/call";
import { brief, createRequest } from "../watch/test-support";
import { FakeBackend, FakeCall, FakeStream, turn } from "./fake-backend";
import { WatchService } from "./watch";

let backend: FakeBackend;

beforeEach(() => {
  backend = new FakeBackend();
});

function open(capacity = Infinity) {
  const stream = new FakeStream<typeof WatchRequestSchema, typeof OutputSchema>(capacity);
  const call = new FakeCall();
  const done = new WatchService(backend).watch(stream, call).then(
    () => "ok",
    (error: StoreError) => `${error.code} ${error.message}`,
  );
  const ask = (requestUnion: WatchRequest["requestUnion"]) =>
    stream.push(create(WatchRequestSchema, { requestUnion }));
  return {
    stream,
    call,
    done,
    ask,
    create: (request: WatchCreateRequest) => ask({ case: "createRequest", value: request }),
    seen: async () => {
      await turn();
      return stream.sent.splice(0).map((answer) => {
        if (!(answer instanceof EncodedMessage)) throw new Error("not encoded");
        return brief(fromBinary(WatchResponseSchema, concatBytes(answer.chunks)));
      });
    },
  };
}

test("requests of one stream drive watchers, cancel and progress in order", async () => {
  const client = open();
  backend.put("a", "1");
  client.create(createRequest("a", { start: 1 }));
  client.create(createRequest("b"));
  expect(await client.seen()).toEqual(["#0 rev 2 created", "#1 rev 2 created", "#0 rev 2 a=1@2"]);
  backend.put("b", "1");
  client.ask({ case: "progressRequest", value: { $typeName: "etcdserverpb.WatchProgressRequest" } });
  client.ask({ case: undefined });
  client.ask({ case: "cancelRequest", value: { $typeName: "etcdserverpb.WatchCancelRequest", watchId: 1n } });
  expect(await client.seen()).toEqual(["#1 rev 3 b=1@3", "#-1 rev 3", "#1 rev 3 canceled"]);
});

test("a half-closed stream goes on receiving; cancel ends it and frees everything", async () => {
  const client = open();
  client.create(createRequest("a"));
  client.stream.halfClose();
  await client.seen();
  backend.put("a", "1");
  expect(await client.seen()).toEqual(["#0 rev 2 a=1@2"]);
  client.call.cancel();
  expect(await client.done).toBe(`${GrpcCode.canceled} etcdserver: watch canceled`);
  expect(backend.hub.stats).toMatchObject({ streams: 0, watchers: 0 });
  expect(backend.listeners).toBe(0);
});

test("a stopping member ends streams with Unavailable, those that open later too", async () => {
  const client = open();
  client.create(createRequest("a"));
  await turn();
  backend.stop();
  expect(await client.done).toBe(`${GrpcCode.unavailable} etcdserver: server stopped`);
  expect(await open().done).toBe(`${GrpcCode.unavailable} etcdserver: server stopped`);
  expect(backend.hub.stats.streams).toBe(0);
});

test("while the client does not read, no further request is taken and nothing piles up", async () => {
  const client = open(1);
  for (let i = 0; i < 100; i++) client.create(createRequest("a"));
  await turn();
  expect(client.stream.unread).toBe(99);
  expect(client.stream.sent).toHaveLength(1);
  for (let i = 0; i < 99; i++) {
    client.stream.drain();
    await turn();
  }
  expect(client.stream.sent).toHaveLength(100);
});

test("a slow client gets every event, in the end", async () => {
  const client = open(2);
  client.create(createRequest("a"));
  await turn();
  const seen: string[] = [];
  for (let i = 0; i < 200; i++) {
    backend.put("a", String(i));
    if (i % 20 !== 0) continue;
    seen.push(...(await client.seen()));
    client.stream.drain();
  }
  for (let i = 0; i < 5; i++) {
    seen.push(...(await client.seen()));
    client.stream.drain();
  }
  const values = seen.flatMap((line) => [...line.matchAll(/a=(\d+)@/g)].map((match) => Number(match[1])));
  expect(values).toEqual(Array.from({ length: 200 }, (_, i) => i));
});

test("a caller without permission is told in gRPC's words, and the stream goes on", async () => {
  const limited = Object.assign(backend, {
    refusal: (request: WatchCreateRequest) =>
      Buffer.from(request.key).toString() === "secret" ? refuse("permissionDenied") : undefined,
  });
  backend = limited;
  const client = open();
  client.create(createRequest("secret"));
  client.create(createRequest("open"));
  expect(await client.seen()).toEqual([
    '#-1 rev 1 created canceled "rpc error: code = PermissionDenied desc = etcdserver: permission denied"',
    "#0 rev 1 created",
  ]);
});

test("a request that cannot be read ends the stream with its error", async () => {
  const client = open();
  const stream = Object.assign(client.stream, {});
  Object.defineProperty(stream, "requests", {
    get: async function* () {
      yield create(WatchRequestSchema, {
        requestUnion: { case: "createRequest", value: createRequest("a") },
      });
      throw new StoreError(GrpcCode.internal, "bad frame");
    },
  });
  const done = new WatchService(backend).watch(stream, new FakeCall()).catch((error: StoreError) => error);
  expect(await done).toMatchObject({ code: GrpcCode.internal, message: "bad frame" });
  client.call.cancel();
  await client.done;
  expect(backend.hub.stats.streams).toBe(0);
});
