/**
 * How long each page of the console takes to its last byte, on the leader, with a million keys, while the put benchmark
 * runs: `bun test/page-times/run.ts [--members 1] [--keys 1000000] [--loads 20] [--only keys]`. Exit code 1 when the p95 of
 * a page, downloads apart, is above 100 ms.
 *
 * With `--open 50 [--pairs 7] [--seconds 5]`: what fifty open Overviews add to the processor time of a put.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { type Cluster, startCluster } from "../tools/cluster";
import { repositoryDir } from "../tools/install";
import type { Server } from "../tools/server";
import { runBench } from "../bench/load";
import { compareOpenPages } from "./open-pages";

const goalMs = 100;
const pauseMs = 50;
const { values } = parseArgs({
  options: {
    members: { type: "string", default: "3" },
    keys: { type: "string", default: "1000000" },
    loads: { type: "string", default: "20" },
    only: { type: "string" },
    open: { type: "string" },
    pairs: { type: "string", default: "7" },
    seconds: { type: "string", default: "5" },
  },
});
const keys = Number(values.keys);
const loads = Number(values.loads);

interface Timed {
  readonly what: string;
  readonly path: string;
  /** A file, not a page. */
  readonly download?: true;
}

const load = "put --clients 50 --in-flight 20 --no-probe";

/** Seven tenths of the keys below one prefix, the rest over levels. */
async function fill(server: Server): Promise<void> {
  const branches = 20;
  const flat = Math.floor(keys * 0.7);
  const each = Math.floor((keys - flat) / branches);
  const parts = [
    { prefix: "flat/", count: flat },
    ...Array.from({ length: branches }, (_, at) => ({ prefix: `tree/${at}/leaves/`, count: each })),
  ];
  for (const { prefix, count } of parts) {
    const argv = `${load} --sequential --key-prefix ${prefix} --key-size ${prefix.length + 12} --key-space ${count} --total ${count}`;
    const { failures } = await runBench(server, argv.split(" "));
    if (failures.length > 0) throw new Error(failures.join("; "));
  }
}

async function textOf(url: string, init: RequestInit = {}): Promise<string> {
  return (await fetch(url, init)).text();
}

/** Every page, at what is most to do for it. */
async function pagesOf(base: string): Promise<Timed[]> {
  const status = JSON.parse(await textOf(`${base}/api/v1/status`)) as {
    readonly memberId: string;
    readonly revision: string;
  };
  const list = JSON.parse(await textOf(`${base}/api/v1/members`)) as {
    readonly members: readonly { readonly id: string; readonly leader: boolean }[];
  };
  const other = list.members.find(({ leader }) => !leader)?.id ?? status.memberId;
  const taken = JSON.parse(await textOf(`${base}/api/v1/snapshots`, { method: "POST" })) as {
    readonly id: string;
  };
  let snapshot: string | undefined;
  for (let tries = 0; snapshot === undefined && tries < 600; tries++) {
    await Bun.sleep(100);
    const { snapshots } = JSON.parse(await textOf(`${base}/api/v1/snapshots`)) as {
      readonly snapshots: readonly { readonly name: string }[];
    };
    snapshot = snapshots[0]?.name;
  }
  const past = Math.floor(Number(status.revision) * 0.6);
  const key = `k=tree/3/leaves/${"0".repeat(11)}7`;
  return [
    { what: "Overview", path: "/" },
    { what: "Members", path: "/members" },
    { what: "Member", path: `/members/${status.memberId}` },
    { what: "Member, another", path: `/members/${other}` },
    { what: "Add member, with its effect", path: "/members/add?url=http://127.0.0.1:1&kind=learner" },
    { what: "Promote", path: `/members/${other}/promote` },
    { what: "Remove", path: `/members/${other}/remove` },
    { what: "Move the leader", path: `/members/${other}/lead` },
    { what: "Keys, the tree", path: "/keys" },
    { what: "Keys, 20 branches", path: "/keys?prefix=tree/" },
    { what: "Keys, a level of 700,000", path: "/keys?prefix=flat/" },
    { what: "Keys, flat", path: "/keys?delimiter=" },
    { what: "Keys, search with many hits", path: "/keys?find=7" },
    { what: "Keys, search without a hit", path: "/keys?find=nowhere" },
    { what: "Keys, in the past", path: `/keys?rev=${past}` },
    { what: "Keys, a level in the past", path: `/keys?prefix=flat/&rev=${past}` },
    { what: "Keys, branches in the past", path: `/keys?prefix=tree/&rev=${past}` },
    { what: "Keys, search in the past", path: `/keys?find=nowhere&rev=${past}` },
    { what: "Key", path: `/key?${key}` },
    { what: "Key, as hex", path: `/key?${key}&view=hex` },
    { what: "Key, edit", path: `/key/edit?${key}` },
    { what: "Key, new", path: "/key/new?prefix=tree/" },
    { what: "Key, history", path: `/key/history?${key}` },
    { what: "Key, delete", path: `/key/delete?${key}` },
    { what: "Delete 700,000 keys", path: "/keys/delete?prefix=flat/" },
    { what: "Copy 700,000 keys", path: "/keys/copy?prefix=flat/" },
    { what: "Import", path: "/keys/import" },
    { what: "Export 15,000 keys", path: "/keys/export?prefix=tree/3/&format=ndjson", download: true },
    { what: "Snapshots", path: "/snapshots" },
    ...(snapshot === undefined
      ? []
      : [
          { what: "Snapshot, compared with now", path: `/snapshots/${snapshot}` },
          { what: "Snapshot, delete", path: `/snapshots/${snapshot}/delete` },
        ]),
    { what: "Job", path: `/jobs/${taken.id}` },
    { what: "Metrics", path: "/metrics" },
    { what: "Help", path: "/help" },
    { what: "Help, a topic", path: "/help/guarantees" },
    { what: "Kit", path: "/kit" },
  ];
}

