import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Database } from "bun:sqlite";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import {
  AlarmRequest_AlarmAction as Action,
  AlarmType,
  MemberSchema,
  RangeRequestSchema,
  TxnRequestSchema,
} from "../proto/gen/etcd/rpc_pb";
import { CommandSchema } from "../proto/gen/keelson/command_pb";
import { openStateDatabase } from "../storage/sqlite";
import { DamagedStateError } from "./damage";
import { StateMachine } from "./state-machine";
import { apply, bytes, compact, hashOf, put, rangeOf, remove, txn } from "./testing";

let database: Database;
let state: StateMachine;

beforeEach(() => {
  database = openStateDatabase(":memory:");
  state = StateMachine.open(database, { sliceKeys: 50 });
});
afterEach(() => database.close());

/** Loses what is not committed and starts again, without replaying. */
function crash(): void {
  if (database.inTransaction) database.run("ROLLBACK");
  state = StateMachine.open(database, { sliceKeys: 50 });
}

function get(key: string, revision = 0) {
  const [record] = state.range(rangeOf(key, "", { revision: BigInt(revision) })).records;
  return record === undefined ? undefined : fromBinary(KeyValueSchema, record);
}

describe("conformance probes (etcd-wire 12)", () => {
  test("1: a fresh store is at revision 1 and has no keys", () => {
    expect(state.range(rangeOf("a"))).toEqual({ revision: 1, count: 0, more: false, records: [] });
  });

  test("2, 3: the first put is revision 2, and the same bytes again are a new version", () => {
    expect(put(state, "a", "1")).toEqual({ kind: "put", revision: 2, version: 1, previous: undefined });
    expect(get("a")).toMatchObject({ createRevision: 2n, modRevision: 2n, version: 1n });
    put(state, "a", "1");
    expect(get("a")).toMatchObject({ createRevision: 2n, modRevision: 3n, version: 2n });
  });

  test("4: deleting a missing key moves nothing", () => {
    const applied = apply(state, { case: "deleteRange", value: { key: bytes("a") } });
    expect(applied.result).toEqual({ kind: "delete-range", revision: 1, deleted: 0, previous: [] });
    expect(applied.changes).toBeUndefined();
  });

  test("5, 6: a txn's writes share one revision; a txn that only reads moves none", () => {
    const puts = ["a", "b"].map((key) => ({
      request: { case: "requestPut" as const, value: { key: bytes(key) } },
    }));
    txn(state, { success: puts });
    expect([get("a")?.modRevision, get("b")?.modRevision]).toEqual([2n, 2n]);
    const read = { request: { case: "requestRange" as const, value: { key: bytes("a") } } };
    expect(txn(state, { success: [read] })).toMatchObject({ revision: 2, response: { succeeded: true } });
  });

  test("10, 11: of a missing key no value compare holds, and its version is 0", () => {
    const key = bytes("none");
    const differs = { key, target: 3, result: 3, targetUnion: { case: "value" as const, value: bytes("x") } };
    expect(txn(state, { compare: [differs] })).toMatchObject({ response: { succeeded: false } });
    const absent = { key, target: 0, result: 0, targetUnion: { case: "version" as const, value: 0n } };
    expect(txn(state, { compare: [absent] })).toMatchObject({ response: { succeeded: true } });
  });

  test("12: a nested txn's compare sees the state before the whole txn", () => {
    const one = { case: "value" as const, value: bytes("1") };
    const nested = { compare: [{ key: bytes("a"), target: 3, result: 0, targetUnion: one }] };
    const result = txn(state, {
      success: [
        { request: { case: "requestPut", value: { key: bytes("a"), value: bytes("1") } } },
        { request: { case: "requestTxn", value: nested } },
      ],
    });
    expect(result).toMatchObject({
      response: { responses: [{}, { response: { value: { succeeded: false } } }] },
    });
  });

  test("13, 14: the compacted revision itself is readable, one below is not; compacting it again is refused", () => {
    for (const value of ["1", "2", "3"]) put(state, "a", value);
    expect(compact(state, 3)).toEqual({ kind: "compaction", revision: 4, compactedRevision: 3 });
    expect(get("a", 3)?.version).toBe(2n);
    expect(() => get("a", 2)).toThrow("required revision has been compacted");
    expect(() => get("a", 5)).toThrow("future revision");
    expect(compact(state, 3)).toMatchObject({ kind: "refused", name: "compacted" });
    expect(compact(state, 9)).toMatchObject({ kind: "refused", name: "futureRev" });
  });

  test("15, 16, 17: count is blind to limit and filters; count_only never says more", () => {
    for (const key of ["k1", "k2", "k3", "k4", "k5"]) put(state, key);
    expect(state.range(rangeOf("k", "l", { limit: 2n }))).toMatchObject({ count: 5, more: true });
    const filtered = state.range(rangeOf("k", "l", { minModRevision: 6n }));
    expect([filtered.records.length, filtered.count, filtered.more]).toEqual([1, 5, false]);
    const counted = state.range(rangeOf("k", "l", { countOnly: true, limit: 2n }));
    expect(counted).toEqual({ revision: 6, count: 5, more: false, records: [] });
  });

  test("18: another sort target without an order sorts ascending", () => {
    for (const key of ["a", "a", "a", "b", "b", "c"]) put(state, key);
    const sorted = state.range(rangeOf("a", "z", { sortTarget: 1 }));
    expect(sorted.records.map((record) => fromBinary(KeyValueSchema, record).version)).toEqual([1n, 2n, 3n]);
    // A limit then cuts before the sort: of a and b, b is the one with the lower version.
    const cut = state.range(rangeOf("a", "z", { sortTarget: 1, limit: 1n }));
    expect(cut).toMatchObject({ count: 3, more: true });
    expect(fromBinary(KeyValueSchema, cut.records[0]!).key).toEqual(Buffer.from("b"));
  });

  test("19, 20: building on a missing key or an unknown lease is refused and writes nothing", () => {
    const value = { key: bytes("a"), ignoreValue: true };
    expect(apply(state, { case: "put", value }).result).toMatchObject({
      kind: "refused",
      name: "keyNotFound",
    });
    expect(put(state, "a", "v", 999n)).toMatchObject({ kind: "refused", name: "leaseNotFound" });
    expect(state.revision).toBe(1);
    expect(state.appliedIndex).toBe(2);
  });

  test("24, 25: a revoked lease takes its keys in key order and one revision; a detached key survives", () => {
    apply(state, { case: "leaseGrant", value: { ID: 7n, TTL: 60n } });
    for (const key of ["c", "a", "b", "free"]) put(state, key, "v", 7n);
    put(state, "free");
    const { result, changes } = apply(state, { case: "leaseRevoke", value: { id: 7n } });
    expect(result).toEqual({ kind: "lease-revoke", revision: 7, id: 7n, ignored: false, deleted: 3 });
    expect(changes?.changes.map(({ type, key }) => `${type} ${key}`)).toEqual([
      "delete a",
      "delete b",
      "delete c",
    ]);
    expect(get("free")?.lease).toBe(0n);
    expect(state.lease(7n)).toBeUndefined();
  });

  test("25: the many keys of a lease go in slices, in key order and one revision all the same", () => {
    const sliced = StateMachine.open(openStateDatabase(":memory:"), { sliceKeys: 10 });
    apply(sliced, { case: "leaseGrant", value: { ID: 7n, TTL: 60n } });
    const keys = Array.from({ length: 1_000 }, (_, i) => `key-${(i * 619) % 1_000}`);
    for (const key of keys) put(sliced, key, "v", 7n);
    const operation = { case: "leaseRevoke", value: { id: 7n } } as const;
    let slices = 1;
    let applied = sliced.apply(sliced.appliedIndex + 1, 1, create(CommandSchema, { version: 1, operation }));
    for (; applied.pending; slices++) applied = sliced.resume();
    expect(applied.changes!.changes.map(({ key }) => key)).toEqual(keys.toSorted());
    expect(applied.changes!.revision).toBe(1_002);
    expect(slices).toBeGreaterThan(100);
  });

  test("34: a delete's record has only key and mod revision", () => {
    put(state, "a");
    const { changes } = apply(state, { case: "deleteRange", value: { key: bytes("a") } });
    const record = create(KeyValueSchema, { key: bytes("a"), modRevision: 3n });
    expect(Buffer.from(changes!.changes[0]!.record)).toEqual(Buffer.from(toBinary(KeyValueSchema, record)));
  });
});

