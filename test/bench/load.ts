/** Load generators as processes of their own, and what they and the server cost. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { startProbe } from "../../src/command/bench/probe";
import { openConnections, storeRevision } from "../../src/command/bench/client";
import type { Target } from "../../src/command/bench/http2/connection";
import { ensureH2load } from "../tools/install";
import type { Server } from "../tools/server";

/** Above this share of a core a generator may be what limits the result. */
export const saturatedShare = 0.9;
/** Clock ticks of /proc per second on Linux. */
const ticksPerSecond = 100;

/** What one run of a generator against one server gave. */
export interface LoadResult {
  readonly operations: number;
  readonly perSecond: number;
  /** What was done before it was measured. */
  readonly warmUpOperations?: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number } | undefined;
  /** The server's processor time for each operation, in microseconds. */
  readonly serverCpuMicroseconds: number;
  /** The generator's share of one core. */
  readonly generatorShare: number;
  readonly saturated: boolean;
  readonly stallMs: number;
  /** Why the numbers must not be believed; empty when all checks passed. */
  readonly failures: readonly string[];
}

export function targetOf(server: Server): Target {
  return { host: "127.0.0.1", port: server.port, secure: false };
}

/** User and system time that a process has used since its start, in milliseconds. */
export function processCpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The name in parentheses may hold blanks; the fields behind it are counted from 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1000;
}

export async function revisionOf(server: Server): Promise<number> {
  const [connection] = await openConnections([targetOf(server)], 1);
  try {
    return Number(await storeRevision(connection!));
  } finally {
    connection!.close();
  }
}

interface Finished {
  readonly output: string;
  readonly errors: string;
  readonly exitCode: number;
  readonly cpuMs: number;
  readonly elapsedMs: number;
}

