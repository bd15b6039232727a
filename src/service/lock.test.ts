import { beforeEach, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { GrpcCode, refuse, StoreError } from "../errors";
import { LockRequestSchema, UnlockRequestSchema } from "../proto/gen/etcd/lock_pb";
import { FakeBackend, FakeCall, turn } from "./fake-backend";
import { LockService } from "./lock";
import { keyRequest } from "./queue";

let backend: FakeBackend;
let service: LockService;

beforeEach(() => {
  backend = new FakeBackend();
  service = new LockService(backend, backend);
});

/** Starts a lock call and records how it ends. */
function lock(lease: bigint, call = new FakeCall(), name = "n") {
  const outcome: { key?: string; revision?: bigint; error?: StoreError } = {};
  const done = service.lock(create(LockRequestSchema, { name: Buffer.from(name), lease }), call).then(
    ({ key, header }) => {
      outcome.key = Buffer.from(key).toString();
      outcome.revision = header!.revision;
    },
    (error: StoreError) => {
      outcome.error = error;
    },
  );
  return { outcome, done, call };
}

function unlock(key: string) {
  return service.unlock(create(UnlockRequestSchema, { key: Buffer.from(key) }), new FakeCall());
}

test("a free lock is granted at once, its key bound to the lease in lower-case hex", async () => {
  const first = lock(backend.lease(0xabcdef0123n));
  await first.done;
  expect(first.outcome).toEqual({ key: "n/abcdef0123", revision: 2n });
  const found = await backend.range(keyRequest(Buffer.from("n/abcdef0123")));
  const kv = found.kvs[0]!;
  expect([kv.lease, kv.value.length]).toEqual([0xabcdef0123n, 0]);
});

test("waiters get the lock in order of their create revision", async () => {
  const holders = [];
  const order: number[] = [];
  for (let i = 1; i <= 5; i++) {
    const holder = lock(backend.lease(BigInt(i)));
    void holder.done.then(() => order.push(i));
    holders.push(holder);
    await turn();
  }
  expect(order).toEqual([1]);
  for (let i = 1; i < 5; i++) {
    await unlock(`n/${i}`);
    await turn();
    expect(order).toEqual(Array.from({ length: i + 1 }, (_, at) => at + 1));
  }
  expect(backend.hub.stats).toMatchObject({ streams: 0, watchers: 0 });
  expect(backend.listeners).toBe(0);
});

test("a waiter waits for every older key, also when the newest of them goes first", async () => {
  await lock(backend.lease(1n)).done;
  const second = lock(backend.lease(2n));
  await turn();
  const third = lock(backend.lease(3n));
  await turn();
  backend.remove("n/2");
  await turn();
  expect(third.outcome).toEqual({});
  expect(second.outcome.error?.message).toBe("mutex: session is expired");
  backend.remove("n/1");
  await turn();
  expect(third.outcome).toMatchObject({ key: "n/3" });
});

test("the holder's second call with the same lease returns at once", async () => {
  await lock(backend.lease(1n)).done;
  const again = lock(1n);
  await again.done;
  expect(again.outcome).toEqual({ key: "n/1", revision: 2n });
});

test("locks of other names do not wait for each other", async () => {
  await lock(backend.lease(1n)).done;
  const other = lock(backend.lease(2n), new FakeCall(), "n2");
  await other.done;
  expect(other.outcome.key).toBe("n2/2");
});

test("without a lease the server makes one of 60 s", async () => {
  const ttls: bigint[] = [];
  const grant = backend.leaseGrant.bind(backend);
  backend.leaseGrant = (request) => {
    ttls.push(request.TTL);
    return grant(request);
  };
  const holder = lock(0n);
  await holder.done;
  expect(ttls).toEqual([60n]);
  expect(holder.outcome.key).toBe("n/1001");
});

test("cancellation removes the own key and lets the next one pass", async () => {
  await lock(backend.lease(1n)).done;
  const second = lock(backend.lease(2n));
  await turn();
  const third = lock(backend.lease(3n));
  await turn();
  second.call.cancel();
  await turn();
  expect(second.outcome.error?.code).toBe(GrpcCode.canceled);
  expect(backend.keys).toEqual(["n/1", "n/3"]);
  backend.remove("n/1");
  await turn();
  expect(third.outcome.key).toBe("n/3");
  expect(backend.hub.stats).toMatchObject({ streams: 0, watchers: 0 });
});

test("a caller that left while its key went in does not hold the lock", async () => {
  const call = new FakeCall();
  backend.before = (operation) => {
    if (operation === "txn" && !call.canceled) call.cancel();
  };
  const holder = lock(backend.lease(1n), call);
  await holder.done;
  expect(holder.outcome.error?.code).toBe(GrpcCode.canceled);
  expect(backend.keys).toEqual([]);
});

test("a stopping member ends waiting with Unavailable", async () => {
  await lock(backend.lease(1n)).done;
  const second = lock(backend.lease(2n));
  await turn();
  backend.stop();
  await second.done;
  expect(second.outcome.error).toMatchObject({
    code: GrpcCode.unavailable,
    message: "etcdserver: server stopped",
  });
});

test("a waiter whose lease ends is told, and never gets the lock (#11456)", async () => {
  await lock(backend.lease(1n)).done;
  const second = lock(backend.lease(2n));
  await turn();
  backend.revoke(2n);
  await turn();
  expect(second.outcome.error).toMatchObject({
    code: GrpcCode.unknown,
    message: "mutex: session is expired",
  });
});

test("a waiter whose key was taken by a later session is told, and never gets the lock (#11456)", async () => {
  await lock(backend.lease(1n)).done;
  const second = lock(backend.lease(2n));
  await turn();
  let ranges = 0;
  backend.before = (operation) => {
    // Between the last look at older keys and the look at the own one, the key is replaced.
    if (operation !== "range" || ++ranges !== 2) return;
    backend.revoke(2n);
    backend.put("n/2", "", backend.lease(2n));
  };
  backend.remove("n/1");
  await second.done;
  expect(second.outcome.error?.message).toBe("mutex: session is expired");
});

test("a predecessor that goes between the look and the watch is not missed", async () => {
  await lock(backend.lease(1n)).done;
  let ranges = 0;
  const original = backend.range.bind(backend);
  backend.range = async (request) => {
    const answer = await original(request);
    if (++ranges === 1) backend.remove("n/1");
    return answer;
  };
  const second = lock(backend.lease(2n));
  await turn();
  expect(second.outcome.key).toBe("n/2");
});

test("a compaction between the look and the watch makes the waiter look again", async () => {
  await lock(backend.lease(1n)).done;
  let ranges = 0;
  const original = backend.range.bind(backend);
  backend.range = async (request) => {
    const answer = await original(request);
    if (++ranges === 1) {
      backend.remove("n/1");
      for (let i = 0; i < 5; i++) backend.put("other", String(i));
      backend.store.compact(backend.store.revision);
      backend.hub.compacted(backend.store.revision);
    }
    return answer;
  };
  const second = lock(backend.lease(2n));
  await turn();
  expect(second.outcome.key).toBe("n/2");
});

test("inner refusals keep their text and become Unknown; losing the leader stays Unavailable", async () => {
  const unknownLease = lock(99n);
  await unknownLease.done;
  expect(unknownLease.outcome.error).toMatchObject({
    code: GrpcCode.unknown,
    message: "etcdserver: requested lease not found",
  });
  backend.before = () => {
    throw refuse("noLeader");
  };
  const leaderless = lock(backend.lease(1n));
  await leaderless.done;
  expect(leaderless.outcome.error).toMatchObject({ code: GrpcCode.unavailable });
});

test("unlock deletes the key, forgives an unknown one, refuses an empty one", async () => {
  await lock(backend.lease(1n)).done;
  expect((await unlock("n/1")).header!.revision).toBe(3n);
  expect((await unlock("n/1")).header!.revision).toBe(3n);
  expect(backend.keys).toEqual([]);
  const refused = unlock("").catch((error: unknown) => error);
  expect(await refused).toMatchObject({
    code: GrpcCode.unknown,
    message: "etcdserver: key is not provided",
  });
});
