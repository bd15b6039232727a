import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { setTraps } from "../../test/sim/traps";
import { World } from "../../test/sim/world";
import { refuse } from "../errors";
import { committedUnappliedMax } from "../limits";
import {
  AlarmRequest_AlarmAction,
  AlarmType,
  PutRequestSchema,
  RangeRequestSchema,
  RequestOpSchema,
  type TxnRequest,
  TxnRequestSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

const encoder = new TextEncoder();

function put(key: string, value = "value", lease = 0n) {
  const request = create(PutRequestSchema, { key: encoder.encode(key), value: encoder.encode(value), lease });
  return { case: "put", value: request } as const;
}

function keys(member: Member): number {
  return member.state.range(
    create(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) }),
  ).count;
}

function grant(id: bigint, ttlSeconds: number) {
  const value = { $typeName: "etcdserverpb.LeaseGrantRequest", ID: id, TTL: BigInt(ttlSeconds) } as const;
  return { case: "leaseGrant", value } as const;
}

function alarm(action: AlarmRequest_AlarmAction, memberID: bigint, type: AlarmType) {
  const value = { $typeName: "etcdserverpb.AlarmRequest", action, memberID, alarm: type } as const;
  return { case: "alarm", value } as const;
}

function deleteAll() {
  const end = new Uint8Array(1);
  const value = {
    $typeName: "etcdserverpb.DeleteRangeRequest",
    key: end,
    rangeEnd: end,
    prevKv: false,
  } as const;
  return { case: "deleteRange", value } as const;
}

/** What becomes of a promise that may never settle. */
function outcomeOf(promise: Promise<unknown>): { error?: unknown; done: boolean } {
  const outcome: { error?: unknown; done: boolean } = { done: false };
  promise.then(
    () => {
      outcome.done = true;
    },
    (error: unknown) => {
      outcome.done = true;
      outcome.error = error;
    },
  );
  return outcome;
}

