/**
 * A follower that was away while the others wrote more than their logs keep gets a snapshot, on real disks and over
 * real connections, while clients go on writing. KEELSON_CATCHUP_MB=1000 measures what that costs them, and with
 * KEELSON_CATCHUP_THROUGH=log what it costs when the logs kept everything.
 */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { KV, Maintenance } from "../../src/proto/gen/etcd/rpc_pb";
import { startCluster } from "../tools/cluster";
import { GrpcClient } from "../tools/grpc-client";

const megabytes = Number(process.env["KEELSON_CATCHUP_MB"] ?? "160");
const measured = process.env["KEELSON_CATCHUP_MB"] !== undefined;
const throughLog = process.env["KEELSON_CATCHUP_THROUGH"] === "log";
const valueBytes = (throughLog ? 16 : 64) * 1024;
const values = (megabytes * 1024 ** 2) / valueBytes;
const putsPerSecond = measured ? 500 : 100;

async function revisionOf(client: GrpcClient): Promise<bigint> {
  const reply = await client.unary(KV.method.range, { key: Buffer.from("k"), serializable: true });
  if (!reply.ok) throw new Error(reply.text);
  return reply.message.header!.revision;
}

/** Puts at a fixed rate, counted from when each was due; stops when told. */
async function paced(client: GrpcClient, stop: () => boolean): Promise<Float64Array> {
  const durations: number[] = [];
  const calls: Promise<void>[] = [];
  const startedAt = performance.now();
  for (let i = 0; !stop(); i++) {
    const dueAt = startedAt + (i * 1_000) / putsPerSecond;
    const early = dueAt - performance.now();
    if (early > 0) await Bun.sleep(early);
    calls.push(
      client
        .unary(KV.method.put, { key: Buffer.from(`paced${i % 1_000}`), value: Buffer.alloc(256, "v") })
        .then((reply) => {
          if (!reply.ok) throw new Error(reply.text);
          durations.push(performance.now() - dueAt);
        }),
    );
  }
  await Promise.all(calls);
  return Float64Array.from(durations).sort();
}

function describe(durations: Float64Array): string {
  const at = (share: number) => (durations[Math.floor(durations.length * share)] ?? 0).toFixed(1);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(0.9999)} ms of ${durations.length} puts`;
}

test(
  `a follower catches up ${throughLog ? "through the log" : "by snapshot"} while clients write, and then holds the same`,
  async () => {
    const cluster = await startCluster({
      size: 3,
      flags: [
        "--snapshot-catchup-entries",
        throughLog ? "1000000" : "100",
        "--quota-backend-bytes",
        "8000000000",
      ],
    });
    const leader = await cluster.leader();
    const away = cluster.running.find((member) => member !== leader)!;
    const client = new GrpcClient(leader.clientUrl);
    await away.stop();
    const value = crypto.getRandomValues(new Uint8Array(valueBytes));
    for (let written = 0; written < values; written += 16) {
      const puts = Array.from({ length: 16 }, (_, i) =>
        client.unary(KV.method.put, { key: Buffer.from(`k${written + i}`), value }),
      );
      for (const reply of await Promise.all(puts)) expect(reply.ok).toBe(true);
    }
    await Bun.sleep(measured ? 5_000 : 500);
    const baseline = await paced(client, after(measured ? 10_000 : 1_000));

    let caughtUpAt = 0;
    const startedAt = performance.now();
    const during = paced(client, () => caughtUpAt > 0);
    await away.start({}, 300_000);
    const follower = new GrpcClient(away.clientUrl);
    for (;;) {
      if ((await revisionOf(follower)) > (await revisionOf(client)) - 200n) break;
      await Bun.sleep(50);
    }
    caughtUpAt = performance.now();
    const catching = await during;
    console.log(
      `${megabytes} MB in ${((caughtUpAt - startedAt) / 1_000).toFixed(1)} s; before: ${describe(baseline)}; ` +
        `during: ${describe(catching)}`,
    );
    expect(away.server!.log().includes("installed the leader's snapshot")).toBe(!throughLog);

    const { revision } = (await client.unary(KV.method.put, { key: Buffer.from("last") }).then((reply) => {
      if (!reply.ok) throw new Error(reply.text);
      return reply.message.header!;
    }))!;
    await follower.unary(KV.method.range, { key: Buffer.from("last") });
    const hashes = await Promise.all(
      [client, follower].map(async (asked) => {
        const reply = await asked.unary(Maintenance.method.hashKV, { revision });
        if (!reply.ok) throw new Error(reply.text);
        return [reply.message.hash, reply.message.compactRevision];
      }),
    );
    expect(hashes[1]).toEqual(hashes[0]);
    await Bun.sleep(1_000);
    const folders = readdirSync(away.dataDir).filter((name) => name.startsWith("state"));
    if (!throughLog) expect(folders).toEqual(["state-2"]);
    // It starts from what it received.
    await away.stop();
    await away.start();
    expect(await revisionOf(new GrpcClient(away.clientUrl))).toBeGreaterThanOrEqual(revision);
    await cluster.stop();
  },
  measured ? 600_000 : 120_000,
);

function after(durationMs: number): () => boolean {
  const endAt = performance.now() + durationMs;
  return () => performance.now() >= endAt;
}
