/** Snapshots from taking to a cluster that goes on from one. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePorts, keelsonCommand, scratchDir } from "../tools/server";
import { at, RestHarness } from "./harness";

const folder = scratchDir("snapshots");
const file = join(folder, "saved.db");
let store: RestHarness;
let revision = 0;

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The executable's snapshot commands, as a person runs them. */
function snapshot(...argv: readonly string[]): Ran {
  const [program = "", ...rest] = keelsonCommand();
  const ran = spawnSync(program, [...rest, "snapshot", ...argv], { encoding: "utf8" });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

/** As `snapshot`, leaving this process free to serve. */
async function snapshotMeanwhile(...argv: readonly string[]): Promise<Ran> {
  const child = Bun.spawn([...keelsonCommand(), "snapshot", ...argv], { stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { code: await child.exited, out, err };
}

/** What became of a job. */
async function ended(on: RestHarness, answer: { json: unknown }): Promise<unknown> {
  for (;;) {
    const { json } = await on.ask("GET", `/jobs/${at(answer.json, "id")}`);
    if (at(json, "state") !== "running") return json;
    await Bun.sleep(10);
  }
}
const job = (answer: { json: unknown }): Promise<unknown> => ended(store, answer);

beforeAll(async () => {
  store = await RestHarness.start();
  await store.ask("POST", "/leases", { body: { ttl: 5_000, id: "00000000000000aa" } });
  for (let i = 0; i < 300; i++) await store.ask("PUT", `/kv/key/${i}`, { body: `value ${i}` });
  await store.ask("PUT", "/kv/leased?lease=aa", { body: "x" });
  await store.ask("DELETE", "/kv/key/0");
  revision = Number(
    (await store.ask("PUT", "/kv/once", { body: "1", headers: { "Idempotency-Key": "once" } })).headers[
      "keelson-revision"
    ],
  );
});
afterAll(() => store.stop());

describe("snapshots over REST", () => {
  test("are taken, listed, downloaded in ranges, verified and deleted", async () => {
    const done = await job(await store.ask("POST", "/snapshots"));
    expect(done).toMatchObject({ state: "done", result: { revision: String(revision) } });
    const name = at(done, "result", "name");
    expect((await store.ask("GET", "/snapshots")).json).toMatchObject({ snapshots: [{ name }], silent: [] });
    const whole = await store.ask("GET", `/snapshots/${name}/content`);
    expect(whole.bytes.length).toBe(Number(at(done, "result", "bytes")));
    const part = await store.ask("GET", `/snapshots/${name}/content`, {
      headers: { range: "bytes=100-199" },
    });
    expect(part.status).toBe(206);
    expect(part.headers["content-range"]).toBe(`bytes 100-199/${whole.bytes.length}`);
    expect(Buffer.compare(part.bytes, whole.bytes.subarray(100, 200))).toBe(0);
    const end = await store.ask("GET", `/snapshots/${name}/content`, { headers: { range: "bytes=-32" } });
    expect(Buffer.from(end.bytes).toString("hex")).toBe(at(done, "result", "sha256"));
    const beyond = await store.ask("GET", `/snapshots/${name}/content`, {
      headers: { range: `bytes=${whole.bytes.length}-` },
    });
    expect(beyond.status).toBe(416);
    const stale = await store.ask("GET", `/snapshots/${name}/content`, {
      headers: { range: "bytes=0-1", "if-range": '"other"' },
    });
    expect(stale.status).toBe(200);
    expect(await job(await store.ask("POST", `/snapshots/${name}/verify`))).toMatchObject({
      state: "done",
      result: { sound: true },
    });

    const path = join(store.directory, "snapshots", `${name}.snapshot`);
    const bytes = readFileSync(path);
    bytes[5_000] = bytes[5_000]! ^ 1;
    writeFileSync(path, bytes);
    expect(await job(await store.ask("POST", `/snapshots/${name}/verify`))).toMatchObject({
      result: { sound: false },
    });
    expect((await store.ask("DELETE", `/snapshots/${name}`)).json).toEqual({ deleted: true });
    expect((await store.ask("GET", `/snapshots/${name}`)).status).toBe(404);
    expect((await store.ask("GET", "/snapshots")).json).toMatchObject({ snapshots: [] });
    expect((await store.ask("POST", "/snapshots", { body: { member: "1" } })).status).toBe(404);
  });
});

describe("keelson snapshot", () => {
  test("save downloads one and leaves none behind; status says what it holds", async () => {
    const saved = await snapshotMeanwhile("save", file, "--endpoint", store.url, "-w", "json");
    expect([saved.code, saved.err]).toEqual([0, ""]);
    expect(JSON.parse(saved.out)).toMatchObject({ revision, keys: 301, leases: 1 });
    expect(existsSync(`${file}.part`)).toBe(false);
    expect((await store.ask("GET", "/snapshots")).json).toMatchObject({ snapshots: [] });
    const status = snapshot("status", file, "-w", "json");
    expect(JSON.parse(status.out)).toMatchObject({ revision, keys: 301, members: ["default"] });
    expect(snapshot("status", file).out).toContain("revision");
    expect((await snapshotMeanwhile("save", file, "--endpoint", store.url)).code).toBe(1);
  });

  test("a wrong, cut, altered or newer file is refused before anything is written", () => {
    const bytes = readFileSync(file);
    const bad: [name: string, content: Buffer, said: string][] = [
      ["empty", Buffer.alloc(0), "no whole snapshot"],
      ["text", Buffer.from("x".repeat(4_096 + 32)), "no snapshot of Keelson"],
      ["cut", bytes.subarray(0, bytes.length - 4_096), "altered"],
      ["torn", bytes.subarray(0, bytes.length - 7), "cut"],
      ["undigested", bytes.subarray(0, bytes.length - 32), "cut"],
    ];
    for (const place of [200, 20_000, bytes.length - 1]) {
      const altered = Buffer.from(bytes);
      altered[place] = altered[place]! ^ 0x10;
      bad.push([`altered at ${place}`, altered, "altered"]);
    }
    const newer = Buffer.from(bytes);
    newer.writeUInt32BE(newer.readUInt32BE(60) + 1, 60);
    bad.push(["newer", newer, "newer Keelson"]);
    // Whoever alters a row and mends the digest is found out by the row's own checksum.
    const forged = Buffer.from(bytes);
    forged[forged.lastIndexOf("value 7")] = 0x56;
    createHash("sha256")
      .update(forged.subarray(0, -32))
      .digest()
      .copy(forged, forged.length - 32);
    bad.push(["forged", forged, "damaged"]);
    const parent = join(folder, "bad");
    mkdirSync(parent);
    for (const [name, content, said] of bad) {
      const path = join(folder, "bad.db");
      writeFileSync(path, content);
      const ran = snapshot("restore", path, "--data-dir", join(parent, "member"));
      expect([name, ran.code, ran.err.includes(said) ? said : ran.err]).toEqual([name, 1, said]);
      expect([name, readdirSync(parent)]).toEqual([name, []]);
    }
    const used = join(folder, "used");
    mkdirSync(used);
    writeFileSync(join(used, "something"), "");
    expect(snapshot("restore", file, "--data-dir", used).err).toContain("not empty");
    expect(readdirSync(used)).toEqual(["something"]);
    expect(snapshot("restore", file, "--data-dir", join(folder, "x"), "--mark-compacted").code).toBe(2);
    expect(snapshot("restore", file).code).toBe(2);
    expect(snapshot("status", join(folder, "absent")).code).toBe(1);
  }, 60_000);

  test("flags that could make no member are refused before anything is written, and the flag is named", () => {
    const parent = join(folder, "flags");
    mkdirSync(parent);
    const data = join(parent, "member");
    const cluster = ["--name", "a", "--initial-cluster"];
    for (const [said, ...flags] of [
      ["--bump-revision", "--bump-revision", "9007199254740991"],
      ["--initial-advertise-peer-urls", "--initial-advertise-peer-urls", "nowhere"],
      ["--initial-advertise-peer-urls", "--initial-advertise-peer-urls", "ftp://h:1"],
      ["--initial-cluster", ...cluster, "a=nowhere"],
      ["is there twice", ...cluster, "a=http://h:1,b=http://h:1"],
      ["is not in the list", ...cluster, "b=http://h:1"],
      ["differ", ...cluster, "a=http://h:1", "--initial-advertise-peer-urls", "http://h:2"],
    ] as const) {
      const ran = snapshot("restore", file, "--data-dir", data, ...flags);
      expect([flags, (ran.code ?? 0) > 0, ran.err.includes(said) ? said : ran.err]).toEqual([
        flags,
        true,
        said,
      ]);
      expect(ran.err).toStartWith("keelson snapshot: ");
    }
    expect(readdirSync(parent)).toEqual([]);
    const save = (...flags: string[]): string => snapshot("save", ...flags).err;
    expect(save(join(parent, "none", "x.db"))).toContain("does not exist");
    expect(save(join(parent, "x.db"), "--endpoint", "127.0.0.1:2379")).toContain("--endpoint: ");
    expect(save(join(parent, "x.db"), "--token-file", join(parent, "t"))).toContain("--token-file: ");
  }, 60_000);

  test("a restored member has the keys, a new identity, and watchers that go on where they were", async () => {
    const directory = join(folder, "restored");
    const ran = snapshot("restore", file, "--data-dir", directory, "-w", "json");
    expect([ran.code, ran.err]).toEqual([0, ""]);
    const before = (await store.ask("GET", "/status")).json;
    const restored = await RestHarness.start([], directory);
    try {
      const status = (await restored.ask("GET", "/status")).json;
      expect(at(status, "clusterId")).toBe(at(JSON.parse(ran.out), "clusterId"));
      expect(at(status, "clusterId")).not.toBe(at(before, "clusterId"));
      expect(at(status, "memberId")).not.toBe(at(before, "memberId"));
      expect(at(status, "revision")).toBe(String(revision));
      expect((await restored.ask("GET", "/kv/key/77")).text).toBe("value 77");
      expect((await restored.ask("GET", "/kv/key/0")).status).toBe(404);
      expect((await restored.ask("GET", "/leases/aa")).json).toMatchObject({ keys: [{ key: "leased" }] });
      const again = await restored.ask("PUT", "/kv/once", {
        body: "1",
        headers: { "Idempotency-Key": "once" },
      });
      expect(again.json).toMatchObject({ revision: String(revision), created: true });
      const put = await restored.ask("PUT", "/kv/after", { body: "restore" });
      expect(at(put.json, "revision")).toBe(String(revision + 1));
      const watched = await restored.ask("GET", `/watch?prefix=&after=${revision - 1}`, {
        headers: { accept: "application/x-ndjson" },
        leaveAfterMs: 100,
      });
      const ids = watched.text
        .trimEnd()
        .split("\n")
        .map((line) => at(JSON.parse(line), "id"));
      expect(ids.slice(0, 2)).toEqual([String(revision), String(revision + 1)]);
    } finally {
      await restored.stop();
    }
    // A restart reads its log and state like any other member's.
    const restarted = await RestHarness.start([], directory);
    expect((await restarted.ask("GET", "/kv/after")).text).toBe("restore");
    await restarted.stop();
  });

  test("with a bumped revision watchers from before are told that history is gone, and none sees a revision twice", async () => {
    const directory = join(folder, "bumped");
    const ran = snapshot(
      "restore",
      file,
      "--data-dir",
      directory,
      "--bump-revision",
      "1000000",
      "--mark-compacted",
      "-w",
      "json",
    );
    expect(JSON.parse(ran.out)).toMatchObject({ revision: revision + 1_000_000 });
    const restored = await RestHarness.start([], directory);
    try {
      expect((await restored.ask("GET", "/kv/key/77")).text).toBe("value 77");
      expect((await restored.ask("GET", `/watch?prefix=key&after=${revision}`)).json).toMatchObject({
        status: 410,
        oldestRevision: String(revision + 1_000_000),
      });
      const put = await restored.ask("PUT", "/kv/after", { body: "bump" });
      expect(at(put.json, "revision")).toBe(String(revision + 1_000_001));
      const watched = await restored.ask("GET", `/watch?key=after&after=${revision + 1_000_000}`, {
        headers: { accept: "application/x-ndjson" },
        leaveAfterFirst: true,
      });
      expect(watched.text).toContain(`"revision":"${revision + 1_000_001}"`);
      expect((await restored.ask("GET", "/kv/key/5?revision=5")).status).toBe(410);
    } finally {
      await restored.stop();
    }
  });

  test("several members are restored from one file, one run each, and are one cluster", async () => {
    const names = ["a", "b", "c"];
    const ports = await freePorts(3);
    const cluster = names.map((name, at) => `${name}=http://127.0.0.1:${ports[at]}`).join(",");
    const flagsOf = (at: number): string[] => [
      "--name",
      names[at]!,
      "--initial-cluster",
      cluster,
      `--initial-advertise-peer-urls=http://127.0.0.1:${ports[at]}`,
    ];
    for (const [at, name] of names.entries()) {
      const ran = snapshot("restore", file, "--data-dir", join(folder, `cluster-${name}`), ...flagsOf(at));
      expect([ran.code, ran.err]).toEqual([0, ""]);
    }
    const members = await Promise.all(
      names.map((name, at) =>
        RestHarness.start(
          [...flagsOf(at), "--listen-peer-urls", `http://127.0.0.1:${ports[at]}`],
          join(folder, `cluster-${name}`),
        ),
      ),
    );
    try {
      const [first, second, third] = members as [RestHarness, RestHarness, RestHarness];
      const put = await first.ask("PUT", "/kv/together", { body: "1" });
      expect(at(put.json, "revision")).toBe(String(revision + 1));
      expect((await second.ask("GET", "/kv/together")).text).toBe("1");
      expect((await third.ask("GET", "/kv/key/9")).text).toBe("value 9");
      expect(((await third.ask("GET", "/members")).json as { members: unknown[] }).members).toHaveLength(3);

      // What one member takes, any other shows, passes on, checks and removes.
      const holder = at((await third.ask("GET", "/status")).json, "memberId");
      const taken = await ended(first, await first.ask("POST", "/snapshots", { body: { member: holder } }));
      expect(taken).toMatchObject({ state: "done", result: { member: holder } });
      const name = at(taken, "result", "name");
      const [here, there] = await Promise.all([
        second.ask("GET", `/snapshots/${name}/content`),
        third.ask("GET", `/snapshots/${name}/content`),
      ]);
      expect(here.bytes.length).toBe(Number(at(taken, "result", "bytes")));
      expect(Buffer.compare(here.bytes, there.bytes)).toBe(0);
      expect((await first.ask("DELETE", `/snapshots/${name}`)).json).toEqual({ deleted: true });

      const preview = await first.ask("DELETE", `/members/${holder}?dryRun`);
      expect(preview.json).toMatchObject({
        dryRun: true,
        before: { quorum: 2, spare: 1 },
        after: { quorum: 2, spare: 0 },
      });
      const compared = await ended(first, await first.ask("POST", "/maintenance/hashes"));
      expect(compared).toMatchObject({ result: { equal: true } });
    } finally {
      await Promise.all(members.map((member) => member.stop()));
    }
  }, 60_000);
});