describe("transactions", () => {
  test("a range refused for its revision fails the whole txn before anything is written (#18667)", () => {
    for (const value of ["1", "2", "3"]) put(state, "a", value);
    compact(state, 4);
    for (const [revision, name] of [
      [2n, "compacted"],
      [-1n, "compacted"],
      [9n, "futureRev"],
    ] as const) {
      const result = txn(state, {
        success: [
          { request: { case: "requestPut", value: { key: bytes("b") } } },
          { request: { case: "requestRange", value: { key: bytes("a"), revision } } },
        ],
      });
      expect(result).toEqual({ kind: "refused", name, revision: 4 });
    }
    expect(get("b")).toBeUndefined();
  });

  test("a delete to the end followed by a put that builds on a deleted key is refused, not a crash", () => {
    put(state, "b", "old");
    const ops = (ignoreValue: boolean) => ({
      success: [
        {
          request: { case: "requestDeleteRange" as const, value: { key: bytes("a"), rangeEnd: bytes("\0") } },
        },
        { request: { case: "requestPut" as const, value: { key: bytes("b"), ignoreValue } } },
      ],
    });
    expect(txn(state, ops(true))).toMatchObject({ kind: "refused", name: "keyNotFound" });
    expect(get("b")?.version).toBe(1n);
    // Without building on it, both run in order, as on etcd.
    expect(txn(state, ops(false))).toMatchObject({ kind: "txn", revision: 3 });
    expect(get("b")).toMatchObject({ version: 1n, createRevision: 3n });
  });

  test("sub-answers carry only a revision: the old one before the first change, the new one after", () => {
    put(state, "a");
    const read = { request: { case: "requestRange" as const, value: { key: bytes("a") } } };
    const write = { request: { case: "requestPut" as const, value: { key: bytes("b") } } };
    const result = txn(state, { success: [read, write, read] });
    if (result.kind !== "txn") throw new Error("refused");
    const revisions = result.response.responses.map(({ response }) => {
      return response.case === undefined ? undefined : response.value.header?.revision;
    });
    expect(revisions).toEqual([2n, 3n, 3n]);
  });

  test("a read-only txn answers from published state while a long write is half done", () => {
    for (let i = 0; i < 300; i++) put(state, `k${String(i).padStart(3, "0")}`);
    const command = create(CommandSchema, {
      version: 1,
      operation: { case: "deleteRange", value: { key: bytes("k"), rangeEnd: bytes("l") } },
    });
    expect(state.apply(301, 1, command)).toEqual({ pending: true });
    const read = {
      request: { case: "requestRange" as const, value: { key: bytes("k"), rangeEnd: bytes("l") } },
    };
    const request = create(TxnRequestSchema, { success: [read] });
    const answer = state.readTxn(request).responses[0]!.response;
    expect(answer.case === "responseRange" ? answer.value.count : -1n).toBe(300n);
    expect(() => state.flush()).toThrow("no commit may fall inside an entry");
    expect(() => state.apply(302, 1, command)).toThrow("still being applied");
    let steps = 0;
    while (state.pending) {
      state.resume();
      steps++;
    }
    expect(steps).toBeGreaterThan(1);
    expect(state.range(rangeOf("k", "l"))).toMatchObject({ revision: 302, count: 0 });
  });
});

