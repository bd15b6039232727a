/** Leases on whole clusters: renewed on any member, timed by whoever leads (lease-rules.md). */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster, peerUrl } from "../../test/sim/cluster";
import { refuse } from "../errors";
import { PutRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

const id = 77n;

function grant(ttlSeconds: number, lease = id) {
  const value = {
    $typeName: "etcdserverpb.LeaseGrantRequest",
    ID: lease,
    TTL: BigInt(ttlSeconds),
  } as const;
  return { case: "leaseGrant", value } as const;
}

function put(key: string, lease: bigint) {
  const request = create(PutRequestSchema, { key: new TextEncoder().encode(key), lease });
  return { case: "put", value: request } as const;
}

function renewed(member: Member, lease = id): Promise<number> {
  return Promise.resolve(member.renewLease(lease));
}

function granted(ttlSeconds: number, options: ConstructorParameters<typeof Cluster>[2] = {}): Cluster {
  const cluster = new Cluster(3, 1, options).start();
  cluster.clock.settle(cluster.leader().write(grant(ttlSeconds)));
  return cluster;
}

test("L13 every member renews, and knows what is left, by asking the leader", () => {
  const cluster = granted(10);
  cluster.clock.run(4_500);
  for (const member of cluster.running()) {
    const left = cluster.clock.settle(member.leaseTimeToLive(id));
    expect(left).toEqual({ grantedTtlSeconds: 10, remainingSeconds: 5 });
  }
  for (const member of cluster.running()) {
    cluster.clock.run(5_000);
    expect(cluster.clock.settle(renewed(member))).toBe(10);
  }
  expect(cluster.clock.settle(cluster.followers()[0]!.leaseTimeToLive(id))).toEqual({
    grantedTtlSeconds: 10,
    remainingSeconds: 9,
  });
  expect(cluster.clock.settle(cluster.followers()[0]!.leaseTimeToLive(5n))).toBeUndefined();
});

test("L13 many renewals of a follower travel together", () => {
  const cluster = granted(60);
  const follower = cluster.followers()[0]!;
  const leases = Array.from({ length: 500 }, (_, i) => BigInt(1_000 + i));
  cluster.clock.settle(Promise.all(leases.map((lease) => follower.write(grant(60, lease)))));
  let calls = 0;
  cluster.network.filter = (message) => {
    if (message.kind === "call") calls++;
    return true;
  };
  const answers = cluster.clock.settle(Promise.all(leases.map((lease) => renewed(follower, lease))));
  expect(new Set(answers)).toEqual(new Set([60]));
  expect(calls).toBe(1);
});

test("L13 a renewal whose leader is gone is answered by the next one", () => {
  const cluster = granted(30);
  const [follower] = cluster.followers();
  const lost = cluster.leader();
  const answer = renewed(follower!);
  cluster.crash(cluster.node(lost.id));
  expect(cluster.clock.settle(answer)).toBe(30);
  expect(cluster.leader().id).not.toBe(lost.id);
});

test("L13 without any leader a renewal ends with no leader", () => {
  const cluster = granted(30);
  const [follower, other] = cluster.followers();
  const leader = cluster.leader();
  cluster.crash(cluster.node(leader.id));
  cluster.crash(cluster.node(other!.id));
  cluster.clock.run(3_000);
  const outcome = cluster.clock.settle(renewed(follower!).catch((error: unknown) => error));
  expect(outcome).toMatchObject({ message: refuse("noLeader").message });
});

test("L14 a leader that is cut off answers no renewal, and after healing the next leader does", () => {
  const cluster = granted(60);
  const leader = cluster.leader();
  const others = cluster.followers().map((member) => member.id);
  cluster.network.part([leader.id], others);
  let answered = false;
  const answer = renewed(leader).then((ttlSeconds) => {
    answered = true;
    return ttlSeconds;
  });
  cluster.clock.run(5_000);
  expect(answered).toBeFalse();
  cluster.network.heal();
  expect(cluster.clock.settle(answer)).toBe(60);
  expect(cluster.leader().id).not.toBe(leader.id);
});

test("L14 the only voter does not renew what a learner knows to be revoked", () => {
  const cluster = new Cluster(1).start();
  const [voter] = cluster.running();
  const added = voter!.addMember({ peerUrls: [peerUrl("m2")], isLearner: true });
  const { id: memberId, members } = cluster.clock.settle(added);
  const others = members.filter(({ ID }) => ID !== memberId);
  const { member: learner } = cluster.join("m2", {
    clusterId: voter!.clusterId,
    memberId,
    name: "m2",
    members: others.map(({ ID, peerURLs }) => ({ id: ID, peerUrls: peerURLs })),
    promote: false,
  });
  cluster.clock.settle(learner!.ready());
  cluster.clock.settle(voter!.write(grant(60)));
  cluster.until(() => learner!.state.lease(id));
  // As in a checkpoint: the voter commits and tells the learner, but applies nothing itself.
  const release = cluster.node(voter!.id).world.holdApply();
  const revoked = voter!.write({
    case: "leaseRevoke",
    value: { $typeName: "keelson.LeaseRevoke", id, expiredInTerm: 0n },
  });
  cluster.until(() => learner!.state.lease(id) === undefined);
  const answers = [renewed(voter!), renewed(learner!)];
  cluster.clock.run(100);
  release();
  expect(cluster.clock.settle(Promise.all(answers))).toEqual([0, 0]);
  cluster.clock.settle(revoked);
});

test("L14 what a client was told of a renewal holds under the next leader", () => {
  const ttlSeconds = 5;
  for (let seed = 1; seed <= 5; seed++) {
    const cluster = new Cluster(3, seed, { leaseCheckpoints: true }).start();
    const first = cluster.leader();
    cluster.clock.settle(first.write(grant(ttlSeconds)));
    cluster.clock.settle(first.write(put("a", id)));
    cluster.clock.run(4_000);
    const [follower] = cluster.followers();
    const askedAtMs = cluster.clock.monotonicMs();
    expect(cluster.clock.settle(renewed(follower!))).toBe(ttlSeconds);
    cluster.crash(cluster.node(first.id));
    cluster.until(() => follower!.state.lease(id) === undefined);
    const livedMs = cluster.clock.monotonicMs() - askedAtMs;
    expect(livedMs).toBeGreaterThanOrEqual(ttlSeconds * 1_000);
    expect(livedMs).toBeLessThan(15_000);
  }
});

test("L15 a lease is over for a follower's client when its revoke is applied, and unknown ones at once", () => {
  const cluster = granted(2);
  const [follower] = cluster.followers();
  expect(cluster.clock.settle(renewed(follower!, 12_345n))).toBe(0);
  cluster.clock.run(2_000);
  expect(cluster.clock.settle(renewed(follower!))).toBe(0);
  expect(cluster.leader().state.lease(id)).toBeUndefined();
});

test("[#12528] L8 a deposed leader revokes nothing that the next one keeps", () => {
  const cluster = granted(3);
  const old = cluster.leader();
  const others = cluster.followers();
  cluster.clock.run(1_000);
  // Cut off just before the lease ends: the old leader proposes a revoke that cannot be committed.
  cluster.network.part(
    [old.id],
    others.map((member) => member.id),
  );
  cluster.until(() => others.some((member) => member.isLeader));
  const next = others.find((member) => member.isLeader)!;
  cluster.until(() => next.leases.leading);
  expect(cluster.clock.settle(renewed(next))).toBe(3);
  cluster.network.heal();
  cluster.clock.run(1_500);
  expect(next.state.lease(id)).toBeDefined();
  expect(old.state.lease(id)).toBeDefined();
  expect(cluster.fatal()).toEqual([]);
});

test("L14 a renewal that a leader makes before it knows of the revoke is answered as void", () => {
  const cluster = granted(30);
  const leader = cluster.leader();
  const [follower] = cluster.followers();
  // Its own disk keeps the leader from applying what the others have committed.
  const release = cluster.node(leader.id).world.holdSyncs();
  const revoke = {
    case: "leaseRevoke",
    value: { $typeName: "keelson.LeaseRevoke", id, expiredInTerm: 0n },
  } as const;
  cluster.clock.settle(follower!.write(revoke));
  expect(leader.state.lease(id)).toBeDefined();
  const answer = renewed(follower!);
  cluster.clock.run(100);
  release();
  expect(cluster.clock.settle(answer)).toBe(0);
});

test("L11 an id that was granted anew while its renewal was proven is told the new time", () => {
  const cluster = granted(30);
  const leader = cluster.leader();
  const [follower] = cluster.followers();
  const release = cluster.node(leader.id).world.holdSyncs();
  const revoke = {
    case: "leaseRevoke",
    value: { $typeName: "keelson.LeaseRevoke", id, expiredInTerm: 0n },
  } as const;
  cluster.clock.settle(follower!.write(revoke));
  cluster.clock.settle(follower!.write(grant(5)));
  const answer = renewed(follower!);
  cluster.clock.run(100);
  release();
  expect(cluster.clock.settle(answer)).toBe(5);
});

/** A cluster with a lease of twenty minutes, and its leader, a moment before the first record of the lease's rest. */
function aboutToRecord(): { readonly cluster: Cluster; readonly leader: Member } {
  const cluster = granted(1_200, { leaseCheckpoints: true });
  const leader = cluster.leader();
  cluster.until(() => leader.leases.remaining(id)! <= 900_100, 400_000);
  return { cluster, leader };
}

/** The leader is lost: what has the next one left of the lease? */
function leftUnderNext(cluster: Cluster): number {
  cluster.crash(cluster.node(cluster.leader().id));
  const next = cluster.leader();
  cluster.until(() => next.leases.leading);
  return cluster.clock.settle(next.leaseTimeToLive(id))!.remainingSeconds;
}

test("L10 a rest that a deposed leader wanted recorded does not shorten a renewal by the next one", () => {
  const { cluster, leader: old } = aboutToRecord();
  const others = cluster.followers();
  cluster.network.part(
    [old.id],
    others.map((member) => member.id),
  );
  cluster.clock.run(600);
  expect(old.counters().proposalsPending).toBe(1);
  cluster.until(() => others.some((member) => member.leases.leading));
  const next = others.find((member) => member.leases.leading)!;
  expect(cluster.clock.settle(renewed(next))).toBe(1_200);
  cluster.network.heal();
  cluster.until(() => old.counters().proposalsPending === 0);
  expect(leftUnderNext(cluster)).toBeGreaterThan(1_190);
});

test("L10 no rest is recorded between the clearing of one and the renewal that wanted it", () => {
  const { cluster, leader } = aboutToRecord();
  cluster.clock.run(1_000);
  expect(leader.state.lease(id)!.remainingTtlSeconds).toBe(900);
  // The clearing waits for the disks while the next rest becomes due.
  cluster.until(() => leader.leases.remaining(id)! <= 600_100, 400_000);
  const release = cluster.running().map((member) => cluster.node(member.id).world.holdSyncs());
  const answer = renewed(leader);
  cluster.clock.run(900);
  for (const go of release) go();
  expect(cluster.clock.settle(answer)).toBe(1_200);
  cluster.clock.run(100);
  expect(leftUnderNext(cluster)).toBeGreaterThan(1_190);
});
