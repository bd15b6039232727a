/** What CI runs of the simulator: 100 seeds of a virtual minute, the seeds that once failed, some planted bugs. */
import { expect, test } from "bun:test";
import { availableParallelism } from "node:os";
import { plantedBugs } from "./planted-bugs";
import { runPool, type SeedResult } from "./pool";
import { regressions } from "./regressions";
import type { SeedRequest } from "./worker";

const workers = availableParallelism();

async function run(seeds: readonly SeedRequest[], planted?: string): Promise<SeedResult[]> {
  const results: SeedResult[] = [];
  await runPool({
    workers,
    seeds,
    ...(planted === undefined ? {} : { planted }),
    done: (result) => {
      results.push(result);
      // With a planted bug, one is enough.
      return planted === undefined || result.ok;
    },
  });
  return results;
}

function failures(results: readonly SeedResult[]): string[] {
  return results.filter(({ ok }) => !ok).map(({ seed, violation }) => `seed ${seed}: ${violation}`);
}

function numbered(count: number, options: Omit<SeedRequest, "seed">): SeedRequest[] {
  return Array.from({ length: count }, (_, i) => ({ seed: i + 1, ...options }));
}

test("100 seeds of a virtual minute keep every promise, and what they should meet occurs", async () => {
  const results = await run(numbered(100, { seconds: 60 }));
  expect(failures(results)).toEqual([]);
  const totals = new Map<string, number>();
  for (const { counts } of results)
    for (const [name, count] of Object.entries(counts)) totals.set(name, (totals.get(name) ?? 0) + count);
  // A batch without one of these would say that the options are wrong.
  for (const name of [
    "fault: crash",
    "fault: powerCut",
    "fault: powerCut of all",
    "fault: pause",
    "fault: partition: ring",
    "fault: partition: bridge",
    "fault: partition: one-way leader",
    "fault: clog",
    "fault: flap",
    "fault: slowDisk",
    "fault: fullDisk",
    "fault: wallClock",
    "fault: stop",
    "fault: transfer",
    "fault: add",
    "fault: promote",
    "fault: remove",
    "consensus: installs",
    "consensus: configurationChanges",
    "lease: expired",
    "lease: ignored",
    "lease: handedOver",
    "watch: compacted",
    "watch: resumed",
    "load: stale",
    "network: repeated",
  ])
    expect(`${name} ${totals.get(name) ?? 0}`).not.toBe(`${name} 0`);
}, 900_000);

test("the same seeds have the same traces in another process", async () => {
  const results = await run(numbered(6, { seconds: 10, twice: true }));
  expect(results.map(({ repeated }) => repeated)).toEqual(results.map(({ traceHash }) => traceHash));
}, 300_000);

test.each(regressions())(
  "seed $seed: $name",
  async ({ seed, seconds }) => {
    expect(failures(await run([{ seed, seconds }]))).toEqual([]);
  },
  120_000,
);

/** Found fast; the command runs all of them. */
const quick = [
  "answer-before-sync",
  "leader-counts-itself-before-sync",
  "read-index-without-quorum",
  "applied-index-apart-from-rows",
  "watch-resumes-late",
  "progress-before-queued-events",
];

test.each(quick)(
  "the planted bug %s is caught",
  async (name) => {
    expect(plantedBugs.some((bug) => bug.name === name)).toBe(true);
    const results = await run(numbered(60, { seconds: 30 }), name);
    expect(failures(results)).not.toEqual([]);
  },
  300_000,
);