describe("alarms", () => {
  const raise = (alarm: AlarmType, action = Action.ACTIVATE) =>
    apply(state, { case: "alarm", value: { action, memberID: 5n, alarm } }).result;

  test("without space puts, grants and txns that may put are refused; deletes and compaction go on", () => {
    put(state, "a");
    expect(raise(AlarmType.NOSPACE)).toMatchObject({ alarms: [{ memberID: 5n, alarm: AlarmType.NOSPACE }] });
    expect(put(state, "b")).toMatchObject({ kind: "refused", name: "noSpace" });
    const grant = apply(state, { case: "leaseGrant", value: { ID: 1n, TTL: 5n } });
    expect(grant.result).toMatchObject({ kind: "refused", name: "noSpace" });
    const puts = { request: { case: "requestPut" as const, value: { key: bytes("b") } } };
    const nested = { request: { case: "requestTxn" as const, value: { failure: [puts] } } };
    expect(txn(state, { success: [nested] })).toMatchObject({ name: "noSpace" });
    expect(remove(state, "a")).toMatchObject({ deleted: 1 });
    expect(compact(state, 3)).toMatchObject({ kind: "compaction" });
    crash();
    // Nothing was flushed, so the alarm is gone with the rest; once flushed it stays.
    raise(AlarmType.NOSPACE);
    state.flush();
    crash();
    expect(put(state, "b")).toMatchObject({ name: "noSpace" });
    expect(raise(AlarmType.NOSPACE, Action.DEACTIVATE)).toMatchObject({ alarms: [{ memberID: 5n }] });
    expect(put(state, "b")).toMatchObject({ kind: "put" });
  });

  test("a corrupt cluster takes no writes at all, and says so before anything else", () => {
    raise(AlarmType.NOSPACE);
    raise(AlarmType.CORRUPT);
    for (const result of [put(state, "a"), remove(state, "a"), compact(state, 1), txn(state, {})]) {
      expect(result).toMatchObject({ kind: "refused", name: "corrupt" });
    }
    expect(state.range(rangeOf("a"))).toMatchObject({ count: 0 });
    expect(raise(AlarmType.NONE, Action.GET)).toMatchObject({ alarms: [{ alarm: 1 }, { alarm: 2 }] });
  });
});

