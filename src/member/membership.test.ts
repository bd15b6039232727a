/** Membership of whole clusters: changes asked of any member, judged by the leader, seen by all. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster, type Node, peerUrl } from "../../test/sim/cluster";
import { refuse, type RefusalName } from "../errors";
import type { MemberId } from "../ids";
import { PutRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

function put(key: string) {
  const request = create(PutRequestSchema, { key: new TextEncoder().encode(key) });
  return { case: "put", value: request } as const;
}

/** Waits until connections count as healthy. */
function settled(size: number, options: ConstructorParameters<typeof Cluster>[2] = {}): Cluster {
  const cluster = new Cluster(size, 1, options).start();
  cluster.leader();
  cluster.clock.run(6_000);
  return cluster;
}

/** Starts the member that `id` stands for, as one that was told of the others. */
function join(cluster: Cluster, name: string, id: MemberId): Node {
  const asked = cluster.running()[0]!;
  const members = asked.state
    .members()
    .filter(({ ID }) => ID !== id)
    .map(({ ID, peerURLs }) => ({ id: ID, peerUrls: peerURLs }));
  return cluster.join(name, { clusterId: asked.clusterId, memberId: id, name, members, promote: false });
}

function refusal(cluster: Cluster, promise: Promise<unknown>): string {
  const outcome = cluster.clock.settle(promise.catch((error: unknown) => error));
  return outcome instanceof Error ? outcome.message : "accepted";
}

const text = (name: RefusalName) => refuse(name).message;

/** The members as each running one knows them, once all agree. */
function agreed(cluster: Cluster): string[] {
  return cluster.until(() => {
    const lists = cluster.running().map((member) => describe(member));
    return new Set(lists).size === 1 ? lists[0]!.split(" ") : undefined;
  });
}

function describe(member: Member): string {
  return member.state
    .members()
    .map(({ name, peerURLs, isLearner }) => `${name || peerURLs.join()}${isLearner ? "(learner)" : ""}`)
    .sort()
    .join(" ");
}

test("a learner is added through a follower, catches up, is promoted through another, and votes", () => {
  const cluster = settled(3);
  const [first, second] = cluster.followers();
  for (let i = 0; i < 50; i++) cluster.clock.settle(first!.write(put(`k${i}`)));
  const { id, members } = cluster.clock.settle(
    first!.addMember({ peerUrls: [peerUrl("m4")], isLearner: true }),
  );
  expect(members).toHaveLength(4);
  expect(refusal(cluster, second!.promoteMember(id))).toBe(text("learnerNotReady"));
  const node = join(cluster, "m4", id);
  cluster.clock.settle(node.member!.ready());
  expect(node.member!.isLearner).toBeTrue();
  expect(agreed(cluster)).toEqual(["m1", "m2", "m3", "m4(learner)"]);
  expect(cluster.clock.settle(second!.promoteMember(id)).some(({ isLearner }) => isLearner)).toBeFalse();
  expect(agreed(cluster)).toEqual(["m1", "m2", "m3", "m4"]);
  cluster.until(() => !node.member!.isLearner);
  // It counts: with one of four down, three go on.
  cluster.crash(cluster.node(first!.id));
  cluster.clock.settle(node.member!.write(put("after")));
  expect(node.member!.status().configuration.voters).toHaveLength(4);
  expect(cluster.fatal()).toEqual([]);
});

test("a removed follower learns it, its id is burnt, and the others go on", () => {
  const cluster = settled(3);
  const leader = cluster.leader();
  const [gone, other] = cluster.followers();
  const node = cluster.node(gone!.id);
  const members = cluster.clock.settle(other!.removeMember(gone!.id));
  expect(members).toHaveLength(2);
  cluster.until(() => node.removed);
  expect(gone!.isRemoved).toBeTrue();
  expect(node.world.logged.map(({ message }) => message)).toContain(
    "the member has been permanently removed from the cluster",
  );
  expect(refusal(cluster, leader.removeMember(gone!.id))).toBe(text("memberNotFound"));
  cluster.clock.settle(gone!.stop());
  cluster.clock.settle(leader.write(put("a")));
  expect(cluster.fatal()).toEqual([]);
});

