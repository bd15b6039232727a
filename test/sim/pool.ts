/** Seeds over the cores: child processes, so that one seed's memory and trouble is not the next one's. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import type { RunResult } from "./simulation";
import { changesOf } from "./planted";
import type { SeedRequest } from "./worker";

export interface SeedResult extends RunResult {
  /** Processor time, so that it does not matter what else the machine does. */
  readonly tookMs: number;
  /** The trace hash of a second run, when one was asked for. */
  readonly repeated: string;
}

export interface PoolOptions {
  readonly workers: number;
  /** A planted bug's name. */
  readonly planted?: string;
  readonly seeds: Iterable<SeedRequest>;
  /** Answers whether to go on. */
  readonly done: (result: SeedResult) => boolean;
}

/** A seed that takes longer counts as hung. */
const seedMsMax = 180_000;

/** Resolves when every seed was run, or `done` said that it is enough. A worker that dies fails its seed. */
export async function runPool({ workers, planted, seeds, done }: PoolOptions): Promise<void> {
  const queue = seeds[Symbol.iterator]();
  let enough = false;
  // A worker that could not plant its bug would die, which must not pass for having caught it.
  if (planted !== undefined) changesOf(planted);
  const work = async (): Promise<void> => {
    const child = spawn(
      process.execPath,
      [join(import.meta.dir, "worker.ts"), ...(planted === undefined ? [] : [planted])],
      { stdio: ["pipe", "pipe", "pipe"] },
    );
    let complaints = "";
    child.stderr.on("data", (chunk: Buffer) => {
      complaints = (complaints + chunk.toString()).slice(-4_000);
    });
    const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    try {
      while (!enough) {
        const next = queue.next();
        if (next.done === true) break;
        child.stdin.write(`${JSON.stringify(next.value)}\n`);
        // A loop without end inside one event cannot be interrupted from within.
        const watchdog = setTimeout(() => child.kill("SIGKILL"), seedMsMax);
        const answer = await answers.next();
        clearTimeout(watchdog);
        if (answer.done === true) {
          await closed;
          enough = !done(crashed(next.value.seed, complaints)) || enough;
          return await work();
        }
        if (!done(JSON.parse(answer.value) as SeedResult)) enough = true;
      }
    } finally {
      child.stdin.end();
      if (enough) child.kill();
    }
    await closed;
  };
  await Promise.all(Array.from({ length: workers }, work));
}

function crashed(seed: number, complaints: string): SeedResult {
  return {
    seed,
    ok: false,
    violation: `the simulation died, or hung inside one event: ${complaints.trim()}`,
    virtualMs: 0,
    answered: 0,
    succeeded: 0,
    traceHash: "",
    repeated: "",
    events: 0,
    counts: {},
    tookMs: 0,
  };
}
