/** Leadership that is handed over, by order, at a stop, or because the leader's disk no longer keeps up. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster, peerUrl } from "../../test/sim/cluster";
import { refuse, StoreError } from "../errors";
import { PutRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

function put(key: string) {
  const request = create(PutRequestSchema, { key: new TextEncoder().encode(key) });
  return { case: "put", value: request } as const;
}

function refusal(cluster: Cluster, promise: Promise<unknown>): string {
  const outcome = cluster.clock.settle(promise.catch((error: unknown) => error));
  return outcome instanceof Error ? outcome.message : "accepted";
}

const tookTooLong = "etcdserver: request timed out, leader transfer took too long";

test("leadership goes where it is sent, within a few messages", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const [to] = cluster.followers();
  const beganAtMs = cluster.clock.monotonicMs();
  cluster.clock.settle(leader.transferLeader(to!.id));
  expect(cluster.clock.monotonicMs() - beganAtMs).toBeLessThan(50);
  expect(cluster.leader()).toBe(to!);
  expect(refusal(cluster, to!.transferLeader(to!.id))).toBe("accepted");
});

test("etcd's refusals: not the leader, no such voter, a target that does not answer", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const [first, second] = cluster.followers();
  expect(refusal(cluster, first!.transferLeader(second!.id))).toBe(refuse("notLeader").message);
  expect(refusal(cluster, leader.transferLeader(99n))).toBe(refuse("badLeaderTransferee").message);
  cluster.clock.run(6_000);
  const { id } = cluster.clock.settle(leader.addMember({ peerUrls: [peerUrl("m4")], isLearner: true }));
  expect(refusal(cluster, leader.transferLeader(id))).toBe(refuse("badLeaderTransferee").message);
  cluster.crash(cluster.node(first!.id));
  expect(refusal(cluster, leader.transferLeader(first!.id))).toBe(tookTooLong);
  expect(cluster.leader()).toBe(leader);
});

test("proposals during a transfer wait: for the next leader, or for this one when it fails", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const [to, other] = cluster.followers();
  const write = (member: Member, key: string) => member.write(put(key), "put");
  const transfer = leader.transferLeader(to!.id);
  const written = [leader, to!, other!].map((member, i) => write(member, `during-${i}`));
  cluster.clock.settle(Promise.all([transfer, ...written]));
  expect(cluster.leader()).toBe(to!);
  // The target is gone: the transfer is given up, and what waited is written.
  const gone = cluster.followers()[0]!;
  const rest = cluster.followers()[1]!;
  cluster.crash(cluster.node(gone.id));
  const failed = refusal(cluster, to!.transferLeader(gone.id));
  expect(failed).toBe(tookTooLong);
  const again = to!.transferLeader(gone.id).catch((error: unknown) => error);
  cluster.clock.settle(Promise.all([write(to!, "after-1"), write(rest, "after-2")]));
  expect(cluster.clock.settle(again)).toBeInstanceOf(StoreError);
});

test("a leader that stops hands over first: nobody waits for an election", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const node = cluster.node(leader.id);
  const [follower] = cluster.followers();
  const written: Promise<unknown>[] = [];
  for (let i = 0; i < 20; i++) written.push(follower!.write(put(`before-${i}`)));
  const beganAtMs = cluster.clock.monotonicMs();
  cluster.clock.settle(leader.stop());
  node.member = undefined;
  cluster.clock.settle(Promise.all(written));
  cluster.clock.settle(follower!.write(put("after")));
  expect(cluster.clock.monotonicMs() - beganAtMs).toBeLessThan(200);
  expect(cluster.fatal()).toEqual([]);
});

test("a leader that finds nobody to hand over to stops all the same, within an election timeout or two", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  cluster.network.part(
    [leader.id],
    cluster.followers().map(({ id }) => id),
  );
  const beganAtMs = cluster.clock.monotonicMs();
  cluster.clock.settle(leader.stop());
  expect(cluster.clock.monotonicMs() - beganAtMs).toBeLessThan(2_500);
});

test("rolling restarts: every member in turn, with writes everywhere and none refused for good", () => {
  const cluster = new Cluster(3).start();
  const outcomes: Promise<string>[] = [];
  for (const node of cluster.nodes) {
    for (let i = 0; i < 30; i++) {
      for (const member of cluster.running()) {
        if (member === node.member && i >= 10) continue;
        const outcome = member.write(put(`${node.name}-${i}-${member.id}`)).then(
          () => "done",
          (error: unknown) => (error as StoreError).message,
        );
        outcomes.push(outcome);
      }
      if (i === 10) {
        cluster.clock.settle(node.member!.stop());
        node.member = undefined;
      }
      cluster.clock.run(5);
    }
    cluster.open(node);
    cluster.clock.settle(node.member!.ready());
  }
  const told = cluster.clock.settle(Promise.all(outcomes));
  expect(new Set(told)).toEqual(new Set(["done"]));
});

test("a follower whose disk hangs holds nobody up, and catches up", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const [slow, other] = cluster.followers();
  const release = cluster.node(slow!.id).world.holdSyncs();
  for (let i = 0; i < 100; i++) cluster.clock.settle(leader.write(put(`a-${i}`)), 100);
  cluster.clock.settle(other!.write(put("b")), 100);
  expect(cluster.leader(1)).toBe(leader);
  release();
  cluster.until(() => slow!.state.appliedIndex === leader.state.appliedIndex);
  expect(cluster.fatal()).toEqual([]);
});

test("a leader whose disk hangs makes way for one that can answer", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const [follower] = cluster.followers();
  const release = cluster.node(leader.id).world.holdSyncs();
  const stuck = leader.write(put("a"));
  const next = cluster.until(() => cluster.running().find((member) => member.isLeader && member !== leader));
  cluster.clock.settle(follower!.write(put("b")));
  release();
  cluster.clock.settle(stuck);
  expect(cluster.leader()).toBe(next);
  expect(cluster.fatal()).toEqual([]);
});

test("a leader that stepped down for one that then wins no election stops all the same", () => {
  const cluster = new Cluster(2).start();
  const leader = cluster.leader();
  cluster.network.filter = ({ kind }) => kind !== "vote-answer";
  const beganAtMs = cluster.clock.monotonicMs();
  cluster.clock.settle(leader.stop());
  expect(cluster.clock.monotonicMs() - beganAtMs).toBeLessThan(2_500);
});
