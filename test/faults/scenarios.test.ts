/**
 * The short form of `bun run faults`: each fault once, for seconds, on compiled binaries. With
 * KEELSON_FAULT_SECONDS more of each; `bun run faults` has the rest.
 */
import { beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { repositoryDir, runToEnd } from "../tools/install";
import { writeReport } from "./report";
import { ScenarioRun } from "./scenario-run";
import { scenarios } from "./scenarios";

const subject = process.env["KEELSON_TEST_SUBJECT"] === "etcd" ? "etcd" : "keelson";
const seconds = Number(process.env["KEELSON_FAULT_SECONDS"] ?? "3");
const seed = Number(process.env["KEELSON_FAULT_SEED"] ?? "1");
/** Those that show something within seconds; the slow disks and slow links need longer. */
const short = new Set([
  "leader-kill",
  "pause-leader",
  "partition",
  "one-way",
  "bridge",
  "client-resets",
  "failing-disk",
  "flipped-log",
  "torn-log",
  "kill-all",
  "membership",
  "snapshot",
]);

beforeAll(() => {
  if (subject === "etcd" || process.env["KEELSON_BINARY"] !== undefined) return;
  runToEnd([process.execPath, join(repositoryDir, "src/build.ts")]);
  process.env["KEELSON_BINARY"] = join(repositoryDir, "dist/keelson");
}, 120_000);

test.each(
  scenarios.filter(({ name }) => short.has(name)).map((scenario) => [scenario.name, scenario] as const),
)(
  "%s: three members lose nothing and lie to nobody",
  async (_, scenario) => {
    // What is too slow to show anything gets a second chance: other work may have had the machine.
    for (let attempt = 1; ; attempt++) {
      const run = new ScenarioRun(scenario, { subject, seed, seconds });
      const result = await run.run();
      const { problems, uninformative, counts } = result.judgement;
      console.log(
        `${scenario.name}: ${result.perSecond.toFixed(0)} successes/s, ${counts["changes"]} changes, ${counts["watchEvents"]} watch events; ${result.notes.join("; ").slice(0, 300)}`,
      );
      if (problems.length > 0)
        throw new Error(`${writeReport(run, result)}\n${problems.slice(0, 4).join("\n")}`);
      if (!uninformative) break;
      expect(attempt).toBeLessThan(2);
    }
  },
  180_000,
);
