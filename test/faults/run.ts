/**
 * `bun run faults`: real processes under fault, judged by their histories. Six scenarios by default; `--all` for
 * every one, `--subject etcd` for the same with a real etcd, which calibrates the judges.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { nearestName } from "../../src/command/nearest";
import { repositoryDir, runToEnd } from "../tools/install";
import { writeReport } from "./report";
import { type RunResult, ScenarioRun } from "./scenario-run";
import { scenarios } from "./scenarios";

const regular = ["leader-kill", "pause-leader", "partition", "slow-disk-leader", "kill-all", "snapshot"];
const names = scenarios.map(({ name }) => name);
const usage = `usage: bun run faults -- [--scenario ${names.join(",")}] [--all] [--seconds 12] [--seed 1]
  [--rounds 1] [--subject keelson|etcd] [--keep]`;

function fail(reason: string): never {
  process.stderr.write(`faults: ${reason}\n${usage}\n`);
  process.exit(2);
}

const { values } = parseArgs({
  options: {
    scenario: { type: "string" },
    all: { type: "boolean", default: false },
    seconds: { type: "string", default: "12" },
    seed: { type: "string", default: "1" },
    rounds: { type: "string", default: "1" },
    subject: { type: "string", default: "keelson" },
    keep: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write(`${usage}\n`);
  process.exit(0);
}
const { subject } = values;
if (subject !== "keelson" && subject !== "etcd") fail(`--subject: "${subject}" is neither keelson nor etcd`);
const [seconds, seed, rounds] = [Number(values.seconds), Number(values.seed), Number(values.rounds)];
if (!(seconds > 0)) fail(`--seconds: "${values.seconds}" is no time`);
if (!Number.isInteger(seed)) fail(`--seed: "${values.seed}" is no whole number`);
if (!(rounds >= 1)) fail(`--rounds: "${values.rounds}" is no count`);
const wanted = values.all ? names : (values.scenario?.split(",") ?? regular);
const chosen = wanted.map(
  (name) =>
    scenarios.find((scenario) => scenario.name === name) ??
    fail(`there is no scenario "${name}"; did you mean ${nearestName(name, names) ?? names.join(", ")}?`),
);

// The compiled file is what users run; it is built when there is none, or when the caller does not name one.
if (subject === "keelson" && process.env["KEELSON_BINARY"] === undefined) {
  const binary = join(repositoryDir, "dist/keelson");
  process.stderr.write("faults: building dist/keelson\n");
  runToEnd([process.execPath, join(repositoryDir, "src/build.ts")]);
  if (!existsSync(binary)) fail("the build left no dist/keelson");
  process.env["KEELSON_BINARY"] = binary;
}

function summary({ judgement, perSecond, seconds: took }: RunResult): string {
  const { counts } = judgement;
  const count = (name: string): number => counts[name] ?? 0;
  return (
    `${took.toFixed(0)} s, ${perSecond.toFixed(0)} successes/s, ${count("operations")} operations, ` +
    `${count("changes")} changes, ${count("unknown")} of unknown outcome (${count("unknownThatHappened")} happened), ` +
    `${count("watchEvents")} watch events, ${count("leases")} leases (${count("expired")} expired), ${count("undecided")} undecided`
  );
}

// Ends what was started, too: the members are killed when this process ends.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

let passed = 0;
let failed = 0;
const knownFailures: string[] = [];
for (let round = 0; round < rounds; round++) {
  for (const scenario of chosen) {
    if (subject === "etcd" && scenario.notForEtcd !== undefined) {
      console.log(`- ${scenario.name}: left out, ${scenario.notForEtcd}`);
      continue;
    }
    const run = new ScenarioRun(scenario, { subject, seed: seed + round, seconds });
    const result = await run.run();
    const { problems, uninformative } = result.judgement;
    const good = problems.length === 0 && !uninformative;
    const known = subject === "etcd" && !good ? scenario.etcdFails : undefined;
    if (good) passed++;
    else if (known === undefined) failed++;
    else knownFailures.push(`${scenario.name}: ${known}`);
    const verdict = good ? "ok" : problems.length > 0 ? "FAILED" : "UNINFORMATIVE";
    console.log(
      `${good ? "+" : "!"} ${scenario.name} (seed ${seed + round}): ${verdict}; ${summary(result)}`,
    );
    for (const note of result.notes) console.log(`    ${note}`);
    for (const problem of problems.slice(0, 4)) console.log(`  ! ${problem.slice(0, 3_000)}`);
    if (problems.length > 4) console.log(`  ! and ${problems.length - 4} more, see the report`);
    if (!good || values.keep) {
      console.log(`    timeline: ${writeReport(run, result)}; data and logs: ${result.directories.at(-1)}`);
    }
  }
}
for (const failure of knownFailures) console.log(`known of etcd 3.6.16: ${failure}`);
console.log(`${passed} passed, ${failed} failed`);
if (values.keep) process.env["KEELSON_TEST_KEEP"] = "1";
process.exit(failed === 0 ? 0 : 1);
