/** Probes 1 to 25: keys, transactions, compaction, leases. */
import { expect } from "bun:test";
import {
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  KV,
  Lease,
  RangeRequest_SortTarget as SortTarget,
} from "../../src/proto/gen/etcd/rpc_pb";
import { refusal, statusOfReply } from "../tools/grpc-client";

import { type Op, type Probe, utf8 } from "./probe-context";

export const kvProbes: readonly Probe[] = [
  {
    number: 1,
    title: "a fresh store is at revision 1 and holds nothing",
    async run({ client }) {
      const range = await client.call(KV.method.range, { key: utf8("a") });
      expect(range.header?.revision).toBe(1n);
      expect(range.kvs).toEqual([]);
      expect(range.count).toBe(0n);
      expect(range.header?.clusterId).not.toBe(0n);
      expect(range.header?.memberId).not.toBe(0n);
      expect(range.header?.raftTerm).toBeGreaterThan(0n);
    },
  },
  {
    number: 2,
    title: "the first put is revision 2 and creates version 1",
    async run({ client }) {
      const put = await client.call(KV.method.put, { key: utf8("a"), value: utf8("1") });
      expect(put.header?.revision).toBe(2n);
      const { kvs } = await client.call(KV.method.range, { key: utf8("a") });
      expect(kvs).toMatchObject([{ createRevision: 2n, modRevision: 2n, version: 1n, lease: 0n }]);
    },
  },
  {
    number: 3,
    title: "a put of the same bytes is a new revision and a new version",
    async run({ client }) {
      const put = await client.call(KV.method.put, { key: utf8("a"), value: utf8("1") });
      expect(put.header?.revision).toBe(3n);
      const { kvs } = await client.call(KV.method.range, { key: utf8("a") });
      expect(kvs).toMatchObject([{ createRevision: 2n, modRevision: 3n, version: 2n }]);
    },
  },
  {
    number: 4,
    title: "deleting a missing key deletes 0 and leaves the revision",
    async run(probe) {
      const before = await probe.revision();
      const answer = await probe.client.call(KV.method.deleteRange, { key: probe.key("missing") });
      expect(answer.deleted).toBe(0n);
      expect(answer.header?.revision).toBe(before);
    },
  },
  {
    number: 5,
    title: "two puts of one txn share one revision",
    async run(probe) {
      const before = await probe.revision();
      const txn = await probe.client.call(KV.method.txn, { success: [probe.putOp("x"), probe.putOp("y")] });
      expect(txn.succeeded).toBe(true);
      expect(txn.header?.revision).toBe(before + 1n);
      const { kvs } = await probe.client.call(KV.method.range, probe.all);
      expect(kvs.map((kv) => kv.modRevision)).toEqual([before + 1n, before + 1n]);
    },
  },
  {
    number: 6,
    title: "a txn that only reads leaves the revision",
    async run(probe) {
      const before = await probe.revision();
      const txn = await probe.client.call(KV.method.txn, { success: [probe.rangeOp("x")] });
      expect(txn.succeeded).toBe(true);
      expect(txn.header?.revision).toBe(before);
      expect(txn.responses[0]?.response.value?.header).toMatchObject({ revision: before, memberId: 0n });
    },
  },
  {
    number: 7,
    title: "one key put twice in a txn is refused",
    async run(probe) {
      const reply = await probe.client.unary(KV.method.txn, {
        success: [probe.putOp("a"), probe.putOp("a")],
      });
      expect(statusOfReply(reply)).toEqual(refusal("duplicateKey"));
    },
  },
  {
    number: 8,
    title: "a txn takes 128 operations and not 129",
    async run(probe) {
      const ops = Array.from({ length: 129 }, (_, index) => probe.putOp(`k${index}`));
      const refused = await probe.client.unary(KV.method.txn, { success: ops });
      expect(statusOfReply(refused)).toEqual(refusal("tooManyOps"));
      expect((await probe.client.call(KV.method.range, probe.all)).count).toBe(0n);
      await probe.client.call(KV.method.txn, { success: ops.slice(1) });
      expect((await probe.client.call(KV.method.range, probe.all)).count).toBe(128n);
    },
  },
  {
    number: 9,
    title: "a nested txn has what its parent leaves over: 28 beside 100, not 29",
    async run(probe) {
      const nested = (count: number): Op[] => [
        ...Array.from({ length: 99 }, () => probe.rangeOp("a")),
        {
          request: {
            case: "requestTxn",
            value: { success: Array.from({ length: count }, () => probe.rangeOp("b")) },
          },
        },
      ];
      expect(statusOfReply(await probe.client.unary(KV.method.txn, { success: nested(29) }))).toEqual(
        refusal("tooManyOps"),
      );
      await probe.client.call(KV.method.txn, { success: nested(28) });
    },
  },
  {
    number: 10,
    title: "a value compare on a missing key is false, even NOT_EQUAL",
    async run(probe) {
      const compare = [
        {
          key: probe.key("missing"),
          target: Target.VALUE,
          result: Result.NOT_EQUAL,
          targetUnion: { case: "value" as const, value: utf8("x") },
        },
      ];
      expect((await probe.client.call(KV.method.txn, { compare })).succeeded).toBe(false);
    },
  },
  {
    number: 11,
    title: "version 0 means that a key is missing",
    async run(probe) {
      const compare = [
        {
          key: probe.key("missing"),
          target: Target.VERSION,
          result: Result.EQUAL,
          targetUnion: { case: "version" as const, value: 0n },
        },
      ];
      expect((await probe.client.call(KV.method.txn, { compare })).succeeded).toBe(true);
    },
  },
  {
    number: 12,
    title: "a nested compare is decided before any operation runs",
    async run(probe) {
      const compare = [
        {
          key: probe.key("a"),
          target: Target.VALUE,
          result: Result.EQUAL,
          targetUnion: { case: "value" as const, value: utf8("1") },
        },
      ];
      const txn = await probe.client.call(KV.method.txn, {
        success: [probe.putOp("a", "1"), { request: { case: "requestTxn", value: { compare } } }],
      });
      const nested = txn.responses[1]?.response;
      expect(nested?.case).toBe("responseTxn");
      expect(nested?.case === "responseTxn" && nested.value.succeeded).toBe(false);
    },
  },
  {
    number: 13,
    title: "the compact revision itself can be read, the one below it not",
    async run(probe) {
      await probe.put("a", "1");
      const at = await probe.put("a", "2");
      await probe.put("a", "3");
      await probe.client.call(KV.method.compact, { revision: at, physical: true });
      const { kvs } = await probe.client.call(KV.method.range, { key: probe.key("a"), revision: at });
      expect(Buffer.from(kvs[0]?.value ?? []).toString()).toBe("2");
      const below = await probe.client.unary(KV.method.range, { key: probe.key("a"), revision: at - 1n });
      expect(statusOfReply(below)).toEqual(refusal("compacted"));
    },
  },
  {
    number: 14,
    title: "the same compaction twice is refused, and one in the future too",
    async run(probe) {
      const at = await probe.put("a");
      await probe.client.call(KV.method.compact, { revision: at });
      expect(statusOfReply(await probe.client.unary(KV.method.compact, { revision: at }))).toEqual(
        refusal("compacted"),
      );
      const future = await probe.client.unary(KV.method.compact, { revision: at + 1n });
      expect(statusOfReply(future)).toEqual(refusal("futureRev"));
    },
  },
  {
    number: 15,
    title: "a limit cuts the answer, says so, and counts all",
    async run(probe) {
      for (const name of ["1", "2", "3", "4", "5"]) await probe.put(name);
      const range = await probe.client.call(KV.method.range, { ...probe.all, limit: 2n });
      expect([range.kvs.length, range.more, range.count]).toEqual([2, true, 5n]);
    },
  },
  {
    number: 16,
    title: "a revision filter does not change the count",
    async run(probe) {
      let newest = 0n;
      for (const name of ["1", "2", "3", "4", "5"]) newest = await probe.put(name);
      const range = await probe.client.call(KV.method.range, { ...probe.all, minModRevision: newest });
      expect([range.kvs.length, range.more, range.count]).toEqual([1, false, 5n]);
    },
  },
  {
    number: 17,
    title: "count_only counts",
    async run(probe) {
      for (const name of ["1", "2", "3", "4", "5"]) await probe.put(name);
      const range = await probe.client.call(KV.method.range, { ...probe.all, countOnly: true });
      expect([range.kvs.length, range.more, range.count]).toEqual([0, false, 5n]);
    },
  },
  {
    number: 18,
    title: "a sort target without an order sorts upwards",
    async run(probe) {
      for (const name of ["1", "1", "1", "2", "3", "3"]) await probe.put(name);
      const range = await probe.client.call(KV.method.range, {
        ...probe.all,
        sortTarget: SortTarget.VERSION,
      });
      expect(range.kvs.map(({ version }) => version)).toEqual([1n, 2n, 3n]);
    },
  },
  {
    number: 19,
    title: "a value or a lease cannot be kept where there is no key",
    async run(probe) {
      for (const keep of [{ ignoreValue: true }, { ignoreLease: true }]) {
        const reply = await probe.client.unary(KV.method.put, { key: probe.key("missing"), ...keep });
        expect(statusOfReply(reply)).toEqual(refusal("keyNotFound"));
      }
    },
  },
  {
    number: 20,
    title: "a put under an unknown lease is refused",
    async run(probe) {
      const reply = await probe.client.unary(KV.method.put, { key: probe.key("a"), lease: 999n });
      expect(statusOfReply(reply)).toEqual(refusal("leaseNotFound"));
    },
  },
  {
    number: 21,
    title: "a lease of 0 s gets the smallest time there is, 2 s",
    async run({ client }) {
      const lease = await client.call(Lease.method.leaseGrant, { TTL: 0n });
      expect(lease.TTL).toBe(2n);
      expect(lease.ID).toBeGreaterThan(0n);
      await client.call(Lease.method.leaseRevoke, { ID: lease.ID });
    },
  },
  {
    number: 22,
    title: "a keep-alive of an unknown lease says 0 s and leaves the stream open",
    async run({ client }) {
      const call = client.stream(Lease.method.leaseKeepAlive);
      call.send({ ID: 4711n });
      expect(await call.next()).toMatchObject({ ID: 4711n, TTL: 0n });
      const lease = await client.call(Lease.method.leaseGrant, { TTL: 60n });
      call.send({ ID: lease.ID });
      expect(await call.next()).toMatchObject({ ID: lease.ID, TTL: 60n });
      call.halfClose();
      expect((await call.ended())?.code).toBe(0);
    },
  },
  {
    number: 23,
    title: "the time to live of an unknown lease is -1",
    async run({ client }) {
      const answer = await client.call(Lease.method.leaseTimeToLive, { ID: 4712n, keys: true });
      expect(answer).toMatchObject({ ID: 4712n, TTL: -1n, grantedTTL: 0n, keys: [] });
      expect(answer.header).toBeDefined();
    },
  },
  {
    number: 24,
    title: "a revoke deletes its keys in key order in one revision",
    async run(probe) {
      const lease = await probe.client.call(Lease.method.leaseGrant, { TTL: 60n });
      for (const name of ["c", "a", "b"]) await probe.put(name, "v", lease.ID);
      const watch = probe.watch();
      await probe.create(watch);
      await probe.client.call(Lease.method.leaseRevoke, { ID: lease.ID });
      const { events } = await watch.next();
      expect(events.map(({ type }) => type)).toEqual([1, 1, 1]);
      expect(
        events.map(({ kv }) =>
          Buffer.from(kv?.key ?? [])
            .toString()
            .slice(-1),
        ),
      ).toEqual(["a", "b", "c"]);
      expect(new Set(events.map(({ kv }) => kv?.modRevision)).size).toBe(1);
      watch.cancel();
    },
  },
  {
    number: 25,
    title: "a put without a lease takes the key off its lease",
    async run(probe) {
      const lease = await probe.client.call(Lease.method.leaseGrant, { TTL: 60n });
      await probe.put("a", "1", lease.ID);
      await probe.put("a", "2");
      await probe.client.call(Lease.method.leaseRevoke, { ID: lease.ID });
      expect((await probe.client.call(KV.method.range, probe.all)).count).toBe(1n);
    },
  },
];