describe("a whole member reaches the world only through its ports", () => {
  let release = (): void => {};
  beforeAll(() => {
    release = setTraps();
  });
  afterAll(() => release());

  test("it starts, takes writes, reads linearizably, and stops, with real time and files trapped", () => {
    const world = new World();
    const member = world.start();
    expect(member.isLeader).toBeTrue();
    expect(member.revision).toBe(1);
    const result = world.clock.settle(member.write(put("a"), "put"));
    expect(result.revision).toBe(2);
    world.clock.settle(member.linearizable());
    expect(keys(member)).toBe(1);
    expect(member.state.members().map(({ name, clientURLs }) => [name, clientURLs])).toEqual([
      ["default", ["http://127.0.0.1:2379"]],
    ]);
    world.clock.settle(member.stop());
    expect(world.fatal).toEqual([]);
  });

  test("[P1] every acknowledged write survives a power cut at any time, and the revision never falls", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const world = new World(seed);
      let acknowledged = 0;
      let highest = 0;
      for (let life = 0; life < 4; life++) {
        const member = world.start();
        expect(member.revision).toBeGreaterThanOrEqual(highest);
        expect(keys(member)).toBeGreaterThanOrEqual(acknowledged);
        for (let i = 0; i < 30; i++) {
          const key = `${life}-${i}`;
          member.write(put(key), "put").then(
            ({ revision }) => {
              acknowledged++;
              highest = Math.max(highest, revision);
            },
            () => {},
          );
          if (i % 3 === seed % 3) world.clock.run((seed % 7) * 4);
        }
        world.clock.run(seed % 11);
        world.crash();
      }
      const member = world.start();
      expect(keys(member)).toBeGreaterThanOrEqual(acknowledged);
      expect(member.revision).toBeGreaterThanOrEqual(highest);
      expect(acknowledged).toBeGreaterThan(20);
      expect(world.fatal).toEqual([]);
    }
  }, 30_000);

  test("[R8] nothing is acknowledged, readable or watchable before the log is synced", () => {
    const world = new World();
    const member = world.start();
    const release = world.holdSyncs();
    let acknowledged = false;
    const written = member.write(put("a"), "put").then((result) => {
      acknowledged = true;
      return result;
    });
    world.clock.run(3_000);
    world.clock.settle(member.linearizable());
    expect(acknowledged).toBeFalse();
    expect(keys(member)).toBe(0);
    release();
    expect(world.clock.settle(written).revision).toBe(2);
    expect(keys(member)).toBe(1);
  });

  test("[P18] a write that waits too long is told that its outcome is unknown, and may still happen", () => {
    const world = new World();
    const member = world.start();
    const release = world.holdSyncs();
    const outcome = world.clock.settle(member.write(put("a")).catch((error: unknown) => error));
    expect(outcome).toMatchObject({ message: refuse("timeout").message, definite: false });
    expect(world.clock.monotonicMs()).toBeGreaterThan(member.requestTimeoutMs);
    release();
    world.clock.run(100);
    expect(keys(member)).toBe(1);
  });

  test("a failed sync ends the process, and acknowledges nothing", () => {
    const world = new World();
    const member = world.start();
    world.disk.failSyncs(1);
    let acknowledged = false;
    member.write(put("a")).then(
      () => {
        acknowledged = true;
      },
      () => {},
    );
    world.clock.run(1_000);
    expect(world.fatal).toHaveLength(1);
    expect(String(world.fatal[0])).toContain("LogFailedError");
    expect(acknowledged).toBeFalse();
  });

  test("[P15] a lease ends no sooner than its time after the last renewal, and its keys go in one revision", () => {
    const world = new World();
    const member = world.start();
    world.clock.settle(
      member.write({
        case: "leaseGrant",
        value: { $typeName: "etcdserverpb.LeaseGrantRequest", ID: 7n, TTL: 5n },
      }),
    );
    for (const key of ["a", "b", "c"]) world.clock.settle(member.write(put(key, "value", 7n)));
    const before = member.revision;
    for (let i = 0; i < 10; i++) {
      world.clock.run(4_000);
      expect(member.leases.renew(7n)).toBe(5);
    }
    world.clock.run(4_900);
    expect(keys(member)).toBe(3);
    world.clock.run(1_500);
    expect(keys(member)).toBe(0);
    expect(member.revision).toBe(before + 1);
    expect(member.state.lease(7n)).toBeUndefined();
  });

  test("after a restart a lease has its full time again, and still ends", () => {
    const world = new World();
    const first = world.start();
    world.clock.settle(
      first.write({
        case: "leaseGrant",
        value: { $typeName: "etcdserverpb.LeaseGrantRequest", ID: 7n, TTL: 5n },
      }),
    );
    world.clock.settle(first.write(put("a", "value", 7n)));
    world.clock.run(4_000);
    world.crash();
    const second = world.start();
    world.clock.run(4_900);
    expect(keys(second)).toBe(1);
    world.clock.run(3_000);
    expect(keys(second)).toBe(0);
  });

  test("over the quota, writes are refused and the alarm is raised; deletes still work", () => {
    const world = new World();
    const member = world.start({ quotaBytes: 200_000 });
    let refused: unknown;
    for (let i = 0; i < 400 && refused === undefined; i++) {
      try {
        world.clock.settle(member.write(put(`key-${i}`, "x".repeat(1_000))));
        world.clock.run(30);
      } catch (error) {
        refused = error;
      }
    }
    expect(String(refused)).toContain(refuse("noSpace").message);
    world.clock.run(1_000);
    expect(member.state.alarms().map(({ alarm }) => alarm)).toEqual([AlarmType.NOSPACE]);
    expect(() => world.clock.settle(member.write(put("tiny", "")))).toThrow(refuse("noSpace").message);
    world.clock.settle(
      member.write({
        case: "deleteRange",
        value: {
          $typeName: "etcdserverpb.DeleteRangeRequest",
          key: encoder.encode("key-0"),
          rangeEnd: new Uint8Array(0),
          prevKv: false,
        },
      }),
    );
  });

  test("a full disk refuses writes with a clear reason, reads go on, and space brings writes back", () => {
    const world = new World(3, { budgetBytes: 200 * 1024 ** 2 });
    // Nothing is cut, so that the log fills the disk.
    const member = world.start({ catchupEntries: 1_000_000 });
    let acknowledged = 0;
    let last: unknown;
    for (let i = 0; i < 400 && last === undefined; i++) {
      try {
        world.clock.settle(member.write(put(`key-${i}`, "x".repeat(1_000_000))));
        acknowledged++;
        world.clock.run(200);
      } catch (error) {
        last = error;
      }
    }
    expect(String(last)).toContain(refuse("noSpace").message);
    expect(world.fatal).toEqual([]);
    world.clock.settle(member.linearizable());
    expect(keys(member)).toBe(acknowledged);

    world.disk.budgetBytes *= 2;
    world.clock.run(3_000);
    world.clock.settle(
      member.write({
        case: "alarm",
        value: {
          $typeName: "etcdserverpb.AlarmRequest",
          action: AlarmRequest_AlarmAction.DEACTIVATE,
          memberID: member.id,
          alarm: AlarmType.NOSPACE,
        },
      }),
    );
    world.clock.settle(member.write(put("after")));
    expect(keys(member)).toBe(acknowledged + 1);
  }, 20_000);

  test("a stop in the moment when the log has room again ends in good order", () => {
    const world = new World();
    const member = world.start({ logSegmentBytes: 16 * 1024 });
    world.disk.budgetBytes = world.disk.usedBytes;
    // Several batches wait for the disk when it turns out to be full.
    const write = world.holdSyncs();
    for (let i = 0; i < 8; i++) {
      member.write(put(`key-${i}`, "x".repeat(10_000))).catch(() => {});
      world.clock.run(5);
    }
    write();
    world.clock.run(50);
    expect(world.logged.map(({ message }) => message)).toContainEqual(
      expect.stringContaining("the disk of the log is full"),
    );
    world.disk.budgetBytes = Number.POSITIVE_INFINITY;
    const release = world.holdSyncs();
    world.clock.run(1_100);
    const stopping = member.stop();
    world.clock.run(10);
    release();
    world.clock.settle(stopping);
    expect(world.fatal).toEqual([]);
  });

  test("[P1] entries that are durable but not known to be committed survive, however many they are", () => {
    const world = new World();
    // One segment for all of it: a new one would wait for a sync that nobody hears of.
    const member = world.start({ logSegmentBytes: 64 * 1024 ** 2 });
    world.muteSyncs();
    for (let i = 0; i < 30; i++) member.write(put(`key-${i}`, "x".repeat(1_000_000))).catch(() => {});
    world.clock.run(1_000);
    expect(keys(member)).toBe(0);
    world.crash();
    expect(keys(world.start())).toBe(30);
    expect(world.fatal).toEqual([]);
  });

  test("a txn as deep as the wire lets in survives the replay of the log", () => {
    const world = new World();
    const member = world.start();
    let txn = create(TxnRequestSchema, { compare: [{ key: encoder.encode("absent") }] });
    const readable = (request: TxnRequest): boolean => {
      try {
        fromBinary(TxnRequestSchema, toBinary(TxnRequestSchema, request));
        return true;
      } catch {
        return false;
      }
    };
    for (let deeper = txn; readable(deeper);) {
      txn = deeper;
      deeper = create(TxnRequestSchema, { success: [{ request: { case: "requestTxn", value: txn } }] });
    }
    txn.success.push(
      create(RequestOpSchema, { request: { case: "requestPut", value: put("beside").value } }),
    );
    world.clock.settle(member.write({ case: "txn", value: txn }));
    world.crash();
    expect(keys(world.start())).toBe(1);
  });

  test("the log is cut behind checkpoints, and a restart still finds everything", () => {
    const world = new World();
    const first = world.start();
    for (let i = 0; i < 200; i++) world.clock.settle(first.write(put(`key-${i}`)));
    world.clock.run(70_000);
    world.crash();
    const second = world.start();
    expect(keys(second)).toBe(200);
    expect(second.revision).toBe(201);
  });

  test("a lease that ends while too much waits for apply is revoked later, and the member goes on", () => {
    const world = new World();
    const member = world.start();
    world.clock.settle(member.write(grant(7n, 5)));
    world.clock.settle(member.write(put("a", "value", 7n)));
    const release = world.holdApply();
    for (let i = 0; i <= committedUnappliedMax; i++) member.write(put("b")).catch(() => {});
    world.clock.run(6_000);
    expect(world.logged.map(({ message }) => message)).toContain("an internal proposal failed");
    release();
    world.clock.run(5_000);
    expect(member.state.lease(7n)).toBeUndefined();
    expect(keys(member)).toBe(1);
    expect(world.fatal).toEqual([]);
  });

  test("a member that cannot make itself known tries again now and then, and still stops", () => {
    const world = new World();
    const member = world.open({ requestBytesMax: 8 });
    const ready = outcomeOf(member.ready());
    world.clock.run(3_000);
    const tries = world.logged.filter(({ message }) => message === "could not publish this member yet");
    expect(tries.length).toBeGreaterThan(2);
    expect(tries.length).toBeLessThan(10);
    world.clock.settle(member.stop());
    world.clock.run(1_000);
    expect(ready).toMatchObject({ done: true, error: { message: refuse("stopped").message } });
  });

  test("files that a crash left in the middle of their use are removed at the start", () => {
    const world = new World();
    const left = ["snapshot-1.tmp", "snapshot-1.tmp-wal", "snapshot-12.tmp-shm"];
    for (const name of [...left, "snapshot-1.tmp.mine"]) {
      world.disk.open(`/data/${name}`, "create").close();
    }
    const member = world.start();
    const names = world.disk.list("/data");
    for (const name of left) expect(names).not.toContain(name);
    expect(names).toContain("snapshot-1.tmp.mine");
    expect(member.scratchPath()).toBe("/data/snapshot-1.tmp");
  });

  test("a lease is renewed without a write, also after a restart", () => {
    const world = new World();
    world.clock.settle(world.start().write(grant(7n, 5)));
    world.crash();
    expect(world.start().leases.renew(7n)).toBe(5);
  });

  test("an alarm that was lowered without making room is raised again by the next write", () => {
    const world = new World();
    const member = world.start({ quotaBytes: 100_000 });
    const refused = (value: string) =>
      expect(() => world.clock.settle(member.write(put("a", value)))).toThrow(refuse("noSpace").message);
    const { ACTIVATE, DEACTIVATE } = AlarmRequest_AlarmAction;
    const raised = () => member.state.alarms().map(({ alarm: type }) => type);
    refused("x".repeat(200_000));
    world.clock.run(100);
    expect(raised()).toEqual([AlarmType.NOSPACE]);
    world.clock.settle(member.write(alarm(DEACTIVATE, member.id, AlarmType.NOSPACE)));
    refused("x".repeat(200_000));
    world.clock.run(100);
    expect(raised()).toEqual([AlarmType.NOSPACE]);
    world.clock.settle(member.write(alarm(ACTIVATE, 5n, AlarmType.CORRUPT)));
    expect(member.activeAlarm()).toBe("corrupt");
  });

  test("an alarm of an unknown type stands in nobody's way", () => {
    const world = new World();
    const member = world.start();
    const unknown = 99 as AlarmType;
    world.clock.settle(member.write(alarm(AlarmRequest_AlarmAction.ACTIVATE, 5n, unknown)));
    expect(member.state.alarms().map(({ alarm: type }) => type)).toEqual([unknown]);
    expect(member.activeAlarm()).toBeUndefined();
    world.clock.settle(member.write(put("a")));
  });

  test("who waits for a compaction, a defragmentation or a long delete learns that the member stops", () => {
    const world = new World();
    const member = world.start();
    for (let i = 0; i < 3_000; i++) member.write(put(`key-${i}`)).catch(() => {});
    world.clock.run(100);
    member.state.pin(1);
    const revision = BigInt(member.revision);
    const value = { $typeName: "etcdserverpb.CompactionRequest", revision, physical: true } as const;
    world.clock.settle(member.write({ case: "compaction", value }));
    const deleted = outcomeOf(member.write(deleteAll()));
    while (!member.state.pending) world.clock.run(0.001);
    const waiting = [
      outcomeOf(member.housekeeping.compactionFinished()),
      outcomeOf(member.housekeeping.defragment()),
      deleted,
    ];
    world.clock.settle(member.stop());
    const stopped = { done: true, error: { message: refuse("stopped").message, definite: false } };
    for (const outcome of waiting) expect(outcome).toMatchObject(stopped);
    expect(world.fatal).toEqual([]);
  });

  test("a commit that fails while a snapshot is taken ends the process", () => {
    const world = new World();
    const member = world.start();
    world.clock.run(1_000);
    const taken = () => member.housekeeping.takeSnapshotFile("/data/copy");
    expect(world.clock.settle(taken()).appliedIndex).toBe(member.state.appliedIndex);
    expect(() => world.clock.settle(taken())).toThrow("EEXIST");
    expect(world.fatal).toEqual([]);
    spyOn(member.state, "flush").mockImplementation(() => {
      throw new Error("database or disk is full");
    });
    expect(() => world.clock.settle(taken())).toThrow("disk is full");
    expect(world.fatal.map(String)).toEqual(["Error: database or disk is full"]);
  });
});
