/** Members that lag too far for the log, and catch up by snapshot. */
import { expect, test } from "bun:test";
import { Cluster, peerUrl } from "../../test/sim/cluster";
import {
  everything,
  installed,
  lagging,
  lines,
  outrun,
  put,
  sameState,
  shortLog,
} from "../../test/sim/lagging";
import { refuse, type StoreError } from "../errors";
import { snapshotBytesPerSecond } from "../limits";
import { createRequest, Reader } from "../watch/test-support";

const refused = "could not install the leader's snapshot; the leader will offer another";

test("a follower whose entries left the log catches up by snapshot, and goes on", () => {
  const { cluster, leader, follower, node } = lagging();
  cluster.clock.settle(
    leader.write({
      case: "leaseGrant",
      value: { $typeName: "etcdserverpb.LeaseGrantRequest", ID: 7n, TTL: 600n },
    }),
  );
  cluster.clock.settle(leader.write(put("leased", "v", 7n)));
  outrun(cluster, leader);
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  expect(lines(node, installed)).toBe(1);
  sameState(follower, leader);
  expect(follower.state.lease(7n)?.keys).toEqual(["leased"]);
  // It takes part again: writes through it, reads at it, and a restart.
  cluster.clock.settle(follower.write(put("after")));
  cluster.clock.settle(follower.linearizable());
  cluster.clock.run(2_000);
  expect(node.world.disk.list("/data").filter((name) => name.startsWith("state"))).toEqual(["state-2"]);
  cluster.crash(node);
  const again = cluster.open(node);
  cluster.until(() => again.state.appliedIndex === leader.state.appliedIndex);
  sameState(again, leader);
  expect(lines(node, installed)).toBe(1);
  expect(cluster.fatal()).toEqual([]);
});

test("[#15271] [#20221] watchers at a member that installs a snapshot see every event once, in order", () => {
  const { cluster, leader, follower } = lagging();
  const reader = new Reader();
  const stream = follower.hub.openStream(reader, follower.monotonicMs());
  const { revision } = follower.state;
  stream.create(createRequest("k", { end: "l", watchId: 1, prevKv: true }));
  stream.create(createRequest("k", { end: "l", watchId: 2, start: revision + 40 }));
  stream.create(createRequest("k", { end: "l", watchId: 3, start: revision + 1_000 }));
  stream.requestProgress();
  outrun(cluster, leader);
  outrun(cluster, leader);
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  cluster.clock.settle(leader.write(put("k0-0", "last")));
  cluster.clock.run(1_000);
  const seen = (id: bigint) =>
    reader.messages.filter(({ watchId }) => watchId === id).flatMap(({ events }) => events);
  const revisions = (id: bigint) => seen(id).map(({ kv }) => Number(kv!.modRevision) - revision);
  expect(revisions(1n)).toEqual(Array.from({ length: 161 }, (_, i) => i + 1));
  expect(revisions(2n)).toEqual(Array.from({ length: 122 }, (_, i) => i + 40));
  expect(revisions(3n)).toEqual([]);
  // The second round wrote the same keys again.
  for (const [at, { kv, prevKv }] of seen(1n).entries()) {
    expect(prevKv === undefined).toBe(at < 80);
    if (prevKv !== undefined) expect(prevKv.modRevision).toBeLessThan(kv!.modRevision);
  }
  let newest = 0n;
  for (const { header } of reader.messages) {
    expect(header!.revision).toBeGreaterThanOrEqual(newest);
    newest = header!.revision;
  }
});

