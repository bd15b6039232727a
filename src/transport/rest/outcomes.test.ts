/** Writes of several steps: what a client is told when a later one fails. */
import { describe, expect, test } from "bun:test";
import { InvariantError } from "../../assert";
import { refuse, StoreError } from "../../errors";
import { CapturingLogger } from "../../log";
import { Jobs } from "../../service/jobs";
import { RestApi } from "./rest";
import type { RestServices } from "./services";

async function ask(
  services: object,
  method: string,
  target: string,
  body?: object,
): Promise<{ status: number; document: { outcome?: string; etcd?: { message: string } } }> {
  const api = new RestApi({ services: services as RestServices, log: new CapturingLogger() });
  const text = body === undefined ? "" : JSON.stringify(body);
  const headers: Record<string, string> = {
    "content-type": "application/json",
    "content-length": String(text.length),
  };
  const answer = await api.ask({
    method,
    target: `/api/v1${target}`,
    header: (name) => headers[name],
    readBody: () => Buffer.from(text),
    onClose() {},
  });
  return {
    status: answer.status,
    document: JSON.parse(String(answer.body)) as { outcome?: string; etcd?: { message: string } },
  };
}

const noLeader = (): Promise<never> => Promise.reject(refuse("noLeader"));
const header = { revision: 7n };
const granted = { leaseGrant: () => Promise.resolve({ ID: 5n, TTL: 60n, header }) };
const acquired = { lock: () => Promise.resolve({ key: Buffer.from("a/5"), header }) };

describe("the outcome of a failed write", () => {
  test("a compaction that finds no room for its job is not begun", async () => {
    const jobs = new Jobs("j", () => 0);
    for (let at = 0; at < 4; at++) jobs.start("long", () => new Promise(() => {}));
    let compactions = 0;
    const kv = {
      compact: () => {
        compactions++;
        return Promise.resolve({});
      },
      compactionFinished: () => Promise.resolve(),
    };
    const store = { revision: 9, compactedRevision: -1 };
    const refused = await ask({ kv, jobs, store }, "POST", "/maintenance/compact", {});
    expect(refused).toMatchObject({ status: 429, document: { outcome: "not-applied" } });
    expect(compactions).toBe(0);
    const room = { kv, jobs: new Jobs("k", () => 0), store };
    expect((await ask(room, "POST", "/maintenance/compact", {})).status).toBe(202);
    expect(compactions).toBe(1);
    const future = { ...room, kv: { ...kv, compact: () => Promise.reject(refuse("futureRev")) } };
    expect(await ask(future, "POST", "/maintenance/compact", {})).toMatchObject({
      status: 400,
      document: { outcome: "not-applied" },
    });
  });

  test("a released lock whose lease could not be revoked is not unreleased", async () => {
    const lease = { leaseRevoke: noLeader };
    const released = { deleteRange: () => Promise.resolve({ header, deleted: 1n }) };
    const nothing = { deleteRange: () => Promise.resolve({ header, deleted: 0n }) };
    const path = "/locks/a?lease=5&revoke";
    expect((await ask({ kv: released, lease }, "DELETE", path)).document.outcome).toBe("unknown");
    expect((await ask({ kv: nothing, lease }, "DELETE", path)).document.outcome).toBe("not-applied");
  });

  test("a lock that was acquired and not described may be held, unless its own lease was ended again", async () => {
    const kv = { range: noLeader };
    const ended = { ...granted, leaseRevoke: () => Promise.resolve({ header }) };
    const kept = { ...granted, leaseRevoke: noLeader };
    const outcome = async (lease: object, body: object): Promise<string | undefined> =>
      (await ask({ kv, lock: acquired, lease }, "POST", "/locks/a", body)).document.outcome;
    expect(await outcome(ended, {})).toBe("not-applied");
    expect(await outcome(kept, {})).toBe("unknown");
    expect(await outcome(ended, { lease: "5" })).toBe("unknown");
  });

  test("a caller whose lease ended while it waited is told so, and not of a fault of the server", async () => {
    const lock = { lock: () => Promise.reject(new StoreError(2, "mutex: session is expired")) };
    const expired = await ask({ lock, lease: granted }, "POST", "/locks/a", { lease: "5" });
    expect(expired).toMatchObject({ status: 404, document: { outcome: "not-applied" } });
  });

  test("a transaction of too many operations is refused before it is put together", async () => {
    let asked = 0;
    const kv = {
      txnOpsMax: 128,
      txnResponse: () => {
        asked++;
        return noLeader();
      },
    };
    const many = Array.from({ length: 129 }, (_, at) => ({ get: { key: String(at) } }));
    for (const body of [{ then: many }, { else: many }, { then: [{ txn: { then: many } }] }]) {
      const refused = await ask({ kv }, "POST", "/txn", body);
      expect(refused).toMatchObject({
        status: 400,
        document: {
          outcome: "not-applied",
          etcd: { message: expect.stringContaining("too many operations") },
        },
      });
    }
    expect(asked).toBe(0);
    await ask({ kv }, "POST", "/txn", { then: many.slice(1) });
    expect(asked).toBe(1);
  });

  test("an alarm that was disarmed before another could not be is disarmed", async () => {
    let asked = 0;
    const alarms = [
      { alarm: 1, memberID: 1n },
      { alarm: 1, memberID: 2n },
    ];
    const maintenance = { alarm: () => (++asked < 3 ? Promise.resolve({ alarms }) : noLeader()) };
    expect((await ask({ maintenance }, "DELETE", "/alarms/nospace")).document.outcome).toBe("unknown");
  });
});

describe("a stream that breaks off", () => {
  const listing = (failure: Error): object => ({
    kv: {
      range: () => Promise.resolve({ header, count: 2n, kvs: [] }),
      rangeStream: async (stream: { send(message: object): boolean }) => {
        stream.send({
          rangeResponse: { kvs: [{ key: Buffer.from("a"), value: Buffer.from("b"), lease: 0n }] },
        });
        await Promise.resolve();
        throw failure;
      },
    },
  });
  const streamed = async (failure: Error): Promise<{ logged: number; fatal: number; failed: boolean }> => {
    const log = new CapturingLogger();
    let fatal = 0;
    const api = new RestApi({
      services: listing(failure) as RestServices,
      log,
      onFatal: () => void fatal++,
    });
    const { body } = await api.ask({
      method: "GET",
      target: "/api/v1/keys",
      header: () => undefined,
      readBody: () => Buffer.alloc(0),
      onClose() {},
    });
    if (typeof body !== "function") throw new Error("the list is not streamed");
    const writer = { write: () => true, drained: () => Promise.resolve(), over: false };
    const failed = await body(writer).then(
      () => false,
      () => true,
    );
    return { logged: log.lines.length, fatal, failed };
  };

  test("says why in the log, and ends the process when an invariant is broken", async () => {
    expect(await streamed(new Error("a file is gone"))).toEqual({ logged: 1, fatal: 0, failed: true });
    expect(await streamed(new InvariantError("impossible"))).toEqual({ logged: 1, fatal: 1, failed: true });
    expect(await streamed(refuse("compacted"))).toEqual({ logged: 0, fatal: 0, failed: true });
  });
});
