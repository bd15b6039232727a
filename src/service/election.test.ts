import { beforeEach, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../errors";
import type { CampaignResponse, LeaderKey } from "../proto/gen/etcd/election_pb";
import {
  CampaignRequestSchema,
  LeaderKeySchema,
  LeaderRequestSchema,
  type LeaderResponse,
  type LeaderResponseSchema,
  ProclaimRequestSchema,
  ResignRequestSchema,
} from "../proto/gen/etcd/election_pb";
import { ElectionService } from "./election";
import { FakeBackend, FakeCall, FakeStream, turn } from "./fake-backend";

let backend: FakeBackend;
let service: ElectionService;

beforeEach(() => {
  backend = new FakeBackend();
  service = new ElectionService(backend, backend);
});

const name = Buffer.from("e");

function campaign(lease: bigint, value: string, call = new FakeCall()) {
  const outcome: { answer?: CampaignResponse; error?: StoreError } = {};
  const request = create(CampaignRequestSchema, { name, lease, value: Buffer.from(value) });
  const done = service.campaign(request, call).then(
    (answer) => {
      outcome.answer = answer;
    },
    (error: StoreError) => {
      outcome.error = error;
    },
  );
  return { outcome, done, call };
}

function proclaim(value: string, leader?: LeaderKey) {
  const request = create(ProclaimRequestSchema, {
    value: Buffer.from(value),
    ...(leader === undefined ? {} : { leader }),
  });
  return service.proclaim(request, new FakeCall());
}

function resign(leader?: LeaderKey) {
  return service.resign(create(ResignRequestSchema, leader === undefined ? {} : { leader }), new FakeCall());
}

async function leader(): Promise<string> {
  const answer = await service.leader(create(LeaderRequestSchema, { name }), new FakeCall());
  return `${Buffer.from(answer.kv!.key).toString()}=${Buffer.from(answer.kv!.value).toString()}`;
}

async function errorOf(work: Promise<unknown>): Promise<[number, string]> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof StoreError)) throw new Error("no refusal");
  return [error.code, error.message];
}

test("the first campaign leads, and is told its key, create revision and lease", async () => {
  const first = campaign(backend.lease(0xffn), "v1");
  await first.done;
  const { leader: key, header } = first.outcome.answer!;
  expect(Buffer.from(key!.key).toString()).toBe("e/ff");
  expect([key!.rev, key!.lease, Buffer.from(key!.name).toString()]).toEqual([2n, 0xffn, "e"]);
  expect(header!.revision).toBe(2n);
  expect(await leader()).toBe("e/ff=v1");
});

test("a later campaign waits until the leader resigns", async () => {
  const first = campaign(backend.lease(1n), "v1");
  await first.done;
  const second = campaign(backend.lease(2n), "v2");
  await turn();
  expect(second.outcome).toEqual({});
  await resign(first.outcome.answer!.leader!);
  await turn();
  expect(second.outcome.answer!.leader!.rev).toBe(3n);
  expect(await leader()).toBe("e/2=v2");
  expect(backend.hub.stats).toMatchObject({ streams: 0, watchers: 0 });
});

test("campaigning again with another value proclaims it", async () => {
  const first = campaign(backend.lease(1n), "v1");
  await first.done;
  const again = campaign(1n, "v2");
  await again.done;
  expect(again.outcome.answer!.leader!.rev).toBe(2n);
  expect(await leader()).toBe("e/1=v2");
});

test("a canceled campaign leaves no key; one whose lease ended is not told that it leads", async () => {
  await campaign(backend.lease(1n), "v1").done;
  const second = campaign(backend.lease(2n), "v2");
  const third = campaign(backend.lease(3n), "v3");
  await turn();
  second.call.cancel();
  backend.revoke(3n);
  await turn();
  expect(second.outcome.error?.code).toBe(GrpcCode.canceled);
  expect(third.outcome.error).toMatchObject({ code: GrpcCode.unknown, message: "election: not leader" });
  expect(backend.keys).toEqual(["e/1"]);
});

test("proclaim changes the value only while leading", async () => {
  const first = campaign(backend.lease(1n), "v1");
  await first.done;
  const key = first.outcome.answer!.leader!;
  expect((await proclaim("v2", key)).header!.revision).toBe(3n);
  expect(await leader()).toBe("e/1=v2");
  backend.revoke(1n);
  backend.lease(1n);
  expect(await errorOf(proclaim("v3", key))).toEqual([GrpcCode.unknown, "election: not leader"]);
});

test("resign is guarded, and silent when leadership is lost", async () => {
  const first = campaign(backend.lease(1n), "v1");
  await first.done;
  const key = first.outcome.answer!.leader!;
  await resign(create(LeaderKeySchema, { ...key, rev: 99n }));
  expect(await leader()).toBe("e/1=v1");
  await resign(key);
  await resign(key);
  expect(backend.keys).toEqual([]);
});

test("refusals carry etcd's texts with code Unknown", async () => {
  expect(await errorOf(leader())).toEqual([GrpcCode.unknown, "election: no leader"]);
  const missing = [GrpcCode.unknown, '"leader" field must be provided'] as [number, string];
  expect(await errorOf(proclaim("v"))).toEqual(missing);
  expect(await errorOf(resign())).toEqual(missing);
  expect(await errorOf(resign(create(LeaderKeySchema, {})))).toEqual([
    GrpcCode.unknown,
    "etcdserver: key is not provided",
  ]);
});

function observe(capacity = Infinity) {
  const stream = new FakeStream<typeof LeaderRequestSchema, typeof LeaderResponseSchema>(capacity);
  const call = new FakeCall();
  stream.push(create(LeaderRequestSchema, { name }));
  stream.halfClose();
  const done = errorOf(service.observe(stream, call));
  const seen = () =>
    stream.sent.map((answer) => {
      const { kv, header } = answer as LeaderResponse;
      return `${Buffer.from(kv!.key).toString()}=${Buffer.from(kv!.value).toString()}@${header!.revision}`;
    });
  return { stream, call, done, seen };
}

test("observe waits for a leader, then reports each value and each leader", async () => {
  const observer = observe();
  await turn();
  expect(observer.seen()).toEqual([]);
  const first = campaign(backend.lease(1n), "v1");
  await first.done;
  const second = campaign(backend.lease(2n), "w1");
  await turn();
  await proclaim("v2", first.outcome.answer!.leader!);
  await turn();
  await resign(first.outcome.answer!.leader!);
  await second.done;
  await turn();
  expect(observer.seen()).toEqual(["e/1=v1@2", "e/1=v2@4", "e/2=w1@5"]);
  observer.call.cancel();
  expect((await observer.done)[0]).toBe(GrpcCode.canceled);
  expect(backend.hub.stats).toMatchObject({ streams: 0, watchers: 0 });
  expect(backend.listeners).toBe(0);
});

test("observe starts with the present leader and waits for a slow reader without losing values", async () => {
  const first = campaign(backend.lease(1n), "v0");
  await first.done;
  const observer = observe(1);
  await turn();
  for (let i = 1; i <= 50; i++) await proclaim(`v${i}`, first.outcome.answer!.leader!);
  for (let i = 0; i <= 50; i++) {
    await turn();
    expect(observer.stream.sent).toHaveLength(i + 1);
    observer.stream.drain();
  }
  expect(observer.seen().map((line) => line.split("@")[0])).toEqual(
    Array.from({ length: 51 }, (_, i) => `e/1=v${i}`),
  );
  backend.stop();
  expect(await observer.done).toEqual([GrpcCode.unavailable, "etcdserver: server stopped"]);
});
