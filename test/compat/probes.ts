/**
 * The conformance probes of the etcd wire contract, by their numbers there. Each works on its own keys, so that all
 * can share one server; the first three need it fresh. Not here: 35 needs a member without quorum, and 39 to 41 need
 * the auth store.
 */
import { createHash } from "node:crypto";
import { expect } from "bun:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  AlarmType,
  Cluster,
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  KV,
  Lease,
  Maintenance,
  RangeRequest_SortTarget as SortTarget,
  Watch,
  WatchCreateRequest_FilterType as Filter,
  type RequestOpSchema,
  type WatchCreateRequestSchema,
  type WatchResponse,
} from "../../src/proto/gen/etcd/rpc_pb";
import { Health } from "../../src/proto/gen/grpc/health_pb";
import { frame, refusal, statusOfReply, type GrpcClient, type StreamCall } from "../tools/grpc-client";
import type { Server } from "../tools/server";

export interface Probe {
  /** As in the contract. */
  readonly number: number;
  readonly title: string;
  run(probe: Context): Promise<void>;
}

const utf8 = (text: string): Uint8Array => Buffer.from(text);
type Op = MessageInitShape<typeof RequestOpSchema>;
type WatchCall = StreamCall<typeof Watch.method.watch.input, typeof Watch.method.watch.output>;

/** What a probe works with: one server, and keys under a prefix of its own. */
export class Context {
  constructor(
    readonly server: Server,
    readonly client: GrpcClient,
    readonly prefix: string,
  ) {}

  key(name: string): Uint8Array {
    return utf8(`${this.prefix}/${name}`);
  }

  get all(): { key: Uint8Array; rangeEnd: Uint8Array } {
    return { key: utf8(`${this.prefix}/`), rangeEnd: utf8(`${this.prefix}0`) };
  }

  async put(name: string, value = "v", lease = 0n): Promise<bigint> {
    const answer = await this.client.call(KV.method.put, { key: this.key(name), value: utf8(value), lease });
    return answer.header?.revision ?? 0n;
  }

  async revision(): Promise<bigint> {
    const answer = await this.client.call(KV.method.range, { key: utf8("\0"), countOnly: true });
    return answer.header?.revision ?? 0n;
  }

  putOp(name: string, value = "v"): Op {
    return { request: { case: "requestPut", value: { key: this.key(name), value: utf8(value) } } };
  }

  rangeOp(name: string): Op {
    return { request: { case: "requestRange", value: { key: this.key(name) } } };
  }

  watch(): WatchCall {
    return this.client.stream(Watch.method.watch);
  }

  create(
    call: WatchCall,
    request: MessageInitShape<typeof WatchCreateRequestSchema> = {},
  ): Promise<WatchResponse> {
    call.send({ requestUnion: { case: "createRequest", value: { ...this.all, ...request } } });
    return call.next();
  }

