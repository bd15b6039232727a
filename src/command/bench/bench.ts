/** `keelson bench`: its options, its progress bar, and its exit code. */
import { readFileSync } from "node:fs";

import { SingleBar } from "cli-progress";
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";

import { parseDurationMs } from "../duration";
import { nearestName } from "../nearest";
import type { Target } from "./http2/connection";
import { type BenchOptions, type Workload, workloads } from "./options";
import { jsonReport, passed, textReport } from "./report";
import { type Progress, runBenchmark, warmingUp } from "./run";

/** A combination of options that cannot be run. */
class BadOptions extends Error {
  override readonly name = "BadOptions";
}

interface RawOptions {
  readonly endpoints: string;
  readonly clients: number;
  readonly connections?: number;
  readonly inFlight: number;
  readonly keyPrefix: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly keySpace?: number;
  readonly random?: boolean;
  readonly sequential?: boolean;
  readonly seed: number;
  readonly total?: number;
  readonly duration?: number;
  readonly warmUp?: number;
  readonly rate?: number;
  readonly rangeKeys: number;
  readonly serializable?: boolean;
  readonly prepare: boolean;
  readonly watchers: number;
  readonly leaseTtl: number;
  readonly probe: boolean;
  readonly revisionCheck: boolean;
  readonly json?: boolean;
  readonly progress: boolean;
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly insecureSkipTlsVerify?: boolean;
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

function duration(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs === undefined || durationMs <= 0) {
    throw new InvalidArgumentError("It must be a duration such as 500ms, 10s or 1m30s.");
  }
  return durationMs;
}

function rate(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value))
    throw new InvalidArgumentError("It must be a number above zero.");
  return value;
}

function command(write: (text: string) => void): Command {
  const count = wholeNumber(1, 1_000_000);
  return new Command("keelson bench")
    .description("Puts load on any etcd endpoint and measures what comes of it.")
    .usage("<workload> [options]")
    .addArgument(new Argument("<workload>", "what to do").choices(workloads))
    .option("--endpoints <list>", "where to connect, separated by commas", "http://127.0.0.1:2379")
    .option("--clients <number>", "concurrent callers", count, 100)
    .option(
      "--connections <number>",
      "connections that they share (default: one each)",
      wholeNumber(1, 10_000),
    )
    .option("--in-flight <number>", "calls that each has open at once", wholeNumber(1, 10_000), 1)
    .option("--total <number>", "stop after so many operations (default: 10 seconds)", wholeNumber(1, 1e12))
    .option("--duration <duration>", "stop after this time", duration)
    .option("--warm-up <duration>", "the same load for this long first, which is not measured", duration)
    .option(
      "--rate <number>",
      "operations per second in all; latency then counts from when each was due",
      rate,
    )
    .option("--key-space <number>", "different keys; 1 is one key", wholeNumber(1, 1e12))
    .option("--key-size <bytes>", "size of a key", wholeNumber(1, 65_536), 24)
    .option("--key-prefix <text>", "how keys begin", "bench/")
    .option("--value-size <bytes>", "size of a value", wholeNumber(0, 1024 ** 3), 256)
    .addOption(new Option("--sequential", "take the keys in order").conflicts("random"))
    .option("--random", "take the keys at random (default)")
    .option("--seed <number>", "for the random choice", wholeNumber(0, 2 ** 32 - 1), 1)
    .option("--range-keys <number>", "range: keys in one answer", count, 1)
    .option("--serializable", "range: reads that need not be linearizable")
    .option("--no-prepare", "range: the keys are there already, do not write them first")
    .option("--watchers <number>", "watch: watchers in all", count, 100)
    .option("--lease-ttl <seconds>", "lease-keepalive: time to live", wholeNumber(1, 9e9), 60)
    .option("--no-probe", "do not look for stalls")
    .option("--no-revision-check", "do not check how far the revision advanced (others write too)")
    .option("--json", "print one JSON object")
    .option("--no-progress", "no progress bar")
    .option("--cacert <file>", "authority of the server's certificate")
    .option("--cert <file>", "own certificate")
    .option("--key <file>", "key of the own certificate")
    .option("--insecure-skip-tls-verify", "accept any certificate")
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({ writeOut: write, writeErr: () => {} });
}

function readPem(option: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw new BadOptions(`--${option}: cannot read "${path}"`);
  }
}

function targetsOf(raw: RawOptions): Target[] {
  const authority = readPem("cacert", raw.cacert);
  const certificate = readPem("cert", raw.cert);
  const key = readPem("key", raw.key);
  const tls = {
    ...(authority !== undefined && { authority }),
    ...(certificate !== undefined && { certificate }),
    ...(key !== undefined && { key }),
    skipVerification: raw.insecureSkipTlsVerify === true,
  };
  return raw.endpoints.split(",").map((text) => {
    const match = /^(?:(https?):\/\/)?(\[[0-9a-fA-F:.]+\]|[^:/[\]]+):(\d{1,5})\/?$/.exec(text.trim());
    const port = Number(match?.[3]);
    if (match === null || port > 65_535) {
      throw new BadOptions(`--endpoints: "${text}" is not of the form http://host:port`);
    }
    const secure = match[1] === "https";
    const host = match[2]!.replace(/^\[|\]$/g, "");
    return secure ? { host, port, secure, tls } : { host, port, secure };
  });
}

