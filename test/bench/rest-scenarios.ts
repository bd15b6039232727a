/** HTTP/1.1 on the shared port: REST here against etcd's own JSON gateway. */
import { join } from "node:path";
import type { Server } from "../tools/server";
import { ensureH2load } from "../tools/install";
import { processCpuMs, revisionOf, runProcess, saturatedShare } from "./load";
import type { Bench, Outcome, Scenario } from "./scenarios";

const connections = 64;
const key = "bench/rest";
const value = Buffer.alloc(256, "v");
const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64");

interface HttpCall {
  readonly path: string;
  readonly body: string | Buffer | undefined;
  readonly method: "GET" | "POST" | "PUT";
}

/** One request that does the same on either server, in that server's own way. */
function callOf(server: Server, work: "get" | "put"): HttpCall {
  if (server.kind === "etcd") {
    const body = work === "put" ? { key: base64(key), value: base64(value) } : { key: base64(key) };
    return {
      path: work === "put" ? "/v3/kv/put" : "/v3/kv/range",
      body: JSON.stringify(body),
      method: "POST",
    };
  }
  const path = `/api/v1/kv/${key}`;
  return work === "put" ? { path, body: value, method: "PUT" } : { path, body: undefined, method: "GET" };
}

async function run(bench: Bench, work: "get" | "put"): Promise<Outcome> {
  const server = await bench.start();
  await load(bench, server, callOf(server, "put"), connections);
  const calls = bench.quick ? 20_000 : 100_000;
  const before = await revisionOf(server);
  const cpuBefore = processCpuMs(server.pid);
  const { output, errors, exitCode, cpuMs, elapsedMs } = await load(
    bench,
    server,
    callOf(server, work),
    calls,
  );
  const serverCpuMs = processCpuMs(server.pid) - cpuBefore;
  const failures: string[] = [];
  const number = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  if (exitCode !== 0) failures.push(`h2load ended with ${exitCode}: ${errors || output}`);
  const good = number(/status codes: (\d+) 2xx/);
  if (good !== calls) failures.push(`${good} of ${calls} calls were answered with 2xx`);
  const advanced = (await revisionOf(server)) - before;
  if (advanced !== (work === "put" ? calls : 0)) failures.push(`the revision advanced by ${advanced}`);
  if (work === "get" && number(/\((\d+)\) data/) < calls * value.length)
    failures.push("the answers are too short");
  const measure = {
    value: number(/finished in [^,]+, ([\d.]+) req\/s/),
    serverCpuMicroseconds: (serverCpuMs * 1000) / calls,
    saturated: cpuMs / elapsedMs >= saturatedShare,
  };
  return { measures: { [`rest-${work}`]: measure }, stallMs: 0, failures };
}

async function load(bench: Bench, server: Server, { path, body, method }: HttpCall, calls: number) {
  const argv = [
    ensureH2load(),
    "--h1",
    "-n",
    String(calls),
    "-c",
    String(connections),
    "-H",
    `:method: ${method}`,
  ];
  if (body !== undefined) {
    const bodyPath = join(bench.scratch, "body");
    await Bun.write(bodyPath, body);
    argv.push("-d", bodyPath);
  }
  return runProcess([...argv, `${server.url}${path}`]);
}

export const restScenarios: readonly Scenario[] = (["get", "put"] as const).map((work) => ({
  name: `rest-${work}`,
  rows: [
    {
      key: `rest-${work}`,
      title: `REST ${work}, 64 connections, 256 B, against etcd's /v3`,
      unit: "/s",
      better: "higher",
      ratioGoal: 2,
    },
  ],
  run: (bench: Bench) => run(bench, work),
}));