describe("leases", () => {
  test("a deposed leader's expiry is ignored; a client's revoke counts in any term (#12528)", () => {
    apply(state, { case: "leaseGrant", value: { ID: 7n, TTL: 60n } });
    put(state, "a", "v", 7n);
    const stale = apply(state, { case: "leaseRevoke", value: { id: 7n, expiredInTerm: 1n } }, 2);
    expect(stale.result).toMatchObject({ ignored: true, deleted: 0 });
    expect(get("a")).toBeDefined();
    const timely = apply(state, { case: "leaseRevoke", value: { id: 7n, expiredInTerm: 2n } }, 2);
    expect(timely.result).toMatchObject({ ignored: false, deleted: 1 });
    const again = apply(state, { case: "leaseRevoke", value: { id: 7n } }, 3);
    expect(again.result).toMatchObject({ kind: "refused", name: "leaseNotFound" });
  });

  test("checkpointed rests and attached keys survive a restart, ids above 2^53 too", () => {
    const id = 0x7fff_ffff_ffff_fffen;
    apply(state, { case: "leaseGrant", value: { ID: id, TTL: 60n } });
    apply(state, { case: "leaseGrant", value: { ID: -5n, TTL: 60n } });
    put(state, "a", "v", id);
    put(state, "b", "v", -5n);
    const value = {
      checkpoints: [
        { ID: id, remainingTTL: 17n },
        { ID: 99n, remainingTTL: 1n },
      ],
    };
    apply(state, { case: "leaseCheckpoint", value });
    state.flush();
    crash();
    expect(state.lease(id)).toEqual({ id, grantedTtlSeconds: 60, remainingTtlSeconds: 17, keys: ["a"] });
    expect(state.lease(-5n)?.keys).toEqual(["b"]);
    expect(get("a")?.lease).toBe(id);
    expect(get("b")?.lease).toBe(-5n);
    apply(state, { case: "leaseCheckpoint", value: { checkpoints: [{ ID: id, remainingTTL: 0n }] } });
    expect(state.lease(id)?.remainingTtlSeconds).toBe(60);
  });

  test("an id in use and a TTL beyond the limit are refused", () => {
    const grant = (ID: bigint, TTL: bigint) =>
      apply(state, { case: "leaseGrant", value: { ID, TTL } }).result;
    expect(grant(1n, 5n)).toMatchObject({ kind: "lease-grant", ttlSeconds: 5 });
    expect(grant(1n, 5n)).toMatchObject({ name: "leaseExist" });
    expect(grant(2n, 9_000_000_001n)).toMatchObject({ name: "leaseTTLTooLarge" });
  });
});

