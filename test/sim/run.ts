/**
 * `bun run sim`: seeds over the cores, every check on. Exits with 1 when a promise was broken, and says how to replay
 * that run.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { SingleBar } from "cli-progress";
import { type FaultFamily, faultFamilies } from "./options";
import { plantedBugs } from "./planted-bugs";
import { runPool, type SeedResult } from "./pool";
import { regressions } from "./regressions";
import { runSeed } from "./simulation";
import type { SeedRequest } from "./worker";

const usage = `bun run sim -- [options]
  --seeds A..B      seeds to run; default: 1..300. --random begins anywhere
  --seconds S       virtual seconds under faults, for each seed; default: 60
  --seed N          one seed, in this process
  --trace           with --seed: prints what happens
  --without F,…     without these families of faults: ${faultFamilies.join(", ")}
  --only F,…        with these families and no others
  --workers N       processes; default: one per core
  --twice N         runs every N-th seed twice and compares the traces; default: 10
  --regressions     the seeds of seeds.txt
  --planted         looks for the planted bugs, each in up to 1,000 seeds of 30 virtual seconds
  --bugs NAME,…     only these of the planted bugs
  --json            one line of JSON per seed, and one at the end`;

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    seeds: { type: "string", default: "1..300" },
    random: { type: "boolean", default: false },
    seconds: { type: "string" },
    seed: { type: "string" },
    trace: { type: "boolean", default: false },
    without: { type: "string" },
    only: { type: "string" },
    workers: { type: "string", default: String(availableParallelism()) },
    twice: { type: "string", default: "10" },
    regressions: { type: "boolean", default: false },
    planted: { type: "boolean", default: false },
    bugs: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function families(text: string | undefined): FaultFamily[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(",").filter((name) => name !== "");
  for (const name of names) {
    if (!faultFamilies.some((family) => family === name))
      throw new Error(`there are no faults called ${name}; there are ${faultFamilies.join(", ")}`);
  }
  return names as FaultFamily[];
}

const without = families(values.without);
const only = families(values.only);
const overrides = {
  ...(without === undefined ? {} : { without }),
  ...(only === undefined ? {} : { only }),
};
const seconds = Number(values.seconds ?? (values.planted ? 30 : 60));
const workers = Number(values.workers);

function replayCommand(seed: number): string {
  const faults =
    (values.only === undefined ? "" : ` --only ${values.only}`) +
    (values.without === undefined ? "" : ` --without ${values.without}`);
  return `bun run sim -- --seed ${seed} --seconds ${seconds}${faults} --trace`;
}

/** One seed here, so that a debugger can look on. */
function replay(seed: number): never {
  const startedAtMs = performance.now();
  const result = runSeed(seed, {
    seconds,
    ...overrides,
    ...(values.trace ? { trace: (line) => void process.stdout.write(`${line}\n`) } : {}),
  });
  const tookSeconds = (performance.now() - startedAtMs) / 1_000;
  console.log(JSON.stringify(result, undefined, 2));
  console.log(`${(result.virtualMs / 1_000 / tookSeconds).toFixed(1)} virtual seconds per second`);
  process.exit(result.ok ? 0 : 1);
}

function* requests(): Generator<SeedRequest> {
  const every = Number(values.twice);
  if (values.regressions) {
    for (const { seed, seconds: of } of regressions()) yield { seed, seconds: of };
    return;
  }
  const match = /^(\d+)\.\.(\d+)$/.exec(values.seeds);
  if (match === null) throw new Error(`--seeds wants A..B, not ${values.seeds}`);
  const [from, to] = [Number(match[1]), Number(match[2])];
  const offset = values.random ? Math.floor(Math.random() * 1_000_000_000) : 0;
  for (let seed = from; seed <= to; seed++) {
    yield { seed: seed + offset, seconds, ...overrides, twice: every > 0 && (seed - from) % every === 0 };
  }
}

function sumInto(totals: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + count;
}