test("watchers that need what the snapshot no longer has are told that it was compacted", () => {
  const { cluster, leader, follower } = lagging();
  const reader = new Reader();
  const stream = follower.hub.openStream(reader, follower.monotonicMs());
  stream.create(createRequest("k", { end: "l", watchId: 1 }));
  const next = follower.state.revision + 1;
  outrun(cluster, leader);
  cluster.clock.settle(
    leader.write({
      case: "compaction",
      value: {
        $typeName: "etcdserverpb.CompactionRequest",
        revision: BigInt(leader.state.revision),
        physical: false,
      },
    }),
  );
  outrun(cluster, leader);
  reader.take();
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  cluster.clock.run(1_000);
  const [last] = reader.take();
  expect(last).toMatchObject({ watchId: 1n, canceled: true });
  expect(Number(last!.compactRevision)).toBeGreaterThan(next);
});

test("reads under way finish at their revision, and reads and writes that wait are told the truth", () => {
  const { cluster, leader, follower } = lagging();
  for (let i = 0; i < 10; i++) follower.state.range(everything);
  const { count } = follower.state.range(everything);
  const reading = follower.state.rangeSliced(everything);
  const outcome = follower.write(put("lost")).then(
    () => "written",
    (error: StoreError) => `${error.definite} ${error.message}`,
  );
  cluster.clock.run(10);
  outrun(cluster, leader);
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  const slice = reading.next(100, 1e6);
  expect([slice.done, slice.count]).toEqual([true, count]);
  reading.close();
  // It was sent to the leader before the members were parted from each other, or never: nobody here can know.
  expect(cluster.clock.settle(outcome)).toContain("false etcdserver: request timed out");
  cluster.clock.settle(follower.linearizable());
  sameState(follower, leader);
});

test("[#18055] two snapshots in quick succession, the second while the first is being installed", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader);
  cluster.network.heal();
  cluster.until(() => follower.snapshots.receiver.status !== undefined);
  const first = follower.snapshots.receiver.status!.index;
  // Offers of the same and of another position come while it installs.
  for (const index of [first, first + 1]) {
    const { configuration } = leader.status();
    follower.snapshots.receive({
      kind: "snapshot",
      from: leader.id,
      to: follower.id,
      term: leader.term,
      position: { index, term: leader.term, configuration },
    });
  }
  cluster.until(() => lines(node, installed) === 1);
  const others = cluster.running().filter((member) => member !== follower);
  cluster.network.part(
    [follower.id],
    others.map(({ id }) => id),
  );
  outrun(cluster, leader, "again");
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  expect(lines(node, installed)).toBe(2);
  sameState(follower, leader);
  cluster.clock.run(2_000);
  expect(node.world.disk.list("/data").filter((name) => name.startsWith("state"))).toEqual(["state-3"]);
  expect(cluster.fatal()).toEqual([]);
});

test("several followers share one copy, which goes away when nobody needs it", () => {
  const cluster = new Cluster(5, 3, shortLog).start();
  const leader = cluster.leader();
  const late = cluster.followers().slice(0, 2);
  const others = cluster.running().filter((member) => !late.includes(member));
  cluster.network.part(
    late.map(({ id }) => id),
    others.map(({ id }) => id),
  );
  outrun(cluster, leader);
  cluster.network.heal();
  cluster.until(() => late.every(({ state }) => state.appliedIndex === leader.state.appliedIndex));
  const leading = cluster.node(leader.id);
  expect(lines(leading, "took a snapshot for members that lag")).toBe(1);
  cluster.clock.run(1_000);
  expect(leader.snapshots.sender.succeeded).toBe(2);
  cluster.clock.run(40_000);
  expect(leading.world.disk.list("/data").filter((name) => name.startsWith("snapshot"))).toEqual([]);
});

test("a broken connection is resumed where it broke", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader, "k", 40 * 1_024);
  cluster.network.heal();
  cluster.until(() => (follower.snapshots.receiver.status?.doneBytes ?? 0) > 0);
  const others = cluster.running().filter((member) => member !== follower);
  cluster.network.part(
    [follower.id],
    others.map(({ id }) => id),
  );
  cluster.clock.run(3_000);
  cluster.network.heal();
  cluster.until(() => lines(node, installed) === 1);
  expect(lines(node, "receiving a snapshot from the leader")).toBe(1);
  expect(follower.snapshots.receiver.receivedBytes).toBe(leader.snapshots.sender.sentBytes);
  sameState(follower, leader);
});

