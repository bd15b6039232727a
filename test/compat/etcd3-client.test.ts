/** The npm client `etcd3`, unchanged, against Keelson: keys, ranges, txns, watches, leases, locks, elections. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Etcd3, EtcdLockFailedError, type IKeyValue, type Watcher } from "etcd3";
import { startKeelson, type Server } from "../tools/server";

let server: Server;
let client: Etcd3;

beforeAll(async () => {
  server = await startKeelson();
  client = new Etcd3({ hosts: server.url });
});
afterAll(async () => {
  client.close();
  await server.stop(5_000);
});

/** Resolves with the next value that an emitter hands to `event`. */
function once<T>(
  emitter: { on(event: string, listener: (value: T) => void): unknown },
  event: string,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  emitter.on(event, resolve);
  setTimeout(() => reject(new Error(`no ${event} within 8 s`)), 8_000).unref();
  return promise;
}

describe("the npm etcd3 client", () => {
  test("puts, gets, deletes and counts", async () => {
    await client.put("foo").value("bar");
    expect(await client.get("foo").string()).toBe("bar");
    expect(await client.get("nothing").string()).toBeNull();
    await client.put("json").value(JSON.stringify({ deep: [1, 2] }));
    expect(await client.get("json").json()).toEqual({ deep: [1, 2] });
    const binary = Buffer.from([0, 255, 1, 254]);
    await client.put("binary").value(binary);
    expect(Buffer.compare((await client.get("binary").buffer()) ?? Buffer.alloc(0), binary)).toBe(0);
    const { deleted } = await client.delete().key("foo");
    expect(deleted).toBe("1");
    expect(await client.get("foo").exists()).toBe(false);
  });

  test("ranges by prefix, sorted, limited, keys only", async () => {
    const users = client.namespace("user/");
    for (const [name, value] of [
      ["carol", "3"],
      ["alice", "1"],
      ["bob", "2"],
    ] as const) {
      await users.put(name).value(value);
    }
    expect(await users.getAll().strings()).toEqual({ alice: "1", bob: "2", carol: "3" });
    expect(await users.getAll().keys()).toEqual(["alice", "bob", "carol"]);
    expect(await users.getAll().count()).toBe(3);
    expect(await users.getAll().sort("Value", "Descend").limit(2).keys()).toEqual(["carol", "bob"]);
    await users.delete().all();
    expect(await client.getAll().prefix("user/").count()).toBe(0);
  });

  test("revisions: the past can be read", async () => {
    const first = await client.put("history").value("old");
    await client.put("history").value("new");
    expect(await client.get("history").revision(first.header.revision).string()).toBe("old");
    expect(await client.get("history").string()).toBe("new");
  });

  test("transactions take one branch, and software transactions see no half of another", async () => {
    await client.put("balance").value("10");
    const taken = await client
      .if("balance", "Value", "==", "10")
      .then(client.put("balance").value("9"), client.get("balance"))
      .else(client.get("balance"))
      .commit();
    expect(taken.succeeded).toBe(true);
    expect(taken.responses).toHaveLength(2);
    const other = await client.if("balance", "Value", "==", "10").then(client.delete().all()).commit();
    expect(other.succeeded).toBe(false);

    await client.put("counter").value("0");
    await Promise.all(
      Array.from({ length: 5 }, () =>
        client.stm({ retries: 50 }).transact(async (tx) => {
          const value = Number(await tx.get("counter").string());
          await tx.put("counter").value(String(value + 1));
        }),
      ),
    );
    expect(await client.get("counter").number()).toBe(5);
  }, 20_000);

  test("watches see puts and deletes, from now and from the past", async () => {
    const watcher: Watcher = await client.watch().prefix("watched/").withPreviousKV().create();
    const put = once<IKeyValue>(watcher, "put");
    const deleted = once<IKeyValue>(watcher, "delete");
    const { header } = await client.put("watched/a").value("1");
    expect((await put).value.toString()).toBe("1");
    await client.delete().key("watched/a");
    expect((await deleted).key.toString()).toBe("watched/a");
    await watcher.cancel();

    const past = client.watch().prefix("watched/").startRevision(header.revision).watcher();
    const again = once<IKeyValue>(past, "put");
    expect((await again).mod_revision).toBe(header.revision);
    await past.cancel();
  }, 20_000);

  test("leases hold keys, are kept alive, and take their keys with them", async () => {
    const lease = client.lease(60, { autoKeepAlive: false });
    await lease.put("leased").value("yes");
    expect(await client.get("leased").string()).toBe("yes");
    expect((await lease.keepaliveOnce()).TTL).toBe("60");
    await lease.revoke();
    expect(await client.get("leased").exists()).toBe(false);

    const kept = client.lease(2);
    await kept.put("kept").value("yes");
    await Bun.sleep(3_500);
    expect(await client.get("kept").string()).toBe("yes");
    await kept.revoke();
    expect(await client.get("kept").exists()).toBe(false);
  }, 20_000);

  test("a lost lease is noticed", async () => {
    const lease = client.lease(2);
    const id = await lease.grant();
    const lost = once<Error>(lease, "lost");
    await client.leaseClient.leaseRevoke({ ID: id });
    expect(await lost).toBeInstanceOf(Error);
    expect(lease.revoked()).toBe(true);
  }, 20_000);

  test("a lock has one holder", async () => {
    const first = await client.lock("resource").acquire();
    let refusal: unknown;
    await client
      .lock("resource")
      .acquire()
      .catch((error: unknown) => {
        refusal = error;
      });
    expect(refusal).toBeInstanceOf(EtcdLockFailedError);
    await first.release();
    expect(await client.lock("resource").do(async () => "inside")).toBe("inside");
  }, 20_000);

  test("an election has one leader, and the next one follows", async () => {
    const election = client.election("post", 5);
    const alice = election.campaign("alice");
    await alice.wait();
    expect(await election.leader()).toBe("alice");
    const observer = await election.observe();
    expect(observer.leader()).toBe("alice");
    const bob = election.campaign("bob");
    const elected = once<void>(bob, "elected");
    await alice.proclaim("alice again");
    expect(await election.leader()).toBe("alice again");
    await alice.resign();
    await elected;
    expect(await election.leader()).toBe("bob");
    await observer.cancel();
    await bob.resign();
  }, 30_000);

  test("maintenance calls answer", async () => {
    const status = await client.maintenance.status();
    expect(status.version).toMatch(/^3\./);
    const { alarms } = await client.maintenance.alarm({ action: "Get", memberID: 0, alarm: "None" });
    expect(alarms).toEqual([]);
  });
});