  async post(
    path: string,
    body: unknown,
    verb = "POST",
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const answer = await fetch(this.server.url + path, {
      method: verb,
      ...(verb === "POST" ? { body: JSON.stringify(body) } : {}),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

export const probes: readonly Probe[] = [
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
  {
    number: 26,
    title: "watchers without an id are numbered from 0",
    async run(probe) {
      const watch = probe.watch();
      expect(await probe.create(watch)).toMatchObject({ created: true, watchId: 0n });
      expect(await probe.create(watch)).toMatchObject({ created: true, watchId: 1n });
      watch.cancel();
    },
  },
  {
    number: 27,
    title: "an id that is taken is refused",
    async run(probe) {
      const watch = probe.watch();
      expect(await probe.create(watch, { watchId: 7n })).toMatchObject({
        created: true,
        canceled: false,
        watchId: 7n,
      });
      expect(await probe.create(watch, { watchId: 7n })).toMatchObject({
        created: true,
        canceled: true,
        watchId: -1n,
        cancelReason: "mvcc: duplicate watch ID provided on the WatchStream",
      });
      watch.cancel();
    },
  },
  {
    number: 28,
    title: "a watch from a compacted revision is created and then cancelled with the compact revision",
    async run(probe) {
      const old = await probe.put("a");
      const at = await probe.put("a");
      await probe.client.call(KV.method.compact, { revision: at, physical: true });
      const watch = probe.watch();
      expect(await probe.create(watch, { startRevision: old })).toMatchObject({
        created: true,
        canceled: false,
      });
      expect(await watch.next()).toMatchObject({
        created: false,
        canceled: true,
        watchId: 0n,
        compactRevision: at,
        cancelReason: "",
      });
      watch.cancel();
    },
  },
  {
    number: 29,
    title: "cancelling an unknown watcher is met with silence",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch);
      watch.send({ requestUnion: { case: "cancelRequest", value: { watchId: 42n } } });
      expect(await watch.silent(250)).toBe(true);
      watch.cancel();
    },
  },
  {
    number: 30,
    title: "a progress request is answered once for the whole stream",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch);
      await probe.create(watch);
      const revision = await probe.put("elsewhere");
      for (let events = 0; events < 2; events++) await watch.next();
      watch.send({ requestUnion: { case: "progressRequest", value: {} } });
      const progress = await watch.next();
      expect(progress).toMatchObject({ watchId: -1n, events: [], created: false, canceled: false });
      expect(progress.header?.revision).toBeGreaterThanOrEqual(revision);
      expect(await watch.silent(200)).toBe(true);
      watch.cancel();
    },
  },
  {
    number: 31,
    title: "a progress request without watchers is met with silence",
    async run(probe) {
      const watch = probe.watch();
      watch.send({ requestUnion: { case: "progressRequest", value: {} } });
      expect(await watch.silent(250)).toBe(true);
      watch.cancel();
    },
  },
  {
    number: 32,
    title: "the events of one txn come in one response",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch);
      const txn = await probe.client.call(KV.method.txn, {
        success: [probe.putOp("1"), probe.putOp("2"), probe.putOp("3")],
      });
      const response = await watch.next();
      expect(response.events).toHaveLength(3);
      expect(response.header?.revision).toBe(txn.header?.revision ?? 0n);
      watch.cancel();
    },
  },
  {
    number: 33,
    title: "a watcher that filters puts sees only deletes",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch, { filters: [Filter.NOPUT] });
      await probe.put("a");
      await probe.client.call(KV.method.deleteRange, { key: probe.key("a") });
      expect((await watch.next()).events.map(({ type }) => type)).toEqual([1]);
      watch.cancel();
    },
  },
  {
    number: 34,
    title: "a delete event carries the key and the revision and nothing else",
    async run(probe) {
      await probe.put("a");
      const watch = probe.watch();
      await probe.create(watch);
      const deleted = await probe.client.call(KV.method.deleteRange, { key: probe.key("a") });
      const { events } = await watch.next();
      expect(events[0]?.prevKv).toBeUndefined();
      expect(events[0]?.kv).toMatchObject({
        createRevision: 0n,
        modRevision: deleted.header?.revision ?? 0n,
        version: 0n,
        lease: 0n,
      });
      expect(events[0]?.kv?.value).toHaveLength(0);
      watch.cancel();
    },
  },
  {
    number: 36,
    title: "the member list has no revision",
    async run({ client }) {
      const list = await client.call(Cluster.method.memberList, { linearizable: true });
      expect(list.header?.revision).toBe(0n);
      expect(list.header?.memberId).toBe(list.members[0]?.ID ?? 0n);
      expect(list.members).toHaveLength(1);
      expect(list.members[0]).toMatchObject({ name: "default", isLearner: false });
      expect(list.members[0]?.clientURLs).toHaveLength(1);
    },
  },
  {
    number: 37,
    title: "a defragmentation is answered without a header",
    async run({ client }) {
      expect((await client.call(Maintenance.method.defragment, {})).header).toBeUndefined();
    },
  },
  {
    number: 38,
    title: "a snapshot ends with the SHA-256 of what came before it",
    async run({ client }) {
      const call = client.stream(Maintenance.method.snapshot);
      call.send({});
      call.halfClose();
      expect((await call.ended(20_000))?.code).toBe(0);
      const blobs = call.received.splice(0);
      const digest = blobs.pop();
      expect(digest?.blob).toHaveLength(32);
      expect(digest?.remainingBytes).toBe(0n);
      const data = Buffer.concat(blobs.map(({ blob }) => blob));
      expect(data.length % 512).toBe(0);
      expect(createHash("sha256").update(data).digest()).toEqual(Buffer.from(digest?.blob ?? []));
      expect(blobs.every(({ blob }) => blob.length <= 32 * 1024)).toBe(true);
      let left = BigInt(data.length);
      for (const { blob, remainingBytes } of blobs) {
        left -= BigInt(blob.length);
        expect(remainingBytes).toBe(left);
      }
    },
  },
  {
    number: 42,
    title: "JSON has 64-bit integers as text and leaves out what is zero",
    async run(probe) {
      const put = await probe.post("/v3/kv/put", { key: base64(probe.key("a")), value: base64(utf8("1")) });
      expect(put.status).toBe(200);
      const header = put.body["header"] as Record<string, unknown>;
      expect(Object.values(header).map((value) => typeof value)).toEqual([
        "string",
        "string",
        "string",
        "string",
      ]);
      expect(Object.keys(header).sort()).toEqual(["cluster_id", "member_id", "raft_term", "revision"]);
      const range = await probe.post("/v3/kv/range", { key: base64(probe.key("a")) });
      const revision = header["revision"];
      expect(range.body["kvs"]).toEqual([
        {
          key: base64(probe.key("a")),
          create_revision: revision,
          mod_revision: revision,
          version: "1",
          value: base64(utf8("1")),
        },
      ]);
      expect(range.body["count"]).toBe("1");
      const missing = await probe.post("/v3/kv/range", { key: base64(probe.key("missing")) });
      expect(Object.keys(missing.body)).toEqual(["header"]);
    },
  },
  {
    number: 43,
    title: "JSON may be written in lowerCamel",
    async run(probe) {
      await probe.put("a", "1");
      const range = await probe.post("/v3/kv/range", { key: base64(probe.key("a")), keysOnly: true });
      expect(range.status).toBe(200);
      expect((range.body["kvs"] as Record<string, unknown>[])[0]?.["value"]).toBeUndefined();
    },
  },
  {
    number: 44,
    title: "GET on a gateway path is not implemented",
    async run(probe) {
      const answer = await probe.post("/v3/kv/range", {}, "GET");
      expect(answer).toMatchObject({ status: 501, body: { code: 12, message: "Method Not Allowed" } });
    },
  },
  {
    number: 45,
    title: "a compacted range over JSON is 400 with etcd's code and text",
    async run(probe) {
      const old = await probe.put("a");
      const at = await probe.put("a");
      await probe.client.call(KV.method.compact, { revision: at, physical: true });
      const answer = await probe.post("/v3/kv/range", { key: base64(probe.key("a")), revision: String(old) });
      expect(answer).toEqual({
        status: 400,
        body: { code: 11, message: "etcdserver: mvcc: required revision has been compacted" },
      });
    },
  },
  {
    number: 46,
    title: "the health service knows the server as a whole and no other name",
    async run({ client }) {
      expect(await client.call(Health.method.check, { service: "" })).toMatchObject({ status: 1 });
      expect(statusOfReply(await client.unary(Health.method.check, { service: "x" })).code).toBe(5);
    },
  },
  {
    number: 47,
    title: "1.6 MiB is too large for the store, 2.2 MiB for the door",
    async run(probe) {
      const before = await probe.revision();
      const put = (mebibytes: number) =>
        probe.client.unary(KV.method.put, {
          key: probe.key("a"),
          value: new Uint8Array(mebibytes * 1024 * 1024),
        });
      expect(statusOfReply(await put(1.6))).toEqual(refusal("requestTooLarge"));
      expect(statusOfReply(await put(2.2)).code).toBe(8);
      expect(await probe.revision()).toBe(before);
    },
  },
  {
    number: 48,
    title: "an unknown method is unimplemented",
    async run({ client }) {
      for (const path of ["/etcdserverpb.KV/Steal", "/etcdserverpb.Nothing/Put"]) {
        const reply = await client.raw(path, frame(new Uint8Array(0)));
        expect(reply.status?.code).toBe(12);
      }
    },
  },
  {
    number: 49,
    title: "a large watch response comes in fragments when asked for, all of one header",
    async run(probe) {
      // With the previous values, the events of one revision are larger than a response without fragments may be.
      const txn = (letter: string) => ({
        success: ["1", "2", "3"].map((name) => probe.putOp(name, letter.repeat(450_000))),
      });
      await probe.client.call(KV.method.txn, txn("x"));
      const { header } = await probe.client.call(KV.method.txn, txn("y"));
      const startRevision = header?.revision ?? 0n;
      const whole = probe.watch();
      await probe.create(whole, { startRevision, prevKv: true });
      expect((await whole.next()).events).toHaveLength(3);
      whole.cancel();
      const watch = probe.watch();
      await probe.create(watch, { startRevision, prevKv: true, fragment: true });
      const parts: WatchResponse[] = [];
      let events = 0;
      while (events < 3) {
        const part = await watch.next();
        parts.push(part);
        events += part.events.length;
      }
      expect(parts.length).toBeGreaterThan(1);
      expect(parts.map(({ fragment }) => fragment)).toEqual(
        parts.map((_, index) => index < parts.length - 1),
      );
      expect(new Set(parts.map(({ header }) => header?.revision)).size).toBe(1);
      watch.cancel();
    },
  },
  {
    number: 50,
    title: "an alarm raised by hand refuses writes until it is taken back",
    async run(probe) {
      const { client } = probe;
      const list = await client.call(Cluster.method.memberList, {});
      const memberID = list.members[0]?.ID ?? 0n;
      await client.call(Maintenance.method.alarm, { action: 1, memberID, alarm: AlarmType.NOSPACE });
      try {
        expect(statusOfReply(await client.unary(KV.method.put, { key: probe.key("a") }))).toEqual(
          refusal("noSpace"),
        );
        const status = await client.call(Maintenance.method.status, {});
        expect(status.errors.join()).toContain("alarm:NOSPACE");
      } finally {
        await client.call(Maintenance.method.alarm, { action: 2, memberID, alarm: AlarmType.NOSPACE });
      }
      await probe.put("a");
    },
  },
  {
    number: 51,
    title: "the status says a version, a size, a leader, an index and a term",
    async run({ client }) {
      const status = await client.call(Maintenance.method.status, {});
      expect(status.version).toMatch(/^3\.\d+\.\d+/);
      expect(status.dbSize).toBeGreaterThan(0n);
      expect(status.dbSizeInUse).toBeGreaterThan(0n);
      expect(status.leader).toBe(status.header?.memberId ?? 0n);
      expect(status.raftIndex).toBeGreaterThan(0n);
      expect(status.raftAppliedIndex).toBeLessThanOrEqual(status.raftIndex);
      expect(status.raftTerm).toBe(status.header?.raftTerm ?? 0n);
      expect(status.isLearner).toBe(false);
    },
  },
];

