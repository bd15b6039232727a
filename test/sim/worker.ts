/** Runs seeds handed in as lines of JSON, and answers each with a line: one process per core. */
import { createInterface } from "node:readline";
import { plant } from "./planted";
import type { RunOptions } from "./simulation";

export interface SeedRequest extends Omit<RunOptions, "trace"> {
  readonly seed: number;
  /** Run it twice, and say whether the traces are the same. */
  readonly twice?: boolean;
}

const planted = process.argv[2];
if (planted !== undefined) plant(planted);
// Only now, so that what is planted is what is loaded.
const { runSeed } = await import("./simulation");

for await (const line of createInterface({ input: process.stdin })) {
  const { seed, twice, ...options } = JSON.parse(line) as SeedRequest;
  const before = process.cpuUsage();
  const result = runSeed(seed, options);
  const { user, system } = process.cpuUsage(before);
  const tookMs = (user + system) / 1_000;
  const repeated = twice === true ? runSeed(seed, options).traceHash : result.traceHash;
  const answer = `${JSON.stringify({ ...result, tookMs, repeated })}\n`;
  await new Promise((resolve) => process.stdout.write(answer, resolve));
  // What is left to do in this turn must not happen inside the next run, where real time is trapped.
  await new Promise(setImmediate);
}
