/**
 * `npm run bench`: this build and a real etcd side by side, on one machine in one run, both syncing their logs.
 * Samples are interleaved; the table shows medians and their ratio. After each run the store's revision must have
 * advanced by the number of successes; where a check fails or a generator saturates, the table says so.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import Table from "cli-table3";

import { nearestName } from "../../src/command/nearest";
import { ensureEtcd } from "../tools/etcd";
import { type Cluster, startCluster } from "../tools/cluster";
import { repositoryDir } from "../tools/install";
import { type Server, startEtcd, startKeelson } from "../tools/server";
import { type Bench, type Measure, type Outcome, type Row, type Scenario, scenarios } from "./scenarios";

const usage = `usage: npm run bench -- [--rows ${scenarios.map(({ name }) => name).join(",")}]
  [--pairs 5] [--quick] [--only keelson|etcd] [--json]`;

type Kind = "keelson" | "etcd";
const kinds: readonly Kind[] = ["keelson", "etcd"];

function fail(reason: string): never {
  process.stderr.write(`bench: ${reason}\n${usage}\n`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        rows: { type: "string" },
        pairs: { type: "string" },
        quick: { type: "boolean", default: false },
        only: { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

function chosenScenarios(rows: string | undefined): readonly Scenario[] {
  if (rows === undefined) return scenarios;
  return rows.split(",").map((name) => {
    const found = scenarios.find((scenario) => scenario.name === name);
    if (found !== undefined) return found;
    const nearest = nearestName(
      name,
      scenarios.map((scenario) => scenario.name),
    );
    return fail(`there is no row "${name}"${nearest === undefined ? "" : `; did you mean ${nearest}?`}`);
  });
}

/** Runs one scenario against one fresh server; its data lies on the repository's disk and is removed afterwards. */
async function sample(scenario: Scenario, kind: Kind, quick: boolean): Promise<Outcome> {
  const parent = join(repositoryDir, ".cache");
  mkdirSync(parent, { recursive: true });
  const scratch = mkdtempSync(join(parent, "bench-"));
  const started: Server[] = [];
  const clusters: Cluster[] = [];
  let lastStartMs = 0;
  const bench: Bench = {
    scratch,
    quick,
    get lastStartMs() {
      return lastStartMs;
    },
    async start(flags = []) {
      const options = { dataDir: join(scratch, "data"), flags, readyTimeoutMs: 120_000 };
      const beginMs = performance.now();
      const server = await (kind === "etcd"
        ? startEtcd({ ...options, fsync: true })
        : startKeelson({ ...options, flags: [...flags, "--log-level", "warn"] }));
      lastStartMs = performance.now() - beginMs;
      started.push(server);
      return server;
    },
    async startCluster(flags = []) {
      const cluster = await startCluster({
        size: 3,
        kind,
        fsync: true,
        directory: join(scratch, "cluster"),
        flags: kind === "etcd" ? flags : [...flags, "--log-level", "warn"],
      });
      clusters.push(cluster);
      return cluster;
    },
  };
  try {
    return await scenario.run(bench);
  } finally {
    for (const cluster of clusters) await cluster.stop();
    for (const server of started) if (server.exited === undefined) await server.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

interface RowResult {
  readonly row: Row;
  readonly ours: number | undefined;
  readonly theirs: number | undefined;
  readonly ratio: number | undefined;
  readonly met: boolean | undefined;
  readonly oursCpuMicroseconds: number | undefined;
  readonly theirsCpuMicroseconds: number | undefined;
  readonly saturated: boolean;
}

function rowResult(row: Row, outcomes: Readonly<Record<Kind, readonly Outcome[]>>): RowResult {
  const measures = (kind: Kind): Measure[] =>
    outcomes[kind].flatMap(({ measures: all }) => (all[row.key] === undefined ? [] : [all[row.key]!]));
  const middle = (kind: Kind): number | undefined => {
    const values = measures(kind).map(({ value }) => value);
    return values.length === 0 ? undefined : median(values);
  };
  const cpu = (kind: Kind): number | undefined => {
    const values = measures(kind).flatMap(({ serverCpuMicroseconds }) => serverCpuMicroseconds ?? []);
    return values.length === 0 ? undefined : median(values);
  };
  const ours = middle("keelson");
  const theirs = middle("etcd");
  const ratio = ours === undefined || theirs === undefined ? undefined : ours / theirs;
  return {
    row,
    ours,
    theirs,
    ratio,
    met: goalMet(row, ours, ratio),
    oursCpuMicroseconds: cpu("keelson"),
    theirsCpuMicroseconds: cpu("etcd"),
    saturated: kinds.some((kind) => measures(kind).some(({ saturated }) => saturated === true)),
  };
}

function goalMet(row: Row, ours: number | undefined, ratio: number | undefined): boolean | undefined {
  if (row.ownGoal !== undefined) return ours === undefined ? undefined : ours <= row.ownGoal;
  if (row.ratioGoal === undefined || ratio === undefined) return undefined;
  return row.better === "higher" ? ratio >= row.ratioGoal : ratio <= row.ratioGoal;
}

function shown(value: number | undefined): string {
  if (value === undefined) return "-";
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}

function goalText(row: Row): string {
  if (row.ownGoal !== undefined) return `ours <= ${row.ownGoal} ${row.unit}`;
  if (row.ratioGoal === undefined) return "";
  return `${row.better === "higher" ? ">=" : "<="} ${row.ratioGoal}`;
}

function verdict({ met, saturated }: RowResult): string {
  const goal = met === undefined ? "" : met ? "met" : "missed";
  return [goal, saturated ? "generator saturated" : ""].filter(Boolean).join(", ");
}

const values = readArguments();
if (values.help) {
  process.stdout.write(`${usage}\n`);
  process.exit(0);
}
const pairs = values.pairs === undefined ? undefined : Number(values.pairs);
if (pairs !== undefined && !(Number.isInteger(pairs) && pairs > 0))
  fail(`--pairs: "${values.pairs}" is no count`);
const only = kinds.filter((kind) => values.only === undefined || kind === values.only);
if (only.length === 0) fail(`--only: "${values.only}" is neither keelson nor etcd`);
const chosen = chosenScenarios(values.rows);
const { version } = await ensureEtcd();

const results: RowResult[] = [];
const failures: string[] = [];
const stalls: Record<Kind, number> = { keelson: 0, etcd: 0 };
for (const scenario of chosen) {
  const outcomes: Record<Kind, Outcome[]> = { keelson: [], etcd: [] };
  const repetitions = pairs ?? (values.quick || scenario.heavy ? 1 : 5);
  for (let pair = 0; pair < repetitions; pair++) {
    // Whoever goes first meets a quieter disk; they take turns.
    for (const kind of pair % 2 === 0 ? only : only.toReversed()) {
      process.stderr.write(`${scenario.name} ${pair + 1}/${repetitions}: ${kind} ...`);
      try {
        const outcome = await sample(scenario, kind, values.quick);
        outcomes[kind].push(outcome);
        stalls[kind] = Math.max(stalls[kind], outcome.stallMs);
        for (const failure of outcome.failures) failures.push(`${scenario.name}, ${kind}: ${failure}`);
        const said = Object.values(outcome.measures).map(({ value }) => shown(value));
        process.stderr.write(` ${said.join(" ")}\n`);
      } catch (error) {
        failures.push(`${scenario.name}, ${kind}: ${error instanceof Error ? error.message : String(error)}`);
        process.stderr.write(" failed\n");
      }
    }
  }
  for (const row of scenario.rows) results.push(rowResult(row, outcomes));
}
const stallRow: Row = {
  key: "stall",
  title: "longest stall during any of these",
  unit: "ms",
  better: "lower",
  ownGoal: 50,
};
const ours = only.includes("keelson") ? stalls.keelson : undefined;
const theirs = only.includes("etcd") ? stalls.etcd : undefined;
results.push({
  row: stallRow,
  ours,
  theirs,
  ratio: ours === undefined || theirs === undefined ? undefined : ours / theirs,
  met: goalMet(stallRow, ours, undefined),
  oursCpuMicroseconds: undefined,
  theirsCpuMicroseconds: undefined,
  saturated: false,
});

if (values.json) {
  process.stdout.write(`${JSON.stringify({ etcd: version, quick: values.quick, results, failures })}\n`);
} else {
  const table = new Table({
    head: ["work", "keelson", `etcd ${version}`, "ratio", "goal", "", "CPU/op us", "their CPU/op us"],
    style: { head: [], border: [] },
    colAligns: ["left", "right", "right", "right", "left", "left", "right", "right"],
  });
  for (const result of results) {
    table.push([
      `${result.row.title} [${result.row.unit}]`,
      shown(result.ours),
      shown(result.theirs),
      result.ratio === undefined ? "-" : result.ratio.toFixed(2),
      goalText(result.row),
      verdict(result),
      shown(result.oursCpuMicroseconds),
      shown(result.theirsCpuMicroseconds),
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
  if (values.quick) {
    process.stdout.write(
      "quick: shorter runs and fewer keys than the titles say; this shows that it works, no more\n",
    );
  }
  for (const failure of failures) process.stdout.write(`FAIL ${failure}\n`);
}
process.exit(failures.length === 0 ? 0 : 1);