/**
 * Sequences that end a real etcd's process; only for Keelson. A delete to the end of the key space is not seen by
 * etcd's rule against touching a key twice in one txn, and what follows meets a state it holds impossible.
 */
export const survivalProbes: readonly Probe[] = [
  {
    number: 101,
    title:
      "a delete to the end of the keys followed by a put in one txn is refused or done, and can be compacted and read",
    async run(probe) {
      const { client } = probe;
      const key = utf8("\xfe/tail");
      await client.call(KV.method.put, { key, value: utf8("old") });
      for (const keep of [false, true]) {
        const reply = await client.unary(KV.method.txn, {
          success: [
            { request: { case: "requestDeleteRange", value: { key: utf8("\xfe"), rangeEnd: utf8("\0") } } },
            {
              request: {
                case: "requestPut",
                value: { key, value: utf8(keep ? "" : "new"), ignoreValue: keep },
              },
            },
          ],
        });
        expect([0, refusal("duplicateKey").code]).toContain(statusOfReply(reply).code);
      }
      const at = await probe.revision();
      await client.call(KV.method.compact, { revision: at, physical: true });
      await client.call(KV.method.range, { key: utf8("\xfe"), rangeEnd: utf8("\0"), revision: at });
      expect(probe.server.exited).toBeUndefined();
    },
  },
];