async function runSeeds(): Promise<number> {
  const all = [...requests()];
  const failed: SeedResult[] = [];
  const totals: Record<string, number> = {};
  const sum = { virtualMs: 0, tookMs: 0, answered: 0, underLoadMs: 0 };
  const showsProgress = process.stdout.isTTY && !values.json;
  const bar = new SingleBar({ format: "{bar} {value}/{total} seeds, {failed} failed, {eta_formatted} left" });
  if (showsProgress) bar.start(all.length, 0, { failed: 0 });
  const startedAtMs = performance.now();
  await runPool({
    workers: Math.min(workers, all.length),
    seeds: all,
    done: (result) => {
      const repeats = result.repeated === result.traceHash;
      const shown = repeats
        ? result
        : { ...result, ok: false, violation: `the same seed had another trace: ${result.repeated}` };
      if (!shown.ok) failed.push(shown);
      sum.virtualMs += result.virtualMs;
      sum.tookMs += result.tookMs;
      sum.answered += result.answered;
      sum.underLoadMs += Math.min(result.virtualMs, seconds * 1_000);
      sumInto(totals, result.counts);
      if (values.json) console.log(JSON.stringify(shown));
      else if (showsProgress) bar.increment(1, { failed: failed.length });
      return true;
    },
  });
  if (showsProgress) bar.stop();
  const speed = sum.virtualMs / Math.max(1, sum.tookMs);
  const wallSeconds = (performance.now() - startedAtMs) / 1_000;
  const rate = (sum.answered * 1_000) / Math.max(1, sum.underLoadMs);
  if (values.json) {
    console.log(
      JSON.stringify({
        seeds: all.length,
        failed: failed.map(({ seed }) => seed),
        virtualSeconds: sum.virtualMs / 1_000,
        wallSeconds,
        virtualSecondsPerSecondAndCore: speed,
        operationsPerVirtualSecond: rate,
        counts: totals,
      }),
    );
  } else {
    for (const [name, count] of Object.entries(totals).sort()) console.log(`${name.padEnd(90)} ${count}`);
    for (const { seed, violation } of failed) {
      console.log(`\nseed ${seed} failed ${violation}\n  ${replayCommand(seed)}`);
    }
    console.log(
      `\n${all.length} seeds, ${failed.length} failed; ${Math.round(sum.virtualMs / 1_000)} virtual seconds in ` +
        `${wallSeconds.toFixed(0)} s: ${speed.toFixed(1)} per second of one core, ${rate.toFixed(0)} client operations ` +
        "per virtual second",
    );
  }
  return failed.length === 0 ? 0 : 1;
}

/** Each bug must be found, and is by the first seed that fails. */
async function findPlanted(): Promise<number> {
  const wanted = values.bugs?.split(",");
  const bugs = plantedBugs.filter(({ name }) => wanted === undefined || wanted.includes(name));
  const seedsMax = values.seeds === "1..300" ? 1_000 : [...requests()].length;
  let missed = 0;
  for (const bug of bugs) {
    const startedAtMs = performance.now();
    let found: SeedResult | undefined;
    let tried = 0;
    await runPool({
      workers,
      planted: bug.name,
      seeds: Array.from({ length: seedsMax }, (_, i) => ({ seed: i + 1, seconds, ...overrides })),
      done: (result) => {
        tried++;
        if (!result.ok) found ??= result;
        return found === undefined;
      },
    });
    if (found === undefined) missed++;
    const outcome = { bug: bug.name, seed: found?.seed, tried, caughtBy: found?.violation?.split("\n")[0] };
    const tookSeconds = ((performance.now() - startedAtMs) / 1_000).toFixed(0);
    if (values.json) console.log(JSON.stringify(outcome));
    else
      console.log(
        `${bug.name.padEnd(44)} ${found === undefined ? `MISSED in ${tried} seeds` : `seed ${found.seed}`} ` +
          `(${tookSeconds} s) ${outcome.caughtBy ?? ""}`,
      );
  }
  console.log(`${bugs.length - missed} of ${bugs.length} planted bugs were found`);
  return missed === 0 ? 0 : 1;
}

if (values.help) {
  console.log(usage);
} else if (values.seed !== undefined) {
  replay(Number(values.seed));
} else {
  process.exitCode = values.planted ? await findPlanted() : await runSeeds();
}