test("a member that was down while it was removed is told when it comes back", () => {
  const cluster = settled(3);
  const node = cluster.node(cluster.followers()[0]!.id);
  const { id } = node.member!;
  cluster.crash(node);
  cluster.clock.settle(cluster.leader().removeMember(id));
  cluster.open(node);
  cluster.until(() => node.removed);
  expect(node.member!.isRemoved).toBeTrue();
});

test("a leader that is removed hands over first, and the change is made by the next one", () => {
  const cluster = settled(3);
  const leader = cluster.leader();
  const node = cluster.node(leader.id);
  const { term } = leader;
  const members = cluster.clock.settle(leader.removeMember(leader.id));
  expect(members.map(({ ID }) => ID)).not.toContain(leader.id);
  cluster.until(() => node.removed);
  cluster.clock.settle(leader.stop());
  node.member = undefined;
  const next = cluster.leader();
  expect(next.term).toBe(term + 1);
  cluster.clock.settle(next.write(put("a")));
  expect(next.status().configuration.voters).toHaveLength(2);
});

test("a cluster shrinks to one member and grows again", () => {
  const cluster = settled(3);
  for (let size = 3; size > 1; size--) {
    const [follower] = cluster.followers();
    const node = cluster.node(follower!.id);
    cluster.clock.settle(cluster.leader().removeMember(follower!.id));
    cluster.clock.settle(follower!.stop());
    node.member = undefined;
  }
  const last = cluster.leader();
  cluster.clock.settle(last.write(put("alone")));
  expect(refusal(cluster, last.removeMember(last.id))).toBe(text("memberNotEnoughStarted"));
  const { id } = cluster.clock.settle(last.addMember({ peerUrls: [peerUrl("m9")], isLearner: false }));
  // Two voters, one of which is not there: nothing can be written until it is.
  const written = last.write(put("waits"));
  const node = join(cluster, "m9", id);
  cluster.clock.settle(written);
  cluster.clock.settle(node.member!.ready());
  expect(agreed(cluster)).toHaveLength(2);
  expect(cluster.fatal()).toEqual([]);
});

test("peer URLs change for all members alike; learners stay learners", () => {
  const cluster = settled(3);
  const leader = cluster.leader();
  const { id } = cluster.clock.settle(leader.addMember({ peerUrls: [peerUrl("m4")], isLearner: true }));
  const [follower] = cluster.followers();
  const members = cluster.clock.settle(follower!.updateMember(id, [peerUrl("moved")]));
  expect(members.find(({ ID }) => ID === id)).toMatchObject({
    peerURLs: [peerUrl("moved")],
    isLearner: true,
  });
  expect(agreed(cluster)).toContain("http://moved:2380(learner)");
  expect(refusal(cluster, leader.updateMember(id, [peerUrl("m1")]))).toBe(text("peerURLExist"));
  expect(refusal(cluster, leader.updateMember(5n, [peerUrl("m7")]))).toBe(text("memberNotFound"));
});

test("changes asked at the same time are made one after the other", () => {
  const cluster = settled(3, { learnersMax: 3 });
  const added = cluster
    .running()
    .map((member, i) => member.addMember({ peerUrls: [peerUrl(`new${i}`)], isLearner: true }));
  cluster.clock.settle(Promise.all(added));
  expect(agreed(cluster)).toHaveLength(6);
  expect(refusal(cluster, cluster.leader().addMember({ peerUrls: [peerUrl("x")], isLearner: true }))).toBe(
    text("tooManyLearners"),
  );
});

