/**
 * Members that crash, part and lag at random over logs that keep little, so that they install snapshots all the time;
 * watchers at every member and acknowledged writes are checked at the end. KEELSON_SEEDS runs more of them.
 */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster } from "../../test/sim/cluster";
import { fairWeather } from "../../test/sim/network";
import { installed, lines, put, sameState, shortLog } from "../../test/sim/lagging";
import { RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import { SeededRng } from "../rng";
import { parseRecord } from "../state/mvcc/record";
import { createRequest, Reader } from "../watch/test-support";

const seeds = Number(process.env["KEELSON_SEEDS"] ?? "6");
const first = Number(process.env["KEELSON_SEED"] ?? "1");

interface Watching {
  readonly reader: Reader;
  readonly fromRevision: number;
}

function run(seed: number): number {
  const rng = new SeededRng(seed);
  const cluster = new Cluster(3, seed, { ...shortLog, logSegmentBytes: 4 * 1024 }).start();
  if (seed % 2 === 0) {
    const lostPerMille = 1 + rng.below(50);
    cluster.network.weather = { ...fairWeather, lostPerMille, repeatedPerMille: 20, reordered: true };
  }
  const acknowledged = new Map<string, number>();
  const watching: Watching[] = [];
  const watch = (at: number): void => {
    const { member } = cluster.nodes[at]!;
    if (member === undefined) return;
    const reader = new Reader();
    const fromRevision = member.state.revision + 1;
    member.hub.openStream(reader, member.monotonicMs()).create(createRequest("k", { end: "l" }));
    watching.push({ reader, fromRevision });
  };
  let written = 0;
  for (let round = 0; round < 25; round++) {
    const place = rng.below(3);
    const node = cluster.nodes[place]!;
    switch (rng.below(6)) {
      case 0:
        if (node.member !== undefined) cluster.crash(node);
        break;
      case 1:
      case 2: {
        const ids = cluster.running().map(({ id }) => id);
        const alone = ids[rng.below(ids.length)]!;
        cluster.network.part(
          [alone],
          ids.filter((id) => id !== alone),
        );
        break;
      }
      case 3:
        watch(place);
        break;
      default:
        cluster.network.heal();
        for (const other of cluster.nodes) if (other.member === undefined) cluster.open(other);
    }
    for (let i = 0; i < 30; i++) {
      const members = cluster.running();
      if (members.length === 0) break;
      const key = `k${written++ % 200}`;
      const write = members[rng.below(members.length)]!.write(put(key, `${written}`.padEnd(400, "-")), "put");
      write.then(
        ({ revision }) => void acknowledged.set(key, Math.max(revision, acknowledged.get(key) ?? 0)),
        () => {},
      );
      cluster.clock.run(rng.below(40));
    }
    const leader = cluster.running().find((member) => member.isLeader);
    if (leader !== undefined && rng.below(4) === 0) {
      const revision = BigInt(Math.max(1, leader.state.revision - rng.below(60)));
      const value = { $typeName: "etcdserverpb.CompactionRequest", revision, physical: false } as const;
      leader.write({ case: "compaction", value }).catch(() => {});
    }
    cluster.clock.run(rng.below(40_000));
  }
  cluster.network.heal();
  for (const node of cluster.nodes) if (node.member === undefined) cluster.open(node);
  cluster.clock.run(20_000);
  const leader = cluster.leader();
  cluster.clock.settle(leader.write(put("end")));
  cluster.until(() =>
    cluster.running().every(({ state }) => state.appliedIndex === leader.state.appliedIndex),
  );
  for (const member of cluster.running()) if (member !== leader) sameState(member, leader);
  for (const [key, revision] of acknowledged) {
    const [record] = leader.state.range(create(RangeRequestSchema, { key: Buffer.from(key) })).records;
    expect(parseRecord(record!).mod).toBeGreaterThanOrEqual(revision);
  }
  for (const { reader, fromRevision } of watching) {
    let reached = fromRevision - 1;
    for (const { events, header } of reader.messages) {
      for (const { kv } of events) {
        expect(Number(kv!.modRevision)).toBeGreaterThan(reached);
        reached = Number(kv!.modRevision);
      }
      // Every write is to a watched key but the last, so nothing is left out.
      if (events.length > 0) expect(Number(header!.revision)).toBeGreaterThanOrEqual(reached);
    }
    const seen = reader.messages.flatMap(({ events }) => events.map(({ kv }) => Number(kv!.modRevision)));
    expect(seen).toEqual(seen.map((_, at) => fromRevision + at));
  }
  cluster.network.weather = fairWeather;
  cluster.clock.settle(leader.consistency.compare());
  expect(leader.consistency.mismatches).toBe(0);
  expect(cluster.fatal()).toEqual([]);
  return cluster.nodes.reduce((sum, node) => sum + lines(node, installed), 0);
}

test(`${seeds} clusters that install snapshots all the time lose nothing and tell nothing wrong`, () => {
  let installs = 0;
  for (let seed = first; seed < first + seeds; seed++) installs += run(seed);
  expect(installs).toBeGreaterThan(seeds);
}, 60_000);
