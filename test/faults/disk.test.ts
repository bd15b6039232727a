/**
 * A disk that is full, and a disk whose sync fails. The first needs a small tmpfs (root), the second strace; where
 * neither may be had the tests fail and say so.
 */
import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { join } from "node:path";
import { GrpcCode } from "../../src/errors";
import { KV, Maintenance } from "../../src/proto/gen/etcd/rpc_pb";
import { GrpcClient, type Reply } from "../tools/grpc-client";
import { ensureStrace, runToEnd } from "../tools/install";
import { scratchDir, startKeelson, type Server } from "../tools/server";
import { Load } from "./load";

const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
const utf8 = (text: string): Uint8Array => Buffer.from(text);
const mounts: string[] = [];

afterAll(() => {
  for (const mount of mounts.splice(0)) runToEnd([...asRoot, "umount", "--lazy", mount]);
});

const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];

/** A file system of its own of this size. */
function smallDisk(mebibytes: number): string {
  const mount = join(scratchDir("disk"), "small");
  mkdirSync(mount);
  runToEnd([...asRoot, "mount", "-t", "tmpfs", "-o", `size=${mebibytes}m,mode=0777`, "tmpfs", mount]);
  mounts.push(mount);
  return mount;
}

/** Puts large values under new keys until the server refuses or the limit is reached. */
async function fill(
  client: GrpcClient,
  limitBytes: number,
): Promise<{ acknowledged: string[]; refusal: Reply<typeof KV.method.put.output> | undefined }> {
  const acknowledged: string[] = [];
  const value = Buffer.alloc(1_000_000, "v");
  for (let index = 0; index * value.length < limitBytes; index++) {
    const key = `fill/${String(index).padStart(5, "0")}`;
    const reply = await client.unary(KV.method.put, { key: utf8(key), value });
    if (!reply.ok) return { acknowledged, refusal: reply };
    acknowledged.push(key);
  }
  return { acknowledged, refusal: undefined };
}

async function keysOf(client: GrpcClient): Promise<string[]> {
  const range = await client.call(KV.method.range, {
    key: utf8("fill/"),
    rangeEnd: utf8("fill0"),
    keysOnly: true,
  });
  return range.kvs.map(({ key }) => Buffer.from(key).toString());
}

test.skipIf(calibrating)(
  "a full disk refuses writes as etcd's full quota does, reads and deletes go on, and nothing acknowledged is lost",
  async () => {
    const disk = smallDisk(384);
    // Its output goes to a disk with room, or the test itself would fail to write.
    const logFile = `${disk}.log`;
    let server: Server = await startKeelson({ dataDir: join(disk, "data"), logFile });
    let client = new GrpcClient(server.url);
    const { acknowledged, refusal } = await fill(client, 500_000_000);
    expect(acknowledged.length).toBeGreaterThan(10);
    expect(refusal).toEqual({
      ok: false,
      code: GrpcCode.resourceExhausted,
      text: "etcdserver: mvcc: database space exceeded",
    });
    expect(server.exited).toBeUndefined();

    // The alarm says so to everyone who asks.
    const alarms = await client.call(Maintenance.method.alarm, { action: 0 });
    expect(alarms.alarms.map(({ alarm }) => alarm)).toEqual([1]);
    const status = await client.call(Maintenance.method.status, {});
    expect(status.errors.join()).toContain("alarm:NOSPACE");

    expect(await keysOf(client)).toEqual(acknowledged);
    const deleted = await client.call(KV.method.deleteRange, {
      key: utf8("fill/"),
      rangeEnd: utf8("fill/00005"),
    });
    expect(deleted.deleted).toBe(5n);
    const left = acknowledged.slice(5);
    expect(await keysOf(client)).toEqual(left);
    client.close();

    await server.kill();
    server = await startKeelson({ dataDir: server.dataDir, logFile });
    client = new GrpcClient(server.url);
    expect(await keysOf(client)).toEqual(left);
    client.close();
    await server.stop();
  },
  120_000,
);

/** Takes all the space that is left on a file system; the answer gives it back. */
function takeRest(directory: string): () => void {
  const path = join(directory, "foreign");
  const descriptor = openSync(path, "w");
  try {
    for (const size of [1024 ** 2, 4096]) {
      const bytes = Buffer.alloc(size, "x");
      for (;;) {
        try {
          if (writeSync(descriptor, bytes) < size) break;
        } catch {
          break;
        }
      }
    }
  } finally {
    closeSync(descriptor);
  }
  expect(statfsSync(directory).bavail).toBe(0);
  return () => rmSync(path);
}

