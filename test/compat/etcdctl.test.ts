/**
 * The reference's own command line client against Keelson and against a real etcd: the same script, and the same
 * output but for ids, addresses and sizes.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";
import { Etcdctl, type CommandResult } from "../tools/etcdctl";
import { scratchDir, startEtcd, startKeelson, type Server } from "../tools/server";

const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
let reference: Server;
let subject: Server;
let theirs: Etcdctl;
let ours: Etcdctl;

beforeAll(async () => {
  [reference, subject] = await Promise.all([startEtcd(), startKeelson()]);
  theirs = await Etcdctl.for(reference.url);
  ours = await Etcdctl.for(subject.url);
});
afterAll(async () => {
  await Promise.all([reference.kill(), subject.stop(5_000)]);
});

/** Hides what two clusters never share. */
function comparable(result: CommandResult, endpoint: string): unknown {
  const tidy = (text: string): string =>
    text
      .replaceAll(endpoint, "ENDPOINT")
      .replaceAll(/"(cluster_id|member_id|raft_term|ID|leader)":\d+/g, '"$1":N')
      .replaceAll(/"(ClusterID|MemberID|RaftTerm)" : \d+/g, '"$1" : N')
      .replaceAll(/took = [^\n]+/g, "took = T")
      .replaceAll(/took [\d.]+\w+/g, "took T")
      .replaceAll(/"ts":"[^"]*"/g, '"ts":T')
      .replaceAll(/logger\.go:\d+/g, "logger.go")
      .replaceAll(/retry_interceptor\.go:\d+/g, "retry_interceptor.go");
  const errors = tidy(result.stderr)
    .split("\n")
    .filter((line) => !line.startsWith('{"level":"'))
    .join("\n");
  return { code: result.code, stdout: tidy(result.stdout), errors };
}

/** Runs one command on both; their output has to be equal. */
async function same(args: readonly string[], input = ""): Promise<CommandResult> {
  const [a, b] = await Promise.all([theirs.run(args, input), ours.run(args, input)]);
  expect({ args, ...(comparable(b, ours.endpoint) as object) }).toEqual({
    args,
    ...(comparable(a, theirs.endpoint) as object),
  });
  return b;
}

