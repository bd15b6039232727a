/**
 * Builds the executable: `bun src/build.ts [--target linux-arm64] [--outfile dist/keelson]`. The result runs with
 * no other file beside it. The same sources and the same Bun give the same bytes.
 */
import { mkdirSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";

const root = dirname(import.meta.dir);
const targets = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"] as const;

/** Files whose name ends in "-worker.ts" run as Workers and are entry points of their own. */
function workerFiles(): string[] {
  return readdirSync(import.meta.dir, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith("-worker.ts"))
    .map((path) => join(import.meta.dir, path))
    .sort();
}

function fail(reason: string): never {
  process.stderr.write(`build: ${reason}\n`);
  process.exit(2);
}

const { values } = parseArgs({
  options: {
    target: { type: "string" },
    outfile: { type: "string", default: "dist/keelson" },
  },
});
const target = targets.find((one) => one === values.target);
if (values.target !== undefined && target === undefined) {
  fail(`--target must be one of ${targets.join(", ")}`);
}
const outfile = join(root, values.outfile);
mkdirSync(dirname(outfile), { recursive: true });
const workers = workerFiles();
const names = workers.map((path) => path.slice(path.lastIndexOf("/") + 1));
if (new Set(names).size < names.length) fail("two workers have the same file name");

const result = await Bun.build({
  entrypoints: [join(import.meta.dir, "main.ts"), ...workers],
  target: "bun",
  // Without folders, so that "./some-worker.ts" is beside the main file in the executable as it is in the sources.
  naming: { entry: "[name].[ext]" },
  minify: { whitespace: true, syntax: true },
  sourcemap: "none",
  compile: { outfile, ...(target !== undefined && { target: `bun-${target}` as const }) },
  throw: false,
});
for (const log of result.logs) process.stderr.write(`${String(log)}\n`);
if (!result.success) process.exit(1);
const megabytes = (Bun.file(outfile).size / 1e6).toFixed(0);
process.stdout.write(
  `${relative(root, outfile)}: ${megabytes} MB, Bun ${Bun.version}, with ${workers.length} worker(s)\n`,
);
