/** Probes 36 to 51 without 49: cluster, maintenance, the JSON gateway, limits; and what Keelson alone survives. */
import { createHash } from "node:crypto";
import { expect } from "bun:test";
import { AlarmType, Cluster, KV, Maintenance } from "../../src/proto/gen/etcd/rpc_pb";
import { Health } from "../../src/proto/gen/grpc/health_pb";
import { frame, refusal, statusOfReply } from "../tools/grpc-client";

import { type Probe, base64, utf8 } from "./probe-context";

export const doorProbes: readonly Probe[] = [
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
      // Who names no member hears of that before anybody looks at the URLs.
      const update = await client.unary(Cluster.method.memberUpdate, { ID: 1n, peerURLs: ["x"] });
      expect(statusOfReply(update)).toEqual(refusal("memberNotFound"));
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