describe("members", () => {
  const change = (
    type: "add-voter" | "add-learner" | "remove",
    memberId: bigint,
    peerURLs: string[] = [],
  ) => {
    const context =
      type === "remove" ? new Uint8Array(0) : toBinary(MemberSchema, create(MemberSchema, { peerURLs }));
    const applied = state.applyConfiguration(state.appliedIndex + 1, 1, { type, memberId, context });
    if (applied.pending) throw new Error("a change of membership is applied at once");
    return applied.result;
  };

  test("changes, publications and promotions add up, and survive a restart", () => {
    const [one, two] = [0xffff_ffff_ffff_fff1n, 2n];
    change("add-voter", one, ["http://one"]);
    change("add-learner", two, ["http://two"]);
    apply(state, {
      case: "publishMember",
      value: { memberId: two, name: "second", clientUrls: ["http://c"] },
    });
    // Changing addresses keeps the learner a learner (etcd #21736).
    apply(state, { case: "updateMember", value: { memberId: two, peerUrls: ["http://moved"] } });
    expect(state.configuration()).toEqual({ voters: [one], learners: [two] });
    change("add-voter", two);
    state.flush();
    crash();
    expect(state.members()).toMatchObject([
      { ID: two, name: "second", peerURLs: ["http://moved"], clientURLs: ["http://c"], isLearner: false },
      { ID: one, peerURLs: ["http://one"] },
    ]);
  });

  test("a removed member never comes back, whatever is still on its way", () => {
    change("add-voter", 1n);
    change("add-voter", 2n);
    change("remove", 1n);
    apply(state, { case: "publishMember", value: { memberId: 1n, name: "ghost", clientUrls: [] } });
    expect(change("add-voter", 1n)).toMatchObject({ kind: "refused", name: "memberNotFound" });
    expect(change("remove", 1n)).toMatchObject({ kind: "refused", name: "memberNotFound" });
    state.flush();
    crash();
    expect(state.members()).toMatchObject([{ ID: 2n }]);
    expect(state.isRemovedMember(1n)).toBe(true);
  });

  test("what consensus would ignore, and another member's peer URL, are refused and change nothing", () => {
    expect(change("add-voter", 1n, ["http://one"])).toMatchObject({ kind: "configuration" });
    change("add-learner", 2n, ["http://two"]);
    const before = state.members();
    const index = state.appliedIndex;
    const refused = [
      [change("add-voter", 3n, ["http://new", "http://two"]), "peerURLExist"],
      [change("add-learner", 3n, ["http://one"]), "peerURLExist"],
      [change("add-learner", 2n, ["http://moved"]), "memberExist"],
      [change("add-learner", 1n), "memberExist"],
      [change("add-voter", 1n), "memberExist"],
      [change("remove", 4n), "memberNotFound"],
      [change("remove", 1n), "memberNotEnoughStarted"],
    ] as const;
    for (const [result, name] of refused) expect(result).toMatchObject({ kind: "refused", name });
    expect(state.appliedIndex).toBe(index + refused.length);
    expect(state.members()).toEqual(before);
    expect(state.isRemovedMember(4n)).toBe(false);
    // A member may be added with a URL that another no longer has.
    apply(state, { case: "updateMember", value: { memberId: 2n, peerUrls: ["http://moved"] } });
    expect(change("add-learner", 3n, ["http://two"])).toMatchObject({ kind: "configuration" });
  });

  test("the cluster version is kept", () => {
    expect(state.clusterVersion).toBeUndefined();
    apply(state, { case: "clusterVersion", value: { version: "3.6.0" } });
    apply(state, { case: "clusterVersion", value: { version: "3.7.0" } });
    state.flush();
    crash();
    expect(state.clusterVersion).toBe("3.7.0");
  });
});

