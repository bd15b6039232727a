/** The rows with three members: throughput, one client's latency, the loss of a leader, a snapshot beside writes. */
import { create, toBinary } from "@bufbuild/protobuf";
import { benchKey, benchValue, methodPaths } from "../../src/command/bench/requests";
import { Maintenance, PutRequestSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { measureFailover, median } from "../faults/failover";
import type { Cluster, ClusterMember } from "../tools/cluster";
import { GrpcClient } from "../tools/grpc-client";
import { type LoadResult, processCpuMs, runBench, runH2loadOverMembers } from "./load";
import type { Bench, Outcome, Scenario } from "./scenarios";

const layout = { keyPrefix: "bench/", keyBytes: 24 };

/** Members that have run for a moment, as those of a cluster have: neither side is measured while it warms up. */
async function warmCluster(bench: Bench, flags: readonly string[] = []): Promise<Cluster> {
  const cluster = await bench.startCluster(flags);
  for (const { server } of cluster.members) {
    await runBench(server!, "put --clients 10 --no-probe --duration 1s".split(" "));
  }
  return cluster;
}

async function put3(bench: Bench): Promise<Outcome> {
  const cluster = await warmCluster(bench);
  const message = toBinary(
    PutRequestSchema,
    create(PutRequestSchema, { key: benchKey(layout, 0), value: benchValue(256, 1) }),
  );
  const servers = cluster.members.map((member) => member.server!);
  // 33 connections to each member: 99 in all, as near to the 100 of one member as three allow.
  const load = {
    path: methodPaths.put,
    message,
    connections: 33,
    inFlight: 10,
    seconds: bench.quick ? 4 : 10,
  };
  const result = await runH2loadOverMembers(servers, load, bench.scratch);
  const { perSecond, serverCpuMicroseconds, saturated, stallMs, failures } = result;
  return { measures: { put3: { value: perSecond, serverCpuMicroseconds, saturated } }, stallMs, failures };
}

/** Processor time of all members while something runs, for each of its operations. */
async function withClusterCpu(cluster: Cluster, run: () => Promise<LoadResult>): Promise<LoadResult> {
  const cpu = (): number => cluster.running.reduce((sum, { server }) => sum + processCpuMs(server!.pid), 0);
  const before = cpu();
  const result = await run();
  const operations = result.operations + (result.warmUpOperations ?? 0);
  return { ...result, serverCpuMicroseconds: ((cpu() - before) * 1000) / Math.max(1, operations) };
}

async function lone3(bench: Bench): Promise<Outcome> {
  const cluster = await warmCluster(bench);
  const leader = await cluster.leader();
  const follower = cluster.members.find((member) => member !== leader)!;
  // Some 12,000 puts first: by then the members and the generator have compiled what is hot. With what the compilers
  // of six seconds take, p99 is a third higher.
  const argv = `put --clients 1 --no-probe --warm-up 6s --duration ${bench.quick ? "3s" : "6s"}`.split(" ");
  const measures: Record<string, { value: number; serverCpuMicroseconds?: number }> = {};
  const failures: string[] = [];
  for (const [name, member] of [
    ["leader", leader],
    ["follower", follower],
  ] as const) {
    const result = await withClusterCpu(cluster, () => runBench(member.server!, argv));
    failures.push(...result.failures);
    const { p50, p99 } = result.latencyMs!;
    const { serverCpuMicroseconds } = result;
    measures[`lone3-${name}-p50`] = { value: p50, serverCpuMicroseconds };
    measures[`lone3-${name}-p99`] = { value: p99 };
  }
  return { measures, stallMs: 0, failures };
}

async function failover(bench: Bench): Promise<Outcome> {
  const cluster = await bench.startCluster();
  const times: number[] = [];
  for (let round = 0; round < (bench.quick ? 7 : 20); round++) {
    const leader = await cluster.leader();
    const survivors = cluster.members.filter((member) => member !== leader);
    times.push(await measureFailover(leader, survivors));
    await leader.start({}, 60_000);
    await Bun.sleep(1_000);
  }
  const sorted = times.toSorted((a, b) => a - b);
  return {
    measures: { failover: { value: median(times) }, "failover-worst": { value: sorted.at(-1)! } },
    stallMs: 0,
    failures: [],
  };
}

/** The revision that a member has applied; 0 while it does not answer. */
async function appliedRevision(member: ClusterMember): Promise<number> {
  const client = new GrpcClient(member.clientUrl);
  try {
    const reply = await client.unary(Maintenance.method.status, {}, { timeoutMs: 2_000 });
    return reply.ok ? Number(reply.message.header?.revision ?? 0n) : 0;
  } catch {
    return 0;
  } finally {
    client.close();
  }
}

async function catchup(bench: Bench): Promise<Outcome> {
  const megabytes = bench.quick ? 100 : 1_000;
  const valueBytes = 16_384;
  const flags = [
    "--quota-backend-bytes",
    String(8 * 1024 ** 3),
    "--snapshot-count",
    "1000",
    "--snapshot-catchup-entries",
    "100",
  ];
  const cluster = await bench.startCluster(flags);
  const leader = await cluster.leader();
  const follower = cluster.members.find((member) => member !== leader)!;
  await follower.stop();
  const keys = Math.ceil((megabytes * 1e6) / valueBytes);
  const fill = `put --sequential --clients 8 --no-probe --key-prefix fill/ --value-size ${valueBytes} --key-space ${keys} --total ${keys}`;
  const filled = await runBench(leader.server!, fill.split(" "));
  const failures = [...filled.failures];
  const steady = async (duration: string, until?: Promise<unknown>): Promise<LoadResult> => {
    const argv = `put --rate 500 --clients 20 --connections 4 --duration ${duration}`;
    const result = await runBench(leader.server!, argv.split(" "), until);
    failures.push(...result.failures);
    return result;
  };
  await steady("2s");
  const before = await steady(bench.quick ? "4s" : "8s");
  const caughtUp = Promise.withResolvers<void>();
  const during = steady("10m", caughtUp.promise);
  await Bun.sleep(500);
  const beginMs = performance.now();
  const target = await appliedRevision(leader);
  await follower.launch();
  const deadline = beginMs + 300_000;
  while ((await appliedRevision(follower)) < target && performance.now() < deadline) await Bun.sleep(50);
  const tookMs = performance.now() - beginMs;
  if (tookMs > 300_000) failures.push("the follower has not caught up within 300 s");
  caughtUp.resolve();
  const { latencyMs, stallMs } = await during;
  return {
    measures: {
      catchup: { value: latencyMs!.p99 / before.latencyMs!.p99 },
      "catchup-before": { value: before.latencyMs!.p99 },
      "catchup-during": { value: latencyMs!.p99 },
      "catchup-time": { value: tookMs },
    },
    stallMs,
    failures,
  };
}

export const clusterScenarios: readonly Scenario[] = [
  {
    name: "put3",
    rows: [
      {
        key: "put3",
        title: "puts, three members, one key, 99 x 10, 256 B",
        unit: "/s",
        better: "higher",
        ratioGoal: 1.25,
      },
    ],
    run: put3,
  },
  {
    name: "lone3",
    rows: [
      {
        key: "lone3-leader-p50",
        title: "put of one client at the leader of three, p50",
        unit: "ms",
        better: "lower",
        ratioGoal: 1,
      },
      { key: "lone3-leader-p99", title: "the same, p99", unit: "ms", better: "lower", ratioGoal: 1 },
      {
        key: "lone3-follower-p50",
        title: "put of one client at a follower, p50",
        unit: "ms",
        better: "lower",
        ratioGoal: 1,
      },
      { key: "lone3-follower-p99", title: "the same, p99", unit: "ms", better: "lower", ratioGoal: 1 },
    ],
    run: lone3,
  },
  {
    name: "failover",
    heavy: true,
    rows: [
      {
        key: "failover",
        title: "leader killed until writes succeed, median of 20",
        unit: "ms",
        better: "lower",
        ownGoal: 1_500,
      },
      { key: "failover-worst", title: "the same, worst", unit: "ms", better: "lower" },
    ],
    run: failover,
  },
  {
    name: "catchup",
    heavy: true,
    rows: [
      {
        key: "catchup",
        title: "put p99 at 500/s during a snapshot of 1 GB, against before",
        unit: "x",
        better: "lower",
        ownGoal: 2,
      },
      { key: "catchup-before", title: "put p99 before", unit: "ms", better: "lower" },
      { key: "catchup-during", title: "put p99 meanwhile", unit: "ms", better: "lower" },
      { key: "catchup-time", title: "time until the follower is there", unit: "ms", better: "lower" },
    ],
    run: catchup,
  },
];
