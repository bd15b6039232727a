import { describe, expect, test } from "bun:test";
import { Cluster, type Node } from "../../test/sim/cluster";
import { lines, put } from "../../test/sim/lagging";
import { AlarmType } from "../proto/gen/etcd/rpc_pb";
import { Journal } from "../state/position";
import { compareHashes } from "./consistency";
import type { Member } from "./member";
import type { MemberOptions } from "./options";
import { raiseAlarm } from "./operations";

const hash = (id: bigint, value: number, compactRevision = 5) => ({ id, hash: value, compactRevision });

describe("the verdict", () => {
  test("equal hashes are equal, whoever did not answer", () => {
    expect(compareHashes([hash(1n, 7), hash(2n, 7), hash(3n, 7)], 3)).toEqual({ kind: "equal" });
    expect(compareHashes([hash(1n, 7)], 3)).toEqual({ kind: "equal" });
  });

  test("whoever differs from more than half of all members is wrong, the one that asks not excepted", () => {
    expect(compareHashes([hash(1n, 8), hash(2n, 7), hash(3n, 7)], 3)).toEqual({
      kind: "deviants",
      ids: [1n],
    });
    const five = [hash(1n, 7), hash(2n, 8), hash(3n, 7), hash(4n, 9), hash(5n, 7)];
    expect(compareHashes(five, 5)).toEqual({ kind: "deviants", ids: [2n, 4n] });
  });

  test("without a majority nobody is called wrong alone", () => {
    expect(compareHashes([hash(1n, 7), hash(2n, 8)], 2)).toEqual({ kind: "unclear", ids: [1n, 2n] });
    // Two of five agree: the others may outvote them.
    expect(compareHashes([hash(1n, 7), hash(2n, 7), hash(3n, 8)], 5).kind).toBe("unclear");
  });

  test("members that compacted differently are not compared with each other", () => {
    expect(compareHashes([hash(1n, 7), hash(2n, 8, 9), hash(3n, 7)], 3)).toEqual({ kind: "equal" });
  });
});

function clusterOf(size: number, options: Partial<MemberOptions> = {}) {
  const cluster = new Cluster(size, 1, options).start();
  const leader = cluster.leader();
  for (let i = 0; i < 20; i++) cluster.clock.settle(leader.write(put(`k${i}`)));
  cluster.clock.run(1_000);
  return { cluster, leader, node: (member: Member) => cluster.node(member.id) };
}

/** A row changes together with its checksums, as no disk does it, but a mistake of ours may. */
function falsify(member: Member): void {
  const { state } = member;
  const { database } = state;
  state.flush();
  const row = database
    .query<{ sequence: number; main: number; sub: number; checksum: number; record: Uint8Array }, []>(
      "SELECT * FROM revisions ORDER BY sequence LIMIT 1",
    )
    .get()!;
  const record = Buffer.from(row.record);
  record[record.length - 1] = record.at(-1)! ^ 1;
  const numbers = new Float64Array([row.sequence, row.main, row.sub, 0]);
  const checksum = Bun.hash.crc32(record, Bun.hash.crc32(new Uint8Array(numbers.buffer)));
  database
    .query("UPDATE revisions SET record = ?1, checksum = ?2 WHERE sequence = ?3")
    .run(record, checksum, row.sequence);
  // The sums over all rows fit as well, so that a restart finds nothing.
  const journal = new Journal(database);
  journal.position.rows.subtract(row.checksum);
  journal.position.rows.add(checksum);
  journal.write(0);
  journal.commit();
}

const corruptAlarms = (member: Member) =>
  member.state
    .alarms()
    .filter(({ alarm }) => alarm === AlarmType.CORRUPT)
    .map(({ memberID }) => memberID);

const compared = "compared the own data with other members'";