describe("commits", () => {
  test("each commit of rows is made by whoever times it, also one that the size of rows brings about", () => {
    let commits = 0;
    state.timeCommits((commit) => {
      const before = state.flushedIndex;
      commit();
      expect(state.flushedIndex).toBeGreaterThan(before);
      commits++;
    });
    put(state, "a", "1");
    state.flush();
    expect(commits).toBe(1);
    // Nothing to write, and a transaction of reads.
    state.flush();
    state.range(create(RangeRequestSchema, { key: bytes("a") }));
    state.flush();
    expect(commits).toBe(1);
    for (let i = 0; i < 5; i++) put(state, `large${i}`, "x".repeat(1_000_000));
    expect(commits).toBe(2);
    crash();
    expect(state.range(create(RangeRequestSchema, { key: bytes("a") })).count).toBe(1);
  });
});

describe("HashKV", () => {
  test("equals what etcd 3.6.16 answered for this history", () => {
    const hash = (revision = 0) => hashOf(state, revision).hash;
    expect(hash()).toBe(1084519789);
    put(state, "a", "1");
    put(state, "a", "2");
    put(state, "b", "");
    apply(state, { case: "leaseGrant", value: { ID: 7234567890123456789n, TTL: 1000n } });
    put(state, "leased", "x", 7234567890123456789n);
    expect([hash(), hash(3)]).toEqual([2151103621, 535221974]);
    txn(state, {
      success: [
        { request: { case: "requestPut", value: { key: bytes("t1"), value: bytes("v") } } },
        { request: { case: "requestPut", value: { key: bytes("t2"), value: bytes("w") } } },
        { request: { case: "requestDeleteRange", value: { key: bytes("a") } } },
      ],
    });
    remove(state, "b");
    expect(hash()).toBe(781807439);
    put(state, "a", "again");
    expect(hash()).toBe(384161020);
    compact(state, 8);
    expect(hash()).toBe(1502595524);
    remove(state, "t1", "t3");
    expect(hash()).toBe(226705010);
    // The tombstones at the compacted revision are kept, but not hashed.
    compact(state, 9);
    expect(hash()).toBe(1927817587);
    while (!state.compactionStep(2).done);
    expect(hash()).toBe(1927817587);
    apply(state, { case: "leaseRevoke", value: { id: 7234567890123456789n } });
    expect(hash()).toBe(3079176446);
    put(state, "z", "z".repeat(300));
    compact(state, 10);
    while (!state.compactionStep(2).done);
    expect(hashOf(state)).toEqual({ hash: 1084823248, compactRevision: 10, hashRevision: 11, revision: 11 });
    txn(state, {
      success: [
        { request: { case: "requestDeleteRange", value: { key: bytes("a"), rangeEnd: bytes("\0") } } },
        { request: { case: "requestPut", value: { key: bytes("b"), value: bytes("nb") } } },
      ],
    });
    expect(hash()).toBe(2909722237);
  });
});

