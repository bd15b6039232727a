/** Seeds over the cores: child processes, so that one seed's memory and trouble is not the next one's. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
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

/** A seed that takes more processor time counts as hung; without a count of it, more time. */
const seedMsMax = 60_000;
const watchIntervalMs = 5_000;
/** The unit of processor times in /proc, on every Linux. */
const clockTickMs = 10;

/** Processor time that a process has used so far; undefined where the system does not say. */
function usedMs(pid: number | undefined): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name, in brackets, and may have spaces; user and system time are 14 and 15.
    const [user, system] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .slice(11, 13);
    return (Number(user) + Number(system)) * clockTickMs;
  } catch {
    return undefined;
  }
}

/** Kills a worker whose seed takes too long, however busy the machine is; the returned function calls it off. */
function watch(child: ChildProcess): () => void {
  const startedAtMs = performance.now();
  const before = usedMs(child.pid);
  const timer = setInterval(() => {
    const now = usedMs(child.pid);
    const took = before === undefined || now === undefined ? performance.now() - startedAtMs : now - before;
    if (took > seedMsMax) child.kill("SIGKILL");
  }, watchIntervalMs);
  return () => clearInterval(timer);
}

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
        const callOff = watch(child);
        const answer = await answers.next();
        callOff();
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