describe("etcdctl says the same of Keelson as of a real etcd", () => {
  test("put and get: single, prefix, from key, range, revision, sort, limit, keys only, count only", async () => {
    for (const [key, value] of [
      ["fruit/apple", "1"],
      ["fruit/banana", "2"],
      ["fruit/cherry", "3"],
      ["fruit/banana", "4"],
      ["zebra", "z"],
    ] as const) {
      expect((await same(["put", key, value])).stdout).toBe("OK\n");
    }
    await same(["put", "fruit/apple", "5", "--prev-kv"]);
    await same(["put", "fruit/apple", "--ignore-value"]);
    await same(["put", "missing", "--ignore-value"]);
    await same(["get", "fruit/apple"]);
    await same(["get", "fruit/", "--prefix"]);
    await same(["get", "fruit/", "--prefix", "--rev=4"]);
    await same(["get", "fruit/", "--prefix", "--rev=9999"]);
    await same(["get", "fruit/", "--prefix", "--keys-only"]);
    await same(["get", "fruit/", "--prefix", "--count-only", "-w", "fields"]);
    await same(["get", "fruit/", "--prefix", "--limit=2", "-w", "json"]);
    await same(["get", "fruit/b", "--from-key", "--print-value-only"]);
    await same(["get", "fruit/a", "fruit/c"]);
    await same(["get", "fruit/", "--prefix", "--consistency=s"]);
    for (const target of ["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"]) {
      for (const order of ["ASCEND", "DESCEND"]) {
        await same(["get", "fruit/", "--prefix", `--sort-by=${target}`, `--order=${order}`]);
      }
    }
    await same(["get", ""]);
    await same(["get", "", "--prefix", "-w", "json"]);
  }, 60_000);

  test("del: single, prefix, range, previous values, nothing", async () => {
    for (const key of ["d/1", "d/2", "d/3", "d/4", "d/5"]) await same(["put", key, `v-${key}`]);
    await same(["del", "d/1"]);
    await same(["del", "d/1"]);
    await same(["del", "d/2", "--prev-kv"]);
    await same(["del", "d/3", "d/5", "--prev-kv"]);
    await same(["del", "d/", "--prefix"]);
    await same(["get", "d/", "--prefix", "-w", "json"]);
  }, 30_000);

  test("txn: both branches, every compare", async () => {
    await same(["put", "t", "1"]);
    await same(["txn"], 'value("t") = "1"\n\nput t 2\nget t\n\nget t\n\n');
    await same(["txn"], 'value("t") = "1"\n\nput t 3\n\nget t\ndel t\n\n');
    await same(["txn"], 'version("t") = "0"\ncreate("t") = "0"\n\nput t 9\n\nget t\n\n');
    await same(["txn"], 'mod("t") > "1"\nlease("t") = "0"\n\nget t\n\ndel t\n\n');
    await same(["txn"], "\n\nput t 1\nput t 2\n\n\n");
  }, 30_000);

  test("compaction: reads and watches below it are refused", async () => {
    for (const value of ["1", "2", "3", "4"]) await same(["put", "c", value]);
    const { header } = (await ours.json(["get", "c"])) as { header: { revision: number } };
    const at = String(header.revision - 1);
    await same(["compaction", at]);
    await same(["compaction", at]);
    await same(["compaction", "99999", "--physical"]);
    await same(["get", "c", `--rev=${header.revision - 2}`]);
    await same(["get", "c", `--rev=${at}`]);
    await same(["watch", "c", "--rev=2"]);
    await same(["compaction", String(header.revision), "--physical"]);
  }, 30_000);

  test("watch: prefix, revision, previous values, progress", async () => {
    const watched = await Promise.all(
      [theirs, ours].map(async (etcdctl) => {
        await etcdctl.ok(["put", "w/a", "1"]);
        const { header } = (await etcdctl.json(["get", "w/a"])) as { header: { revision: number } };
        const watch = etcdctl.start(["watch", "w/", "--prefix", "--prev-kv", `--rev=${header.revision}`]);
        await watch.until((output) => output.includes("w/a"));
        await etcdctl.ok(["put", "w/a", "2"]);
        await etcdctl.ok(["put", "w/b", "3"]);
        await etcdctl.ok(["del", "w/", "--prefix"]);
        await watch.until((output) => output.split("DELETE").length === 3);
        const interactive = etcdctl.start(["watch", "-i"]);
        interactive.write("watch --prefix q/");
        await Bun.sleep(300);
        interactive.write("progress");
        await interactive.until((output) => output.includes("progress notify"));
        await etcdctl.ok(["put", "q/x", "y"]);
        await interactive.until((output) => output.includes("q/x"));
        const [events, progress] = await Promise.all([watch.interrupt(), interactive.interrupt()]);
        return { events: events.stdout, progress: progress.stdout };
      }),
    );
    expect(watched[1]).toEqual(watched[0]);
  }, 60_000);

  test("lease: grant, put, timetolive with keys, keep-alive, list, revoke", async () => {
    const told = await Promise.all(
      [theirs, ours].map(async (etcdctl) => {
        const granted = await etcdctl.ok(["lease", "grant", "300"]);
        const id = /lease (\w+) granted with TTL\(300s\)/.exec(granted)?.[1] ?? `none in ${granted}`;
        const lines: string[] = [];
        for (const args of [
          ["put", "l/a", "1", `--lease=${id}`],
          ["put", "l/b", "2", `--lease=${id}`],
          ["put", "l/c", "2", "--lease=1234"],
          ["lease", "timetolive", id],
          ["lease", "timetolive", id, "--keys"],
          ["lease", "keep-alive", "--once", id],
          ["lease", "list"],
          ["lease", "revoke", id],
          ["lease", "revoke", id],
          ["lease", "timetolive", id],
          ["lease", "keep-alive", "--once", id],
          ["get", "l/", "--prefix"],
        ]) {
          const result = await etcdctl.run(args);
          const text = JSON.stringify(comparable(result, etcdctl.endpoint));
          lines.push(
            text
              .replaceAll(id, "ID")
              .replaceAll(/remaining\(\d+s\)/g, "remaining(N)")
              // etcd lists them in no particular order.
              .replaceAll(/(?<=attached keys\(\[)[^\]]*/g, (keys) => keys.split(" ").sort().join(" ")),
          );
        }
        return lines;
      }),
    );
    expect(told[1]).toEqual(told[0] ?? []);
  }, 60_000);

  test("a lease that is not kept alive takes its keys along", async () => {
    const granted = await ours.ok(["lease", "grant", "2"]);
    const id = /lease (\w+) granted/.exec(granted)?.[1] ?? "";
    await ours.ok(["put", "expires", "soon", `--lease=${id}`]);
    expect(await ours.ok(["get", "expires"])).toContain("soon");
    const deadline = performance.now() + 8_000;
    while ((await ours.ok(["get", "expires"])) !== "") {
      if (performance.now() > deadline) throw new Error("the key outlived its lease by far");
      await Bun.sleep(200);
    }
    expect(await ours.ok(["lease", "timetolive", id])).toContain("already expired");
  }, 30_000);

  test("alarm, defrag, endpoint health, member list", async () => {
    await same(["alarm", "list"]);
    await same(["alarm", "disarm"]);
    await same(["defrag"]);
    await same(["endpoint", "health"]);
    const [a, b] = await Promise.all(
      [theirs, ours].map(async (etcdctl) => {
        const rows = (await etcdctl.ok(["member", "list"])).trim().split(", ");
        return { fields: rows.length, status: rows[1], name: rows[2], learner: rows[5] };
      }),
    );
    expect(JSON.stringify(b)).toBe(JSON.stringify(a));
  }, 30_000);

  test("endpoint status has every field", async () => {
    const [a, b] = await Promise.all(
      [theirs, ours].map(async (etcdctl) => {
        const [status] = (await etcdctl.json(["endpoint", "status"])) as {
          Status: Record<string, unknown>;
        }[];
        return status?.Status ?? {};
      }),
    );
    expect(Object.keys(b ?? {}).sort()).toEqual(Object.keys(a ?? {}).sort());
    expect(Number(b?.["dbSize"])).toBeGreaterThan(0);
    expect(await ours.ok(["endpoint", "status"])).toContain("true, false");
  }, 30_000);

  test("hashkv agrees for the same history", async () => {
    const script = async (etcdctl: Etcdctl): Promise<unknown> => {
      const [row] = (await etcdctl.json(["endpoint", "hashkv"])) as { HashKV: Record<string, unknown> }[];
      return { hash: row?.HashKV["hash"], compacted: row?.HashKV["compact_revision"] };
    };
    // The lease of an earlier test expired on Keelson only: start over on fresh servers.
    const pair = await Promise.all([startEtcd(), startKeelson()]);
    const both = await Promise.all(pair.map((server) => Etcdctl.for(server.url)));
    for (const etcdctl of both) {
      for (const args of [
        ["put", "a", "1"],
        ["put", "b", "2"],
        ["del", "a"],
        ["put", "a", "3"],
        ["compaction", "4"],
      ]) {
        await etcdctl.ok(args);
      }
    }
    const [a, b] = await Promise.all(both.map(script));
    expect(b).toEqual(a as object);
    await Promise.all(pair.map((server) => server.kill()));
  }, 30_000);

  test("snapshot save writes a file that etcdctl accepts", async () => {
    const file = join(scratchDir("snapshot"), "backup.db");
    await ours.ok(["snapshot", "save", file]);
    const { size } = statSync(file);
    expect(size).toBeGreaterThan(0);
  }, 30_000);

  test("lock: one holder, the next one when it goes", async () => {
    const first = ours.start(["lock", "door"]);
    const key = (await first.until((output) => output.includes("door/"))).trim();
    expect(key).toMatch(/^door\/[0-9a-f]+$/);
    const second = ours.start(["lock", "door"]);
    await Bun.sleep(400);
    expect(second.output()).toBe("");
    await first.interrupt();
    await second.until((output) => output.includes("door/"));
    await second.interrupt();
    expect(await ours.ok(["lock", "door", "echo", "inside"])).toBe("inside\n");
    expect(await ours.ok(["get", "door/", "--prefix", "--keys-only"])).toBe("");
  }, 60_000);

  test("elect: one leader, observers learn of it, the next one follows", async () => {
    const first = ours.start(["elect", "post", "alice"]);
    await first.until((output) => output.includes("alice"));
    const observer = ours.start(["elect", "-l", "post"]);
    await observer.until((output) => output.includes("alice"));
    const second = ours.start(["elect", "post", "bob"]);
    await Bun.sleep(300);
    expect(second.output()).toBe("");
    await first.interrupt();
    await second.until((output) => output.includes("bob"));
    await observer.until((output) => output.includes("bob"));
    await Promise.all([second.interrupt(), observer.interrupt()]);
  }, 60_000);

  // Each load takes a minute.
  const loads = process.env["KEELSON_CHECK_PERF_M"] === "1" ? ["s", "m"] : ["s"];
  for (const load of loads) {
    test(`check perf with load ${load} passes`, async () => {
      const output = await ours.ok(["check", "perf", `--load=${load}`]);
      expect(output).toContain("PASS\n");
      expect(output).not.toContain("FAIL");
    }, 150_000);
  }

  test("neither process ended", () => {
    expect(reference.exited).toBeUndefined();
    expect(subject.exited).toBeUndefined();
    expect(calibrating || subject.kind === "keelson").toBe(true);
  });
});
