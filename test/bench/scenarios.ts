/** The work of the comparison: what is done to one server, and the numbers that come of it. */
import { create, toBinary } from "@bufbuild/protobuf";

import { callOnce, openConnections, storeRevision } from "../../src/command/bench/client";
import { benchKey, benchValue, methodPaths } from "../../src/command/bench/requests";
import {
  CompactionRequestSchema,
  CompactionResponseSchema,
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  StatusRequestSchema,
  StatusResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { Cluster } from "../tools/cluster";
import type { Server } from "../tools/server";
import { clusterScenarios } from "./cluster-scenarios";
import { restScenarios } from "./rest-scenarios";
import { type LoadResult, runBench, runH2load, targetOf } from "./load";

/** One number for one row of the table. */
export interface Measure {
  readonly value: number;
  readonly serverCpuMicroseconds?: number;
  readonly saturated?: boolean;
}

export interface Outcome {
  /** By the row's key. */
  readonly measures: Readonly<Record<string, Measure>>;
  readonly stallMs: number;
  readonly failures: readonly string[];
}

export interface Row {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  readonly better: "higher" | "lower";
  /** The ratio ours : theirs that is asked for at first; undefined where the goal is our own value. */
  readonly ratioGoal?: number;
  /** The bound for our own value. */
  readonly ownGoal?: number;
}

/** What a scenario may use: one kind of server on one data directory, started when it asks. */
export interface Bench {
  start(flags?: readonly string[]): Promise<Server>;
  /** Three members side by side, each syncing its log. */
  startCluster(flags?: readonly string[]): Promise<Cluster>;
  /** Time from the process's start until it serves, in milliseconds. */
  readonly lastStartMs: number;
  readonly scratch: string;
  readonly quick: boolean;
}

export interface Scenario {
  readonly name: string;
  readonly rows: readonly Row[];
  /** Takes long, and runs only once unless asked for more. */
  readonly heavy?: true;
  run(bench: Bench): Promise<Outcome>;
}

const valueBytes = 256;
const layout = { keyPrefix: "bench/", keyBytes: 24 };
const key = benchKey(layout, 0);
const value = benchValue(valueBytes, 1);
const hundredByTen = { connections: 100, inFlight: 10 };

function outcome(rowKey: string, result: LoadResult): Outcome {
  const { perSecond, serverCpuMicroseconds, saturated, stallMs, failures } = result;
  return {
    measures: { [rowKey]: { value: perSecond, serverCpuMicroseconds, saturated } },
    stallMs,
    failures,
  };
}

const seconds = (bench: Bench, full: number): string => `${bench.quick ? Math.max(1, full / 3) : full}s`;

/** Writes the keys that the reads ask for, outside of what is measured. */
async function fill(server: Server, keys: number): Promise<readonly string[]> {
  const argv = `put --sequential --clients 50 --in-flight 10 --no-probe --key-space ${keys} --total ${keys}`;
  return (await runBench(server, argv.split(" "))).failures;
}

async function putOnce(server: Server): Promise<void> {
  const [connection] = await openConnections([targetOf(server)], 1);
  const request = create(PutRequestSchema, { key, value });
  await callOnce(connection!, methodPaths.put, PutRequestSchema, request, PutResponseSchema);
  connection!.close();
}

async function databaseBytes(server: Server): Promise<number> {
  const [connection] = await openConnections([targetOf(server)], 1);
  const path = "/etcdserverpb.Maintenance/Status";
  const answer = await callOnce(
    connection!,
    path,
    StatusRequestSchema,
    create(StatusRequestSchema),
    StatusResponseSchema,
  );
  connection!.close();
  return Number(answer.dbSize);
}

/** Compacts to the present revision; resolves when the rows are gone, with the time that it took. */
async function compactAll(server: Server): Promise<number> {
  const [connection] = await openConnections([targetOf(server)], 1);
  const revision = await storeRevision(connection!);
  const beginMs = performance.now();
  await callOnce(
    connection!,
    "/etcdserverpb.KV/Compact",
    CompactionRequestSchema,
    create(CompactionRequestSchema, { revision, physical: true }),
    CompactionResponseSchema,
  );
  connection!.close();
  return performance.now() - beginMs;
}

export const scenarios: readonly Scenario[] = [
  {
    name: "put",
    rows: [
      { key: "put", title: "puts, one key, 100 x 10, 256 B", unit: "/s", better: "higher", ratioGoal: 1 },
    ],
    async run(bench) {
      const server = await bench.start();
      const message = toBinary(PutRequestSchema, create(PutRequestSchema, { key, value }));
      const calls = bench.quick ? 50_000 : 200_000;
      const load = { path: methodPaths.put, message, calls, ...hundredByTen, revisionsPerCall: 1 } as const;
      return outcome("put", await runH2load(server, { ...load, answerBytesMin: 5 }, bench.scratch));
    },
  },
  {
    name: "put-spread",
    rows: [
      {
        key: "put-spread",
        title: "puts, 100,000 keys, 100 x 10, 256 B",
        unit: "/s",
        better: "higher",
        ratioGoal: 1,
      },
    ],
    async run(bench) {
      const server = await bench.start();
      const total = bench.quick ? "50000" : "200000";
      const argv = [
        "put",
        "--clients",
        "100",
        "--in-flight",
        "10",
        "--key-space",
        "100000",
        "--total",
        total,
      ];
      return outcome("put-spread", await runBench(server, argv));
    },
  },
  {
    name: "put-lone",
    rows: [
      { key: "lone-p50", title: "put of one client, p50", unit: "ms", better: "lower" },
      { key: "lone-p99", title: "put of one client, p99", unit: "ms", better: "lower" },
    ],
    async run(bench) {
      const server = await bench.start();
      const result = await runBench(server, ["put", "--clients", "1", "--duration", seconds(bench, 4)]);
      const { p50, p99 } = result.latencyMs!;
      const { serverCpuMicroseconds, stallMs, failures } = result;
      return {
        measures: { "lone-p50": { value: p50, serverCpuMicroseconds }, "lone-p99": { value: p99 } },
        stallMs,
        failures,
      };
    },
  },
  {
    name: "get",
    rows: [
      {
        key: "get",
        title: "linearizable gets, one key, 100 x 10",
        unit: "/s",
        better: "higher",
        ratioGoal: 2,
      },
    ],
    async run(bench) {
      const server = await bench.start();
      await putOnce(server);
      const message = toBinary(RangeRequestSchema, create(RangeRequestSchema, { key }));
      const calls = bench.quick ? 50_000 : 200_000;
      const load = { path: methodPaths.range, message, calls, ...hundredByTen, revisionsPerCall: 0 } as const;
      return outcome("get", await runH2load(server, { ...load, answerBytesMin: valueBytes }, bench.scratch));
    },
  },
  {
    name: "get-spread",
    rows: [
      {
        key: "get-spread",
        title: "linearizable gets, 10,000 keys, 100 x 10",
        unit: "/s",
        better: "higher",
        ratioGoal: 2,
      },
    ],
    async run(bench) {
      const server = await bench.start();
      const failures = await fill(server, 10_000);
      const total = bench.quick ? 50_000 : 200_000;
      const argv = `range --no-prepare --clients 100 --in-flight 10 --total ${total}`.split(" ");
      const result = outcome("get-spread", await runBench(server, argv));
      return { ...result, failures: [...failures, ...result.failures] };
    },
  },
  {
    name: "range",
    rows: [{ key: "range", title: "ranges of 500 keys, 256 B", unit: "/s", better: "higher", ratioGoal: 1 }],
    async run(bench) {
      const server = await bench.start();
      const failures = await fill(server, 10_000);
      const argv = `range --no-prepare --range-keys 500 --clients 50 --duration ${seconds(bench, 5)}`;
      const result = outcome("range", await runBench(server, argv.split(" ")));
      return { ...result, failures: [...failures, ...result.failures] };
    },
  },
  {
    name: "watch",
    rows: [{ key: "watch", title: "events to 1,000 watchers", unit: "/s", better: "higher", ratioGoal: 1 }],
    async run(bench) {
      const server = await bench.start();
      const argv = ["watch", "--watchers", "1000", "--clients", "20", "--connections", "20"];
      return outcome("watch", await runBench(server, [...argv, "--duration", seconds(bench, 5)]));
    },
  },
  {
    name: "lease",
    rows: [
      { key: "lease", title: "lease keep-alives, 100 x 10", unit: "/s", better: "higher", ratioGoal: 1.5 },
    ],
    async run(bench) {
      const server = await bench.start();
      const argv = ["lease-keepalive", "--clients", "100", "--in-flight", "10"];
      return outcome("lease", await runBench(server, [...argv, "--duration", seconds(bench, 5)]));
    },
  },
  {
    name: "million",
    heavy: true,
    rows: [
      {
        key: "memory",
        title: "memory with a million keys, 256 B",
        unit: "MB",
        better: "lower",
        ratioGoal: 0.8,
      },
      { key: "memory-restart", title: "the same after a restart", unit: "MB", better: "lower" },
      { key: "start", title: "start with a million keys", unit: "ms", better: "lower", ratioGoal: 1 },
      { key: "big-range", title: "range of 100 MB beside 1,000 puts/s", unit: "ms", better: "lower" },
      { key: "big-range-put", title: "put p99 during that range", unit: "ms", better: "lower" },
      {
        key: "big-range-stall",
        title: "longest stall during that range",
        unit: "ms",
        better: "lower",
        ownGoal: 50,
      },
    ],
    async run(bench) {
      const flags = ["--quota-backend-bytes", String(8 * 1024 ** 3)];
      const keys = bench.quick ? 450_000 : 1_000_000;
      let server = await bench.start(flags);
      const argv = `put --sequential --clients 100 --in-flight 10 --key-space ${keys} --total ${keys}`;
      const filled = await runBench(server, argv.split(" "));
      await Bun.sleep(3000);
      const memory = server.residentBytes() / 1e6;
      await server.stop();
      server = await bench.start(flags);
      const startMs = bench.lastStartMs;
      await Bun.sleep(1000);
      const memoryRestart = server.residentBytes() / 1e6;
      const big = await bigRangeBesidePuts(server, keys);
      return {
        measures: {
          memory: { value: memory },
          "memory-restart": { value: memoryRestart },
          start: { value: startMs },
          "big-range": { value: big.rangeMs },
          "big-range-put": { value: big.putP99Ms },
          "big-range-stall": { value: big.stallMs },
        },
        stallMs: Math.max(filled.stallMs, big.stallMs),
        failures: [...filled.failures, ...big.failures],
      };
    },
  },
  {
    name: "compaction",
    heavy: true,
    rows: [
      {
        key: "compact-put",
        title: "put p99 while a million revisions go, against before",
        unit: "x",
        better: "lower",
        ownGoal: 2,
      },
      { key: "compact-before", title: "put p99 before", unit: "ms", better: "lower" },
      { key: "compact-during", title: "put p99 meanwhile", unit: "ms", better: "lower" },
      { key: "compact-time", title: "time of that compaction", unit: "ms", better: "lower" },
      {
        key: "compact-size",
        title: "file size after ten cycles, against the second",
        unit: "x",
        better: "lower",
        ownGoal: 1.3,
      },
      { key: "compact-stall", title: "longest stall during it", unit: "ms", better: "lower", ownGoal: 50 },
    ],
    run: compactionCycles,
  },
  ...restScenarios,
  ...clusterScenarios,
];

async function bigRangeBesidePuts(
  server: Server,
  keys: number,
): Promise<{ rangeMs: number; putP99Ms: number; stallMs: number; failures: readonly string[] }> {
  const [connection] = await openConnections([targetOf(server)], 1);
  // The puts go to keys outside of the range, so that its answer is known.
  const putting = runBench(
    server,
    "put --key-prefix other/ --rate 1000 --clients 20 --connections 4 --duration 6s".split(" "),
  );
  await Bun.sleep(2500);
  const limit = Math.min(keys, 400_000);
  const request = create(RangeRequestSchema, {
    key: benchKey(layout, 0),
    rangeEnd: Buffer.from("bench0"),
    limit: BigInt(limit),
  });
  const beginMs = performance.now();
  const failures: string[] = [];
  const answer = await new Promise<number>((resolve) => {
    let bytes = 0;
    connection!.call(methodPaths.range, toBinary(RangeRequestSchema, request), {
      message: (message) => {
        bytes += message.length;
      },
      end: (code, text) => {
        if (code !== 0) failures.push(`the large range failed with ${code}: ${text}`);
        resolve(bytes);
      },
    });
  });
  const rangeMs = performance.now() - beginMs;
  connection!.close();
  if (answer < 100e6) failures.push(`the large range gave ${answer} bytes`);
  const puts = await putting;
  return {
    rangeMs,
    putP99Ms: puts.latencyMs!.p99,
    stallMs: puts.stallMs,
    failures: [...failures, ...puts.failures],
  };
}

async function compactionCycles(bench: Bench): Promise<Outcome> {
  const server = await bench.start(["--quota-backend-bytes", String(8 * 1024 ** 3)]);
  const failures: string[] = [];
  let stallMs = 0;
  const overwrite = async (revisions: number): Promise<void> => {
    const argv = ["put", "--clients", "100", "--in-flight", "10", "--key-space", "10000", "--sequential"];
    const result = await runBench(server, [...argv, "--total", String(revisions)]);
    failures.push(...result.failures);
  };
  const steadyPuts = async (duration: string, until?: Promise<unknown>): Promise<LoadResult> => {
    const argv = `put --rate 1000 --clients 20 --connections 4 --duration ${duration}`;
    const result = await runBench(server, argv.split(" "), until);
    failures.push(...result.failures);
    stallMs = Math.max(stallMs, result.stallMs);
    return result;
  };

  await overwrite(bench.quick ? 100_000 : 1_000_000);
  const before = await steadyPuts(seconds(bench, 6));
  const compacted = Promise.withResolvers<void>();
  const during = steadyPuts("10m", compacted.promise);
  await Bun.sleep(500);
  const compactMs = await compactAll(server).finally(compacted.resolve);
  const { latencyMs } = await during;

  const sizes: number[] = [];
  for (let cycle = 0; cycle < 10; cycle++) {
    await overwrite(bench.quick ? 10_000 : 100_000);
    await compactAll(server);
    await Bun.sleep(300);
    sizes.push(await databaseBytes(server));
  }
  return {
    measures: {
      "compact-put": { value: latencyMs!.p99 / before.latencyMs!.p99 },
      "compact-before": { value: before.latencyMs!.p99 },
      "compact-during": { value: latencyMs!.p99 },
      "compact-time": { value: compactMs },
      "compact-size": { value: sizes[9]! / sizes[1]! },
      "compact-stall": { value: stallMs },
    },
    stallMs,
    failures,
  };
}