/** Checks what no single option can check; throws {@link BadOptions}. */
export function benchOptions(workload: Workload, raw: RawOptions): BenchOptions {
  if (raw.total !== undefined && raw.duration !== undefined) {
    throw new BadOptions("--total and --duration exclude each other");
  }
  const keySpace = raw.keySpace ?? (workload === "watch" ? 1 : 10_000);
  const digits = String(keySpace).length;
  const prefixBytes = Buffer.byteLength(raw.keyPrefix);
  if (raw.keySize < prefixBytes + digits) {
    throw new BadOptions(
      `--key-size: ${raw.keySize} bytes do not hold the prefix "${raw.keyPrefix}" and ${digits} digits`,
    );
  }
  if (workload === "range" && raw.rangeKeys > keySpace) {
    throw new BadOptions(`--range-keys: ${raw.rangeKeys} is more than the ${keySpace} keys there are`);
  }
  if (workload === "watch" && raw.watchers % keySpace !== 0) {
    throw new BadOptions(`--watchers: ${raw.watchers} cannot be spread evenly over ${keySpace} keys`);
  }
  if (workload === "watch" && raw.warmUp !== undefined) {
    throw new BadOptions("--warm-up: watch counts every event, so it cannot leave some out");
  }
  return {
    workload,
    targets: targetsOf(raw),
    clients: raw.clients,
    connections: Math.min(raw.connections ?? raw.clients, 10_000),
    inFlight: raw.inFlight,
    keyPrefix: raw.keyPrefix,
    keyBytes: raw.keySize,
    valueBytes: raw.valueSize,
    keySpace,
    order: raw.sequential === true ? "sequential" : "random",
    seed: raw.seed,
    total: raw.total,
    durationMs: raw.total === undefined ? (raw.duration ?? 10_000) : undefined,
    warmUpMs: raw.warmUp,
    ratePerSecond: raw.rate,
    rangeKeys: raw.rangeKeys,
    serializable: raw.serializable === true,
    prepare: raw.prepare,
    watchers: raw.watchers,
    leaseTtlSeconds: raw.leaseTtl,
    probe: raw.probe,
    revisionCheck: raw.revisionCheck,
    json: raw.json === true,
    progress: raw.progress,
  };
}

/** Where the command writes; tests give their own. */
export interface BenchOutput {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly isTerminal: boolean;
}

const processOutput: BenchOutput = {
  out: (text) => void process.stdout.write(text),
  error: (text) => void process.stderr.write(text),
  isTerminal: process.stderr.isTTY,
};

/** The options that a command line asks for, or the exit code when it asks for help or is wrong. */
function readOptions(argv: readonly string[], output: BenchOutput): BenchOptions | number {
  const program = command(output.out);
  try {
    program.parse([...argv], { from: "user" });
    return benchOptions(program.args[0] as Workload, program.opts<RawOptions>());
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (!(error instanceof CommanderError || error instanceof BadOptions)) throw error;
    const message = error.message.replace(/^error: /, "").replaceAll(/\s+/g, " ");
    const unknown =
      argv[0] !== undefined && !argv[0].startsWith("-") ? nearestName(argv[0], workloads) : undefined;
    const wrongWorkload = unknown !== undefined && argv[0] !== unknown;
    const hint = wrongWorkload ? ` Did you mean ${unknown}?` : "";
    output.error(`keelson bench: ${message}${hint}\n`);
    return 2;
  }
}

/** A progress bar on a terminal, nothing elsewhere. */
function progressBar(options: BenchOptions, output: BenchOutput): { show: Progress; stop(): void } {
  if (!options.progress || options.json || !output.isTerminal) return { show: () => {}, stop: () => {} };
  const bar = new SingleBar({
    format: "{phase} [{bar}] {percentage} % | {finished} done | {perSecond} /s",
    hideCursor: true,
    clearOnComplete: true,
  });
  let begun = false;
  let shown: string | undefined;
  let startMs = 0;
  return {
    show(phase, finished, total, perSecond) {
      const payload = { phase, finished, perSecond: Math.round(perSecond) };
      const whole = total ?? (phase === warmingUp ? options.warmUpMs : options.durationMs) ?? 1;
      if (phase !== shown) startMs = performance.now();
      shown = phase;
      const part = total === undefined ? Math.min(performance.now() - startMs, whole) : finished;
      if (!begun) bar.start(whole, 0, payload);
      begun = true;
      bar.setTotal(whole);
      bar.update(part, payload);
    },
    stop() {
      if (begun) bar.stop();
    },
  };
}

/** Runs `keelson bench` with its own arguments; answers the exit code: 0, 1 when a check failed, 2 for bad input. */
export async function runBench(
  argv: readonly string[],
  output: BenchOutput = processOutput,
): Promise<number> {
  const options = readOptions(argv, output);
  if (typeof options === "number") return options;
  const bar = progressBar(options, output);
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  process.once("SIGINT", interrupt);
  try {
    const result = await runBenchmark(options, bar.show, interrupted.signal);
    bar.stop();
    output.out(options.json ? `${JSON.stringify(jsonReport(result))}\n` : textReport(result));
    return passed(result) ? 0 : 1;
  } catch (error) {
    bar.stop();
    output.error(`keelson bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    process.off("SIGINT", interrupt);
  }
}
