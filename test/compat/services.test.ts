/** The lock and election services that run inside the server, on the reference and on Keelson. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Election } from "../../src/proto/gen/etcd/election_pb";
import { Lock } from "../../src/proto/gen/etcd/lock_pb";
import { KV, Lease } from "../../src/proto/gen/etcd/rpc_pb";
import { GrpcClient, statusOfReply } from "../tools/grpc-client";
import { startEtcd, startKeelson, type Server } from "../tools/server";

const utf8 = (text: string): Uint8Array => Buffer.from(text);
const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString();

for (const { kind, start } of [
  { kind: "a real etcd", start: startEtcd },
  { kind: "keelson", start: startKeelson },
]) {
  describe(`lock and election services of ${kind}`, () => {
    let server: Server;
    let client: GrpcClient;

    beforeAll(async () => {
      server = await start();
      client = new GrpcClient(server.url);
    });
    afterAll(async () => {
      client.close();
      await server.stop(3_000);
    });

    const grant = async (): Promise<bigint> => (await client.call(Lease.method.leaseGrant, { TTL: 60n })).ID;

    test("a lock is the name, a slash and the lease in hex; the second caller waits for the first", async () => {
      const [one, two] = [await grant(), await grant()];
      const first = await client.call(Lock.method.lock, { name: utf8("door"), lease: one });
      expect(text(first.key)).toBe(`door/${one.toString(16)}`);
      const again = await client.call(Lock.method.lock, { name: utf8("door"), lease: one });
      expect(text(again.key)).toBe(text(first.key));

      let entered = false;
      const second = client.call(Lock.method.lock, { name: utf8("door"), lease: two }).then((answer) => {
        entered = true;
        return answer;
      });
      await Bun.sleep(200);
      expect(entered).toBe(false);
      await client.call(Lock.method.unlock, { key: first.key });
      expect(text((await second).key)).toBe(`door/${two.toString(16)}`);
      await client.call(Lease.method.leaseRevoke, { ID: two });
      expect(
        (await client.call(KV.method.range, { key: utf8("door/"), rangeEnd: utf8("door0") })).count,
      ).toBe(0n);
    }, 20_000);

    test("a waiter that gives up leaves no key behind", async () => {
      const [one, two] = [await grant(), await grant()];
      const first = await client.call(Lock.method.lock, { name: utf8("gate"), lease: one });
      const gaveUp = await client.unary(
        Lock.method.lock,
        { name: utf8("gate"), lease: two },
        { deadlineMs: 300 },
      );
      expect(statusOfReply(gaveUp).code).toBe(4);
      const deadline = performance.now() + 3_000;
      for (;;) {
        const range = await client.call(KV.method.range, { key: utf8("gate/"), rangeEnd: utf8("gate0") });
        if (range.count === 1n && text(range.kvs[0]?.key) === text(first.key)) break;
        if (performance.now() > deadline) throw new Error(`${range.count} keys are left`);
        await Bun.sleep(20);
      }
      await client.call(Lock.method.unlock, { key: first.key });
    }, 20_000);

    test("unlocking what is not locked is fine", async () => {
      await client.call(Lock.method.unlock, { key: utf8("door/never") });
    });

    test("an election: campaign, lead, proclaim, observe, resign, follow", async () => {
      const name = utf8("post");
      expect(statusOfReply(await client.unary(Election.method.leader, { name }))).toEqual({
        code: 2,
        text: "election: no leader",
      });
      const [one, two] = [await grant(), await grant()];
      const alice = await client.call(Election.method.campaign, { name, lease: one, value: utf8("alice") });
      expect(text(alice.leader?.key)).toBe(`post/${one.toString(16)}`);
      expect(text((await client.call(Election.method.leader, { name })).kv?.value)).toBe("alice");

      const observer = client.stream(Election.method.observe);
      observer.send({ name });
      observer.halfClose();
      expect(text((await observer.next()).kv?.value)).toBe("alice");

      const bob = client.call(Election.method.campaign, { name, lease: two, value: utf8("bob") });
      const leader = alice.leader;
      if (leader === undefined) throw new Error("no leader key");
      await client.call(Election.method.proclaim, { leader, value: utf8("alice again") });
      expect(text((await observer.next()).kv?.value)).toBe("alice again");
      const stranger = { ...leader, rev: leader.rev + 1n };
      expect(statusOfReply(await client.unary(Election.method.proclaim, { leader: stranger }))).toEqual({
        code: 2,
        text: "election: not leader",
      });
      await client.call(Election.method.resign, { leader: stranger });
      await client.call(Election.method.resign, { leader });
      expect(text((await bob).leader?.key)).toBe(`post/${two.toString(16)}`);
      expect(text((await observer.next()).kv?.value)).toBe("bob");
      observer.cancel();
      const leaderless = [
        await client.unary(Election.method.proclaim, {}),
        await client.unary(Election.method.resign, {}),
      ];
      for (const reply of leaderless) {
        expect(statusOfReply(reply)).toEqual({ code: 2, text: '"leader" field must be provided' });
      }
      await client.call(Lease.method.leaseRevoke, { ID: one });
      await client.call(Lease.method.leaseRevoke, { ID: two });
    }, 20_000);
  });
}