describe("compaction", () => {
  test("rows that a pinned reader needs stay until it lets go", () => {
    for (let i = 0; i < 20; i++) put(state, "a", `${i}`);
    const reader = state.rangeSliced(rangeOf("a", "b", { revision: 5n }));
    compact(state, 15);
    const steps = () => {
      for (;;) {
        const step = state.compactionStep(3);
        if (step.done || step.waiting) return step;
      }
    };
    expect(steps()).toMatchObject({ done: false, waiting: true });
    expect(() => get("a", 5)).toThrow("compacted");
    const { records } = reader.next(10, 1000);
    expect(fromBinary(KeyValueSchema, records[0]!).modRevision).toBe(5n);
    reader.close();
    expect(steps()).toMatchObject({ done: true, waiting: false });
    const rows = database.query<{ n: number }, []>("SELECT count(*) AS n FROM revisions").get();
    expect(rows?.n).toBe(7);
    expect(state.compactionPending).toBe(false);
  });

  test("#17780: a crash between any two steps never lowers the revision nor undoes a compaction", () => {
    for (let i = 0; i < 30; i++) put(state, `k${i % 5}`, `${i}`);
    remove(state, "k", "l");
    const revision = state.revision;
    compact(state, revision);
    state.flush();
    for (let crashes = 0; ; crashes++) {
      crash();
      expect([state.revision, state.compactedRevision]).toEqual([revision, revision]);
      expect(state.range(rangeOf("k", "l"))).toMatchObject({ count: 0, revision });
      const { done } = state.compactionStep(4);
      // Every other crash loses the step, too.
      if (crashes % 2 === 0) state.flush();
      if (done && crashes % 2 === 0) break;
      expect(crashes).toBeLessThan(100);
    }
    crash();
    expect(state.compactionPending).toBe(false);
    expect(put(state, "k")).toMatchObject({ revision: revision + 1 });
  });

  test("#18089, #19179: a watch from the compacted revision sees the delete that happened there", () => {
    put(state, "a");
    remove(state, "a");
    put(state, "b");
    compact(state, 3);
    while (!state.compactionStep(10).done);
    const { revisions } = state.history.changes(3, 9, 10, 1000);
    expect(revisions.map(({ changes }) => changes.map(({ type, key }) => `${type} ${key}`))).toEqual([
      ["delete a"],
      ["put b"],
    ]);
    expect(() => state.history.changes(2, 9, 10, 1000)).toThrow("compacted");
    // The next compaction removes it.
    compact(state, 4);
    while (!state.compactionStep(10).done);
    const rows = database.query<{ n: number }, []>("SELECT count(*) AS n FROM revisions").get();
    expect(rows?.n).toBe(1);
  });

  test("space is given back in steps, and the file shrinks", () => {
    for (let i = 0; i < 400; i++) put(state, `k${i}`, "x".repeat(1000));
    state.flush();
    const before = state.sizes();
    remove(state, "k", "l");
    compact(state, state.revision);
    put(state, "last");
    compact(state, state.revision);
    while (!state.compactionStep(50).done);
    state.flush();
    expect(state.sizes().inUseBytes).toBeLessThan(before.totalBytes / 2);
    for (let steps = 0; !state.vacuumStep(10); steps++) expect(steps).toBeLessThan(100);
    state.flush();
    expect(state.sizes().totalBytes).toBeLessThan(before.totalBytes / 2);
    expect(state.sizes().keys).toBe(1);
  });
});