/** Milliseconds to the last byte of each load, the shortest first, and the bytes of the last. */
async function timed(url: string): Promise<{ readonly tookMs: number[]; readonly bytes: number }> {
  const tookMs: number[] = [];
  let bytes = 0;
  for (let at = 0; at < loads; at++) {
    const startedAtMs = performance.now();
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    bytes = (await answer.arrayBuffer()).byteLength;
    tookMs.push(performance.now() - startedAtMs);
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
    // Spread over a second or more, so that a lull of the load is not taken for the usual.
    await Bun.sleep(pauseMs);
  }
  return { tookMs: tookMs.sort((a, b) => a - b), bytes };
}

/** Loads every page, and prints how long each took; false when one was late. */
async function timePages(cluster: Cluster): Promise<boolean> {
  let missed = 0;
  const leader = await cluster.leader();
  const server = leader.server!;
  const beganAtMs = performance.now();
  await fill(server);
  console.log(`${keys} keys in ${((performance.now() - beganAtMs) / 1_000).toFixed(0)} s`);
  const all = await pagesOf(leader.clientUrl);
  const over = Promise.withResolvers<void>();
  const space = Math.floor(keys * 0.7);
  const argv = `${load} --random --key-prefix flat/ --key-size 17 --key-space ${space} --duration 600s`;
  const puts = runBench(server, argv.split(" "), over.promise);
  await Bun.sleep(1_000);
  const table = new Table({
    head: ["page", "p50 ms", "p95 ms", "max ms", "KB", ""],
    colAligns: ["left", "right", "right", "right", "right", "left"],
    style: { head: [], border: [] },
  });
  for (const { what, path, download } of all) {
    if (values.only !== undefined && !path.startsWith(`/${values.only}`)) continue;
    const { tookMs, bytes } = await timed(`${leader.clientUrl}/ui${path}`);
    const p95Ms = tookMs[Math.ceil(tookMs.length * 0.95) - 1]!;
    const late = p95Ms >= goalMs && download !== true;
    if (late) missed++;
    table.push([
      what,
      tookMs[Math.floor(tookMs.length / 2)]!.toFixed(1),
      p95Ms.toFixed(1),
      tookMs.at(-1)!.toFixed(1),
      (bytes / 1_024).toFixed(1),
      download === true ? "download" : late ? "LATE" : "",
    ]);
  }
  over.resolve();
  const beside = await puts;
  console.log(String(table));
  console.log(
    `${values.members} member(s), ${loads} loads of each page beside ${beside.perSecond.toFixed(0)} puts/s` +
      (beside.failures.length > 0 ? `; ${beside.failures.join("; ")}` : ""),
  );
  return missed === 0;
}

const parent = join(repositoryDir, ".cache");
mkdirSync(parent, { recursive: true });
const directory = mkdtempSync(join(parent, "pages-"));
const cluster = await startCluster({
  size: Number(values.members),
  kind: "keelson",
  directory,
  flags: ["--quota-backend-bytes", String(8 * 1024 ** 3), "--log-level", "warn"],
});
let met = false;
try {
  met =
    values.open === undefined
      ? await timePages(cluster)
      : await compareOpenPages(cluster, {
          pages: Number(values.open),
          pairs: Number(values.pairs),
          seconds: Number(values.seconds),
        });
} finally {
  await cluster.kill();
  rmSync(directory, { recursive: true, force: true });
}
process.exit(met ? 0 : 1);