export async function runProcess(command: readonly string[], until?: Promise<unknown>): Promise<Finished> {
  const beginMs = performance.now();
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  const interrupt = (): void => child.kill("SIGINT");
  void until?.then(interrupt, interrupt);
  const [output, errors, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const microseconds = child.resourceUsage()?.cpuTime.total ?? 0n;
  return {
    output,
    errors,
    exitCode,
    cpuMs: Number(microseconds) / 1000,
    elapsedMs: performance.now() - beginMs,
  };
}

/** A load of equal calls by h2load, the cheapest generator there is. */
export interface EqualCalls {
  readonly path: string;
  /** The request, without gRPC's prefix. */
  readonly message: Uint8Array;
  readonly calls: number;
  readonly connections: number;
  readonly inFlight: number;
  /** How far each call moves the store's revision. */
  readonly revisionsPerCall: 0 | 1;
  /** An answer with fewer bytes cannot be the right one. */
  readonly answerBytesMin: number;
}

/** Runs h2load; it does not read grpc-status, so the revision and the bytes of the answers are checked. */
export async function runH2load(server: Server, load: EqualCalls, scratch: string): Promise<LoadResult> {
  const body = Buffer.alloc(5 + load.message.length);
  body.writeUInt32BE(load.message.length, 1);
  body.set(load.message, 5);
  const bodyPath = join(scratch, "request.bin");
  await Bun.write(bodyPath, body);
  const before = await revisionOf(server);
  const probe = await startProbe(targetOf(server));
  const serverCpuBefore = processCpuMs(server.pid);
  const finished = await runProcess([
    ensureH2load(),
    ...`-n ${load.calls} -c ${load.connections} -m ${load.inFlight}`.split(" "),
    "-d",
    bodyPath,
    "-H",
    "content-type: application/grpc",
    "-H",
    "te: trailers",
    `${server.url}${load.path}`,
  ]);
  const serverCpuMs = processCpuMs(server.pid) - serverCpuBefore;
  const { longestStallMs } = await probe.stop();
  const advanced = (await revisionOf(server)) - before;

  const failures: string[] = [];
  const number = (pattern: RegExp): number => Number(pattern.exec(finished.output)?.[1] ?? Number.NaN);
  const perSecond = number(/finished in [^,]+, ([\d.]+) req\/s/);
  const succeeded = number(/(\d+) succeeded/);
  const answerBytes = number(/\((\d+)\) data/);
  if (finished.exitCode !== 0 || !(perSecond > 0)) {
    failures.push(`h2load ended with ${finished.exitCode}: ${finished.errors || finished.output}`);
  }
  if (succeeded !== load.calls) failures.push(`${succeeded} of ${load.calls} calls succeeded`);
  if (advanced !== load.calls * load.revisionsPerCall) {
    failures.push(`the revision advanced by ${advanced} after ${load.calls} calls`);
  }
  if (!(answerBytes >= load.calls * load.answerBytesMin)) {
    failures.push(`${answerBytes} bytes of answers are too few for ${load.calls} calls`);
  }
  const generatorShare = finished.cpuMs / finished.elapsedMs;
  return {
    operations: load.calls,
    perSecond,
    latencyMs: undefined,
    serverCpuMicroseconds: (serverCpuMs * 1000) / load.calls,
    generatorShare,
    saturated: generatorShare >= saturatedShare,
    stallMs: longestStallMs,
    failures,
  };
}

/** A load of equal calls for a time, over several members alike. */
export interface EqualCallsOverMembers {
  readonly path: string;
  readonly message: Uint8Array;
  readonly seconds: number;
  /** To each member. */
  readonly connections: number;
  readonly inFlight: number;
}

/**
 * Runs one h2load for each member, side by side, for the same time. What is in flight at the end may or may not have
 * an answer, so the revision is checked within that margin.
 */
export async function runH2loadOverMembers(
  servers: readonly Server[],
  load: EqualCallsOverMembers,
  scratch: string,
): Promise<LoadResult> {
  const body = Buffer.alloc(5 + load.message.length);
  body.writeUInt32BE(load.message.length, 1);
  body.set(load.message, 5);
  const bodyPath = join(scratch, "request.bin");
  await Bun.write(bodyPath, body);
  const [first] = servers;
  const before = await revisionOf(first!);
  const probe = await startProbe(targetOf(first!));
  const cpuOf = (): number => servers.reduce((sum, { pid }) => sum + processCpuMs(pid), 0);
  const serverCpuBefore = cpuOf();
  const runs = await Promise.all(
    servers.map((server) =>
      runProcess([
        ensureH2load(),
        ...`-D ${load.seconds} -c ${load.connections} -m ${load.inFlight}`.split(" "),
        "-d",
        bodyPath,
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        `${server.url}${load.path}`,
      ]),
    ),
  );
  const serverCpuMs = cpuOf() - serverCpuBefore;
  const { longestStallMs } = await probe.stop();
  const failures: string[] = [];
  let succeeded = 0;
  for (const { output, errors, exitCode } of runs) {
    const count = Number(/(\d+) succeeded/.exec(output)?.[1] ?? Number.NaN);
    const bad = Number(/succeeded, (\d+) failed/.exec(output)?.[1] ?? Number.NaN);
    if (exitCode !== 0 || !(count > 0)) failures.push(`h2load ended with ${exitCode}: ${errors || output}`);
    if (bad !== 0) failures.push(`${bad} calls failed`);
    succeeded += count;
  }
  const advanced = (await revisionOf(first!)) - before;
  const inFlight = servers.length * load.connections * load.inFlight;
  if (advanced < succeeded || advanced > succeeded + inFlight) {
    failures.push(`the revision advanced by ${advanced} after ${succeeded} successes`);
  }
  const shares = runs.map(({ cpuMs, elapsedMs }) => cpuMs / elapsedMs);
  return {
    operations: succeeded,
    perSecond: succeeded / load.seconds,
    latencyMs: undefined,
    serverCpuMicroseconds: (serverCpuMs * 1000) / Math.max(1, succeeded),
    generatorShare: Math.max(...shares),
    saturated: shares.some((share) => share >= saturatedShare),
    stallMs: longestStallMs,
    failures,
  };
}

interface BenchReport {
  readonly passed: boolean;
  readonly warmUpOperations: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly perSecond: number;
  readonly latencyMs: { readonly p50: number; readonly p99: number };
  readonly errors: readonly { readonly name: string; readonly text: string; readonly count: number }[];
  readonly generatorCpuShare: number;
  readonly generatorSaturated: boolean;
  readonly probe?: { readonly longestStallMs: number };
  readonly watch?: { readonly delivered: number; readonly eventsPerSecond: number; readonly passed: boolean };
  readonly revision?: { readonly before: number; readonly after: number; readonly passed: boolean };
}

/** Runs `keelson bench` with these arguments against a server; it ends early, but orderly, with `until`. */
export async function runBench(
  server: Server,
  argv: readonly string[],
  until?: Promise<unknown>,
): Promise<LoadResult> {
  const serverCpuBefore = processCpuMs(server.pid);
  const finished = await runProcess(
    [process.execPath, join(import.meta.dir, "generator.ts"), ...argv, "--endpoints", server.url, "--json"],
    until,
  );
  const serverCpuMs = processCpuMs(server.pid) - serverCpuBefore;
  if (finished.output === "") throw new Error(`keelson bench ${argv.join(" ")}: ${finished.errors}`);
  const report = JSON.parse(finished.output) as BenchReport;
  const failures = report.errors.map(({ name, text, count }) => `${count} x ${name}: ${text}`);
  if (report.revision?.passed === false) {
    failures.push(`the revision went from ${report.revision.before} to ${report.revision.after}`);
  }
  if (report.watch?.passed === false) failures.push(`${report.watch.delivered} events arrived`);
  if (!report.passed && failures.length === 0) failures.push("keelson bench failed");
  const operations = report.watch?.delivered ?? report.succeeded;
  return {
    operations,
    perSecond: report.watch?.eventsPerSecond ?? report.perSecond,
    latencyMs: report.latencyMs,
    serverCpuMicroseconds: (serverCpuMs * 1000) / Math.max(1, operations + report.warmUpOperations),
    warmUpOperations: report.warmUpOperations,
    generatorShare: report.generatorCpuShare,
    saturated: report.generatorSaturated,
    stallMs: report.probe?.longestStallMs ?? 0,
    failures,
  };
}
