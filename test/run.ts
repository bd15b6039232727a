/**
 * What `npm test` runs: gets the tools, then the unit tests, then the tests against whole processes. The last line
 * is "N passed, N failed", summed over all, after a list of what failed; the exit code follows it.
 *
 * With arguments, only the test files whose path contains one of them are run.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { ensureEtcd } from "./tools/etcd";
import { ensureH2load, ensureStrace, progress, repositoryDir } from "./tools/install";
import { addTally, emptyTally, type Tally, tallyOf } from "./tools/junit";

interface Group {
  readonly name: string;
  readonly files: readonly string[];
  /** Files side by side; whole-system tests that measure memory or time get the machine for themselves. */
  readonly parallel: number;
  readonly timeoutMs: number;
}

/** Folders whose tests start processes of their own. */
const wholeSystemDirs = [
  "test/compat",
  "test/differential",
  "test/faults",
  "test/fuzz",
  "test/rest",
  "test/console",
];

function testFiles(): string[] {
  const found: string[] = [];
  for (const dir of ["src", "test"]) {
    found.push(...new Bun.Glob(`${dir}/**/*.test.{ts,tsx}`).scanSync({ cwd: repositoryDir }));
  }
  const wanted = process.argv.slice(2);
  return found.filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part))).sort();
}

async function runGroup(group: Group): Promise<Tally> {
  const scratch = mkdtempSync(join(tmpdir(), "keelson-test-"));
  const report = join(scratch, "report.xml");
  const startedAt = performance.now();
  console.log(`\n--- ${group.name}: ${group.files.length} files`);
  const child = spawn(
    process.execPath,
    [
      "test",
      ...(group.parallel > 1 ? [`--parallel=${group.parallel}`] : []),
      `--timeout=${group.timeoutMs}`,
      "--reporter=junit",
      `--reporter-outfile=${report}`,
      ...group.files.map((file) => `./${relative(repositoryDir, join(repositoryDir, file))}`),
    ],
    { cwd: repositoryDir, stdio: ["ignore", "inherit", "inherit"] },
  );
  const { promise, resolve } = Promise.withResolvers<number>();
  child.once("error", () => resolve(-1));
  child.once("close", (code) => resolve(code ?? -1));
  const code = await promise;
  const tally = existsSync(report) ? tallyOf(readFileSync(report, "utf8")) : emptyTally();
  rmSync(scratch, { recursive: true, force: true });
  const refuse = (why: string, count = 1): void => {
    tally.failed += count;
    tally.failures.push(`${group.name}: ${why}`);
  };
  if (tally.passed + tally.failed === 0) refuse(`no test ran (exit code ${code})`);
  else if (code !== 0 && tally.failed === 0) refuse(`ended with exit code ${code} although no test failed`);
  if (tally.skipped > 0 && process.env["CI"] === "true") {
    refuse(`${tally.skipped} tests were skipped, which CI does not allow`, tally.skipped);
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(`--- ${group.name}: ${tally.passed} passed, ${tally.failed} failed in ${seconds} s`);
  return tally;
}

async function main(): Promise<void> {
  const files = testFiles();
  const wholeSystem = (file: string): boolean => wholeSystemDirs.some((dir) => file.startsWith(`${dir}/`));
  const simulation = (file: string): boolean => file === "test/sim/batch.test.ts";
  const groups: Group[] = [
    {
      name: "unit tests",
      files: files.filter((file) => !wholeSystem(file) && !simulation(file)),
      parallel: 2,
      timeoutMs: 60_000,
    },
    { name: "the simulator", files: files.filter(simulation), parallel: 1, timeoutMs: 900_000 },
    ...wholeSystemDirs.map((dir) => ({
      name: dir,
      files: files.filter((file) => file.startsWith(`${dir}/`)),
      parallel: 1,
      timeoutMs: 300_000,
    })),
  ].filter((group) => group.files.length > 0);

  const total = emptyTally();
  if (groups.some((group) => wholeSystemDirs.includes(group.name))) {
    try {
      const tools = await ensureEtcd();
      progress(`reference etcd ${tools.version}: ${tools.etcd}`);
      progress(`h2load: ${ensureH2load()}`);
      progress(`strace: ${ensureStrace()}`);
    } catch (error) {
      // The tests that need the tool will fail and say so as well.
      progress(String(error));
    }
  }
  for (const group of groups) {
    addTally(total, await runGroup(group));
  }
  // Said once more at the end, where whoever reads only that finds it.
  for (const failure of total.failures) console.log(`\nFAILED ${failure}`);
  if (groups.length === 0) total.failed++;
  console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exit(total.failed === 0 ? 0 : 1);
}

await main();