test("the leader dies while it sends: the next one sends its own", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader, "k", 40 * 1_024);
  cluster.network.heal();
  cluster.until(() => (follower.snapshots.receiver.status?.doneBytes ?? 0) > 0);
  cluster.crash(cluster.node(leader.id));
  const next = cluster.leader();
  cluster.until(() => follower.state.appliedIndex === next.state.appliedIndex);
  expect(lines(node, installed)).toBe(1);
  cluster.clock.settle(follower.write(put("after")));
  sameState(follower, next);
});

test("a snapshot that rots on its way is refused, and another one is sent", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader, "k", 4 * 1_024);
  const { sender } = leader.snapshots;
  const { readPiece } = sender;
  let rotten = 0;
  sender.readPiece = async (from, name, offset, bytesMax) => {
    const piece = Uint8Array.from(await readPiece.call(sender, from, name, offset, bytesMax));
    if (!name.endsWith(".json") && rotten++ === 0) piece[4_000] = piece[4_000]! ^ 1;
    return piece;
  };
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  expect(rotten).toBeGreaterThan(1);
  expect(lines(node, refused)).toBe(1);
  expect(lines(node, installed)).toBe(1);
  sameState(follower, leader);
});

test("without room for a copy the follower waits, and the leader says why and tries again", () => {
  const { cluster, leader, follower } = lagging();
  outrun(cluster, leader);
  const leading = cluster.node(leader.id);
  const { housekeeping } = leader;
  const take = housekeeping.takeSnapshotFile;
  housekeeping.takeSnapshotFile = () => Promise.reject(refuse("noSpace"));
  cluster.network.heal();
  cluster.clock.run(20_000);
  const failed = "could not take a snapshot for a member that lags, which waits for it";
  expect(lines(leading, failed)).toBeGreaterThan(2);
  // Ever later: at once, after 1, 2, 4, 8 seconds.
  expect(lines(leading, failed)).toBeLessThan(7);
  housekeeping.takeSnapshotFile = take;
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  sameState(follower, leader);
});

test("a follower without room refuses, is asked ever less often, and catches up once there is room", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader);
  const { disk } = node.world;
  disk.budgetBytes = 8 * 1024 ** 2;
  cluster.network.heal();
  cluster.clock.run(30_000);
  expect(lines(node, refused)).toBeGreaterThan(1);
  expect(lines(node, refused)).toBeLessThan(8);
  expect(leader.state.appliedIndex).toBeGreaterThan(follower.state.appliedIndex);
  disk.budgetBytes = Infinity;
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  sameState(follower, leader);
});

// Longer than others may take: the simulated disk copies the whole file at each of its syncs.
const rateTestMs = 30_000;

test(
  "a receiver gets no more in a second than its rate",
  () => {
    const { cluster, leader, follower } = lagging();
    outrun(cluster, leader, "k", 256 * 1024);
    cluster.network.heal();
    cluster.until(() => follower.snapshots.receiver.status !== undefined);
    const startedAtMs = cluster.clock.monotonicMs();
    cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
    const seconds = (cluster.clock.monotonicMs() - startedAtMs) / 1_000;
    const bytes = leader.snapshots.sender.sentBytes;
    expect(bytes).toBeGreaterThan(16 * 1024 ** 2);
    expect(bytes / seconds).toBeLessThan(1.3 * snapshotBytesPerSecond);
    expect(bytes / seconds).toBeGreaterThan(0.5 * snapshotBytesPerSecond);
  },
  rateTestMs,
);