test("of an addition and a change of address that race for one peer URL, one is refused on all members alike", () => {
  const cluster = settled(3, { learnersMax: 30 });
  const leader = cluster.leader();
  const add = (name: string) => leader.addMember({ peerUrls: [peerUrl(name)], isLearner: true });
  const outcomeOf = (promise: Promise<unknown>) =>
    promise.then(
      () => "made",
      (error: Error) => error.message,
    );
  const { id } = cluster.clock.settle(add("m4"));
  let additionsRefused = 0;
  for (let round = 0; round < 12; round++) {
    const wanted = `wanted${round}`;
    // Whoever is proposed second was judged before the first was applied.
    const moved = outcomeOf(leader.updateMember(id, [peerUrl(wanted)]));
    cluster.clock.run(round % 4);
    const added = outcomeOf(add(wanted));
    const outcomes = cluster.clock.settle(Promise.all([moved, added]));
    expect([...outcomes].sort()).toEqual([text("peerURLExist"), "made"]);
    if (outcomes[1] !== "made") additionsRefused++;
    cluster.clock.run(500);
    for (const member of cluster.running()) {
      const urls = member.state.members().flatMap(({ peerURLs }) => peerURLs);
      expect(new Set(urls).size).toBe(urls.length);
      expect(member.status().configuration).toEqual(member.state.configuration());
    }
  }
  expect(additionsRefused).toBeGreaterThan(0);
  expect(cluster.fatal()).toEqual([]);
});

test("a change that its leader could not finish is made by the next one, or was never made", () => {
  const cluster = settled(3);
  const leader = cluster.leader();
  const asked = cluster.followers()[0]!;
  // The leader's appends no longer leave it: it may take the change, and can never commit it.
  for (const follower of cluster.followers()) cluster.network.cutOneWay(leader.id, follower.id);
  const adding = leader
    .addMember({ peerUrls: [peerUrl("m4")], isLearner: true })
    .catch((error: unknown) => error);
  cluster.clock.run(4_000);
  cluster.network.heal();
  const outcome = cluster.clock.settle(adding);
  cluster.clock.settle(asked.linearizable());
  const present = asked.state.members().some(({ peerURLs }) => peerURLs.includes(peerUrl("m4")));
  expect(present).toBe(!(outcome instanceof Error));
  expect(cluster.leader().id).not.toBe(leader.id);
});

test("a member that was away finds its way back, although everybody it knew has been replaced", () => {
  const cluster = settled(3, { strictReconfiguration: false });
  const away = cluster.node(cluster.followers()[0]!.id);
  const founders = cluster.running().filter((member) => member !== away.member);
  cluster.crash(away);
  const replace = (name: string, gone: MemberId) => {
    const add = (): Promise<{ id: MemberId }> =>
      cluster.leader().addMember({ peerUrls: [peerUrl(name)], isLearner: true });
    const { id } = cluster.clock.settle(add());
    const node = join(cluster, name, id);
    cluster.clock.settle(node.member!.ready());
    cluster.clock.settle(cluster.leader().promoteMember(id));
    cluster.until(() => !node.member!.isLearner);
    cluster.clock.run(6_000);
    const goner = cluster.node(gone);
    cluster.clock.settle(cluster.leader().removeMember(gone));
    cluster.until(() => goner.removed);
    cluster.clock.settle(goner.member!.stop());
    goner.member = undefined;
    cluster.clock.run(6_000);
  };
  founders.forEach(({ id }, i) => replace(`new${i}`, id));
  cluster.clock.settle(cluster.leader().write(put("meanwhile")));
  const back = cluster.open(away);
  cluster.clock.settle(back.ready());
  cluster.until(() => back.state.appliedIndex === cluster.leader().state.appliedIndex);
  expect(agreed(cluster)).toHaveLength(3);
  expect(cluster.fatal()).toEqual([]);
});

test("whoever asked sees the change itself when the leader's answer is lost", () => {
  const cluster = settled(3);
  const [asked] = cluster.followers();
  cluster.network.filter = ({ kind }) => kind !== "call-answer";
  const beganAtMs = cluster.clock.monotonicMs();
  const adding = asked!.addMember({ peerUrls: [peerUrl("m4")], isLearner: true });
  const { id, members } = cluster.clock.settle(adding);
  expect(members).toHaveLength(4);
  const node = join(cluster, "m4", id);
  cluster.clock.settle(node.member!.ready());
  expect(cluster.clock.settle(asked!.promoteMember(id)).some(({ isLearner }) => isLearner)).toBeFalse();
  expect(cluster.clock.settle(asked!.removeMember(id))).toHaveLength(3);
  expect(cluster.clock.monotonicMs() - beganAtMs).toBeLessThan(3_000);
  // What is so already cannot be seen to become so.
  expect(refusal(cluster, asked!.removeMember(id))).toBe(text("timeout"));
});