describe("restart", () => {
  test("#13766, #14685: after a crash at any entry the applied index, rows and hash belong together", () => {
    const operations = Array.from({ length: 40 }, (_, i) => () => {
      if (i % 7 === 3) return void remove(state, "a", "d");
      if (i % 11 === 5) return void compact(state, state.revision - 1);
      put(state, "abc"[i % 3]!, `${i}`);
      if (i % 5 === 0) state.compactionStep(3);
    });
    const expected: number[] = [];
    for (const operate of operations) {
      operate();
      expected.push(hashOf(state).hash);
    }
    for (let at = 0; at < operations.length; at++) {
      database.close();
      database = openStateDatabase(":memory:");
      state = StateMachine.open(database);
      for (let i = 0; i <= at; i++) {
        operations[i]!();
        if (i % 4 === 1) state.flush();
      }
      crash();
      expect(state.appliedIndex).toBe(state.flushedIndex);
      for (let i = state.appliedIndex; i < operations.length; i++) operations[i]!();
      expect(hashOf(state).hash).toBe(expected.at(-1)!);
    }
  });

  test("entries apply once and in order", () => {
    put(state, "a");
    const command = create(CommandSchema, {
      version: 1,
      operation: { case: "put", value: { key: bytes("a") } },
    });
    expect(() => state.apply(1, 1, command)).toThrow("does not follow");
    expect(() => state.apply(3, 1, command)).toThrow("does not follow");
  });

  test("an entry without a command moves only the applied index, and that is kept", () => {
    expect(state.apply(1, 4, undefined)).toEqual({
      pending: false,
      result: { kind: "nothing", revision: 1 },
      changes: undefined,
    });
    state.flush();
    crash();
    expect([state.appliedIndex, state.appliedTerm, state.revision]).toEqual([1, 4, 1]);
  });

  test("a command of a newer version stops the member with advice", () => {
    const command = create(CommandSchema, {
      version: 2,
      operation: { case: "put", value: { key: bytes("a") } },
    });
    expect(() => state.apply(1, 1, command)).toThrow("start a newer Keelson");
  });

  test.each([
    ["a flipped bit in a row", "UPDATE revisions SET record = record || x'00' WHERE sequence = 3"],
    ["a changed number in a row", "UPDATE revisions SET main = main + 1 WHERE sequence = 9"],
    ["a row that vanished", "DELETE FROM revisions WHERE sequence = 3"],
    [
      "a row that came back",
      "INSERT INTO revisions SELECT 90, main, sub, checksum, record FROM revisions LIMIT 1",
    ],
    ["a changed lease", "UPDATE leases SET granted_ttl_seconds = 5"],
    ["a lease that vanished", "DELETE FROM leases"],
    ["an older position", "UPDATE position SET applied_index = applied_index - 1"],
    ["another revision", "UPDATE position SET revision = 5"],
  ])("%s is detected at the start", (_, damage) => {
    apply(state, { case: "leaseGrant", value: { ID: 1n, TTL: 60n } });
    for (let i = 0; i < 9; i++) put(state, `k${i}`);
    state.flush();
    crash();
    database.run(damage);
    expect(() => StateMachine.open(database)).toThrow(DamagedStateError);
  });

  test("a bit that flips while the member runs is detected when the row is read", () => {
    for (let i = 0; i < 9; i++) put(state, `k${i}`);
    state.flush();
    crash();
    database.run("UPDATE revisions SET record = zeroblob(length(record)) WHERE sequence = 3");
    expect(() => get("k2")).toThrow("row 3 does not match its checksum");
    expect(get("k3")).toBeDefined();
  });
});

test("a transaction that SQLite gave up by itself stops the next write, and nothing is damaged", () => {
  put(state, "a");
  state.flush();
  put(state, "b");
  // As after an I/O error in any statement, one that only reads included.
  database.run("ROLLBACK");
  expect(() => put(state, "c")).toThrow("gave up the open transaction");
  expect(() => state.flush()).toThrow("gave up the open transaction");
  crash();
  expect([state.appliedIndex, state.revision]).toEqual([1, 2]);
  expect(get("a")?.modRevision).toBe(2n);
});