test.skipIf(calibrating)(
  "a start on a log disk that is full opens its doors: reads go on, and writes as soon as there is space",
  async () => {
    const disk = smallDisk(64);
    const logFile = `${disk}.log`;
    const flags = ["--wal-dir", join(disk, "log")];
    let server = await startKeelson({ logFile, flags });
    const { dataDir } = server;
    let client = new GrpcClient(server.url);
    const value = Buffer.alloc(100_000, "v");
    // The put that meets the full disk has no known outcome, so it ends with its deadline.
    const put = (key: string) =>
      client.unary(KV.method.put, { key: utf8(key), value }, { deadlineMs: 2_000 });
    expect((await put("fill/0")).ok).toBe(true);
    const giveBack = takeRest(disk);
    const refusal = {
      ok: false,
      code: GrpcCode.resourceExhausted,
      text: "etcdserver: mvcc: database space exceeded",
    } as const;
    // Writes go on as long as there is preallocated space, and what met the full disk has no known outcome.
    const acknowledged = ["fill/0"];
    let last = await put("fill/001");
    for (let n = 2; last.ok && n < 700; n++) {
      acknowledged.push(`fill/${String(n - 1).padStart(3, "0")}`);
      last = await put(`fill/${String(n).padStart(3, "0")}`);
    }
    expect(last.ok).toBe(false);
    expect(await put("fill/x")).toEqual(refusal);
    client.close();
    await server.kill();

    // There is room for a few starts: a vote, and the first entries of a term. So all reads go on at once.
    const reading = { key: utf8("fill/"), rangeEnd: utf8("fill0"), keysOnly: true };
    const keysNow = async (serializable: boolean): Promise<string[]> => {
      const answer = await client.call(KV.method.range, { ...reading, serializable });
      return answer.kvs.map(({ key }) => Buffer.from(key).toString());
    };
    server = await startKeelson({ dataDir, logFile, flags });
    client = new GrpcClient(server.url);
    expect((await keysNow(false)).slice(0, acknowledged.length)).toEqual(acknowledged);

    // Writes and starts use it up. Then there is no leader, but what was committed is read on.
    let health = await fetch(`${server.url}/health`);
    let readiness: Response;
    for (let starts = 0; health.status === 200; starts++) {
      expect(starts).toBeLessThan(60);
      for (let n = 0; n < 40; n++) {
        const answer = await client.unary(
          KV.method.put,
          { key: utf8(`fill/small-${starts}-${n}`), value: value.subarray(0, n < 20 ? 100 : 1) },
          { deadlineMs: 300 },
        );
        if (!answer.ok) break;
      }
      client.close();
      await server.kill();
      const startedAtMs = performance.now();
      server = await startKeelson({ dataDir, logFile, flags, readyWhen: "serving" });
      expect(performance.now() - startedAtMs).toBeLessThan(9_000);
      client = new GrpcClient(server.url);
      [health, readiness] = await Promise.all([fetch(`${server.url}/health`), fetch(`${server.url}/readyz`)]);
      expect(readiness.status).toBe(health.status);
    }
    // It may have been elected and be unable to write the first entry of its term.
    expect(health.status).toBe(503);
    expect(await health.text()).toMatch(
      /RAFT NO LEADER|RANGE ERROR:(context deadline exceeded|etcdserver: request timed out)/,
    );
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
    expect((await keysNow(true)).slice(0, acknowledged.length)).toEqual(acknowledged);
    expect(await put("fill/x")).toEqual(refusal);

    giveBack();
    await server.ready(10_000);
    expect((await put("fill/y")).ok).toBe(true);
    const after = await keysOf(client);
    expect(after.filter((key) => acknowledged.includes(key))).toEqual(acknowledged);
    expect(after).toContain("fill/y");
    client.close();
    expect((await server.stop()).code).toBe(0);
  },
  120_000,
);

test.skipIf(calibrating)(
  "the first sync that fails ends the process, and a restart has every acknowledged write",
  async () => {
    const strace = ensureStrace();
    const load = new Load();
    // The load is on before the failure comes: sync calls are counted from the start of the process.
    for (const when of [8, 60, 250]) {
      const inject = `inject=fdatasync,fsync:error=EIO:when=${when}+`;
      const first = await startKeelson();
      const { dataDir } = first;
      await first.stop();
      const server = await startKeelson({
        dataDir,
        wrapper: [
          strace,
          "-f",
          "-qq",
          "-o",
          `${dataDir}.strace`,
          "-e",
          "trace=fdatasync,fsync",
          "-e",
          inject,
        ],
        readyTimeoutMs: 30_000,
      }).catch((error: unknown) => {
        // So early that it never served: that is an end as well.
        if (when > 10) throw error;
        return undefined;
      });
      const own = new Load();
      if (server !== undefined) {
        const limit = performance.now() + 20_000;
        await own.run(server.url, {
          writers: 4,
          seed: when,
          stop: () => server.exited !== undefined || performance.now() > limit,
        });
        const gone = await Promise.race([server.exit(), Bun.sleep(5_000).then(() => undefined)]);
        if (gone === undefined) {
          await server.kill();
          throw new Error(`still running after a failed sync:\n${server.log().slice(-2000)}`);
        }
        expect(gone.code).not.toBe(0);
        expect(server.log()).toMatch(/sync/i);
      }
      const again = await startKeelson({ dataDir });
      expect(await own.check(again.url)).toEqual([]);
      await again.stop();
      load.operations.push(...own.operations);
    }
    expect(load.acknowledged).toBeGreaterThan(50);
  },
  120_000,
);