test("a member whose database is gone or damaged refuses to start; removed and added anew it catches up", () => {
  const { cluster, leader, follower, node } = lagging();
  cluster.network.heal();
  outrun(cluster, leader);
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  const { id } = follower;
  // Its log was cut, so the state cannot be made again from it.
  follower.state.database.run("UPDATE revisions SET checksum = 1 WHERE sequence = 5");
  cluster.clock.settle(follower.stop());
  expect(() => cluster.open(node)).toThrow("add it anew");
  cluster.crash(node);
  for (const name of node.world.disk.list("/data/state-1")) node.world.disk.remove(`/data/state-1/${name}`);
  node.world.disk.syncDirectory("/data/state-1");
  expect(() => cluster.open(node)).toThrow("add it anew");
  cluster.crash(node);

  // What the messages say to do: another id takes its place, so that nothing it promised is forgotten.
  cluster.clock.run(10_000);
  cluster.clock.settle(leader.removeMember(id));
  outrun(cluster, leader, "later");
  cluster.clock.run(10_000);
  const added = cluster.clock.settle(leader.addMember({ peerUrls: [peerUrl("m4")], isLearner: true }));
  const fresh = cluster.join("m4", {
    clusterId: leader.clusterId,
    memberId: added.id,
    name: "m4",
    members: leader.state
      .members()
      .filter(({ ID }) => ID !== added.id)
      .map(({ ID, peerURLs }) => ({ id: ID, peerUrls: peerURLs })),
    promote: false,
  });
  const member = fresh.member!;
  cluster.until(() => member.state.appliedIndex === leader.state.appliedIndex);
  expect(lines(fresh, installed)).toBe(1);
  expect(member.status().configuration).toEqual(leader.status().configuration);
  sameState(member, leader);
  cluster.clock.settle(leader.consistency.compare());
  expect(leader.consistency.mismatches).toBe(0);
});

test("[#20650] a defragmentation, a compaction and a copy for a client do not disturb an install", () => {
  const { cluster, leader, follower, node } = lagging();
  outrun(cluster, leader);
  const compaction = {
    case: "compaction",
    value: {
      $typeName: "etcdserverpb.CompactionRequest",
      revision: BigInt(leader.state.revision - 5),
      physical: true,
    },
  } as const;
  cluster.clock.settle(leader.write(compaction));
  outrun(cluster, leader, "more");
  cluster.network.heal();
  const { housekeeping } = follower;
  const work: Promise<unknown>[] = [];
  let copies = 0;
  cluster.until(() => {
    work.push(housekeeping.defragment());
    housekeeping.compact();
    const path = `/data/copy-${copies++}`;
    work.push(housekeeping.takeSnapshotFile(path).catch((error: unknown) => String(error)));
    return lines(node, installed) === 1;
  });
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  cluster.clock.settle(Promise.all(work));
  cluster.clock.run(5_000);
  sameState(follower, leader);
  expect(cluster.clock.settle(leader.consistency.compare())).toBe(true);
  expect(cluster.fatal()).toEqual([]);
});

test("an offer that consensus has cut behind is not made again, though the log's file still reaches back", () => {
  // One file holds the whole log, so nothing that is cut leaves the disk.
  const { cluster, leader, follower, node } = lagging({
    logSegmentBytes: 4 * 1024 ** 2,
    bounds: { checkpointPauseMs: 500 },
  });
  const write = () => {
    for (let i = 0; i < 40; i++) cluster.clock.settle(leader.write(put(`k${i}`)));
    cluster.clock.run(3_000);
  };
  write();
  cluster.network.heal();
  cluster.until(() => follower.state.appliedIndex === leader.state.appliedIndex);
  expect(lines(node, installed)).toBe(1);
  // Soon after, while that copy is still offered, the other one falls behind too.
  const other = cluster.followers().find((member) => member !== follower)!;
  cluster.network.part([other.id], [leader.id, follower.id]);
  write();
  cluster.network.heal();
  cluster.until(() => other.state.appliedIndex === leader.state.appliedIndex);
  expect(lines(cluster.node(other.id), installed)).toBe(1);
  sameState(other, leader);
});