describe("the periodic comparison", () => {
  const checking = { corruptCheckIntervalMs: 10_000 };

  test("equal members stay without an alarm, while they write and compact", () => {
    const { cluster, leader } = clusterOf(3, { ...checking, compactHashCheckIntervalMs: 5_000 });
    for (let round = 0; round < 30; round++) {
      cluster.clock.settle(leader.write(put(`k${round % 7}`)));
      if (round % 10 === 9) {
        const revision = BigInt(leader.state.revision - 3);
        cluster.clock.settle(
          leader.write({
            case: "compaction",
            value: { $typeName: "etcdserverpb.CompactionRequest", revision, physical: false },
          }),
        );
      }
      cluster.clock.run(2_000);
    }
    expect(leader.consistency.checks).toBeGreaterThan(5);
    expect(leader.consistency.mismatches).toBe(0);
    expect(corruptAlarms(leader)).toEqual([]);
  });

  test("[P20] a follower with other rows is named, writes end, and it no longer answers from its data", () => {
    const { cluster, leader } = clusterOf(3, checking);
    const wrong = cluster.followers()[0]!;
    falsify(wrong);
    cluster.until(() => corruptAlarms(leader).length > 0);
    expect(corruptAlarms(leader)).toEqual([wrong.id]);
    expect(() => cluster.clock.settle(leader.write(put("k")))).toThrow("etcdserver: corrupt cluster");
    cluster.clock.run(1_000);
    expect(cluster.running().map(({ consistency }) => consistency.damaged)).toEqual(
      cluster.running().map((member) => member === wrong),
    );
    cluster.clock.run(30_000);
    expect(corruptAlarms(leader)).toEqual([wrong.id]);
  });

  test("[P20] a leader that is wrong itself is named by its own comparison", () => {
    const { cluster, leader } = clusterOf(3, checking);
    falsify(leader);
    cluster.until(() => corruptAlarms(leader).length > 0);
    expect(corruptAlarms(leader)).toEqual([leader.id]);
  });

  test("two members that differ: the alarm names nobody", () => {
    const { cluster, leader } = clusterOf(2, checking);
    falsify(leader);
    cluster.until(() => corruptAlarms(leader).length > 0);
    expect(corruptAlarms(leader)).toEqual([0n]);
  });

  test("a compaction is compared once, when all members have it", () => {
    const { cluster, leader } = clusterOf(3, { compactHashCheckIntervalMs: 1_000 });
    cluster.clock.run(5_000);
    expect(leader.consistency.checks).toBe(0);
    const [wrong] = cluster.followers();
    cluster.clock.settle(
      leader.write({
        case: "compaction",
        value: { $typeName: "etcdserverpb.CompactionRequest", revision: 21n, physical: false },
      }),
    );
    cluster.clock.run(5_000);
    expect(leader.consistency.checks).toBe(1);
    cluster.clock.settle(leader.write(put("k")));
    cluster.clock.run(100);
    falsify(wrong!);
    cluster.clock.settle(
      leader.write({
        case: "compaction",
        value: { $typeName: "etcdserverpb.CompactionRequest", revision: 22n, physical: false },
      }),
    );
    cluster.until(() => corruptAlarms(leader).length > 0);
    expect(corruptAlarms(leader)).toEqual([wrong!.id]);
  });
});

describe("the comparison before serving", () => {
  function restart(cluster: Cluster, node: Node): Member {
    cluster.clock.settle(node.member!.stop());
    return cluster.open(node);
  }

  test("a member that is like the others serves", () => {
    const { cluster, node } = clusterOf(3);
    const place = node(cluster.followers()[0]!);
    const again = restart(cluster, place);
    cluster.clock.settle(again.consistency.checkBeforeServing());
    expect(lines(place, compared)).toBe(1);
  });

  test("a member that differs from the majority refuses to serve, and says what to do; the majority serves", () => {
    const { cluster, leader, node } = clusterOf(3);
    const wrong = cluster.followers()[0]!;
    falsify(wrong);
    const again = restart(cluster, node(wrong));
    expect(() => cluster.clock.settle(again.consistency.checkBeforeServing())).toThrow("must not serve");
    cluster.clock.settle(leader.consistency.checkBeforeServing());
  });

  test("when all start at once, each hashes its data once, and not for everybody who asks", () => {
    const { cluster, node } = clusterOf(3);
    const again = cluster.running().map((member) => restart(cluster, node(member)));
    cluster.until(() => again.every(({ revision }) => revision === again[0]!.revision && revision > 20));
    let runs = 0;
    for (const { state } of again) {
      const hashKV = state.hashKV.bind(state);
      state.hashKV = (revision) => {
        runs++;
        const run = hashKV(revision);
        // It lasts until the others have asked.
        const next = run.next.bind(run);
        const untilMs = cluster.clock.monotonicMs() + 500;
        run.next = (rowsMax) => (cluster.clock.monotonicMs() < untilMs ? undefined : next(rowsMax));
        return run;
      };
    }
    cluster.clock.settle(Promise.all(again.map(({ consistency }) => consistency.checkBeforeServing())));
    expect(runs).toBe(3);
  });

  test("nobody is waited for longer than some seconds", () => {
    const { cluster, leader } = clusterOf(3);
    for (const member of cluster.followers()) cluster.crash(cluster.node(member.id));
    const startedAtMs = cluster.clock.monotonicMs();
    cluster.clock.settle(leader.consistency.checkBeforeServing());
    expect(cluster.clock.monotonicMs() - startedAtMs).toBeLessThan(5_000);
  });

  test("an alarm survives, and a lowered one lets the cluster write again", () => {
    const { cluster, leader } = clusterOf(3);
    cluster.clock.settle(leader.propose(raiseAlarm(leader.id, AlarmType.CORRUPT)));
    expect(leader.consistency.damaged).toBe(true);
    cluster.clock.settle(
      leader.write({
        case: "alarm",
        value: {
          $typeName: "etcdserverpb.AlarmRequest",
          action: 2,
          memberID: leader.id,
          alarm: AlarmType.CORRUPT,
        },
      }),
    );
    expect(leader.consistency.damaged).toBe(false);
    cluster.clock.settle(leader.write(put("k")));
  });
});
