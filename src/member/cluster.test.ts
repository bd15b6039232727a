/** Several members and what a client is told, case by case; `honesty.test.ts` mixes them at random. */
import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster } from "../../test/sim/cluster";
import { refuse, type StoreError } from "../errors";
import { PutRequestSchema, RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";
import { replayed } from "./publication";

const encoder = new TextEncoder();

function put(key: string, value = "value", lease = 0n) {
  const request = create(PutRequestSchema, { key: encoder.encode(key), value: encoder.encode(value), lease });
  return { case: "put", value: request } as const;
}

function keys(member: Member): number {
  return member.state.range(
    create(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) }),
  ).count;
}

/** What became of a request. */
function told(promise: Promise<unknown>): { what: string } {
  const outcome = { what: "waiting" };
  promise.then(
    () => {
      outcome.what = "done";
    },
    (error: unknown) => {
      const { message, definite } = error as StoreError;
      outcome.what = `${definite ? "never" : "unknown"}: ${message}`;
    },
  );
  return outcome;
}

const unknown = (name: Parameters<typeof refuse>[0]) => `unknown: ${refuse(name).message}`;
const never = (name: Parameters<typeof refuse>[0]) => `never: ${refuse(name).message}`;

/** Cuts one member off from all others. */
function isolate(cluster: Cluster, member: Member): void {
  const others = cluster.running().filter((other) => other !== member);
  cluster.network.part(
    [member.id],
    others.map(({ id }) => id),
  );
}

function sameKeys(cluster: Cluster, count: number): void {
  cluster.until(() => cluster.running().every((member) => keys(member) === count));
  expect(cluster.fatal()).toEqual([]);
}

test("three members elect one leader, and each of them takes writes and linearizable reads", () => {
  const cluster = new Cluster(3).start();
  cluster.leader();
  let written = 0;
  for (const member of cluster.running()) {
    const { revision } = cluster.clock.settle(member.write(put(`key-${written}`), "put"));
    written++;
    expect(revision).toBe(1 + written);
    for (const reader of cluster.running()) {
      cluster.clock.settle(reader.linearizable());
      expect(keys(reader)).toBe(written);
    }
  }
  expect(cluster.fatal()).toEqual([]);
});

describe("when the leader is lost", () => {
  test("writes that come while nobody leads wait for the next leader, on every member", () => {
    const cluster = new Cluster(3).start();
    const followers = cluster.followers();
    cluster.crash(cluster.node(cluster.leader().id));
    cluster.until(() => followers.every(({ leader }) => leader === 0n));
    const outcomes = followers.map((member, i) => told(member.write(put(`k${i}`))));
    const reads = followers.map((member) => told(member.linearizable()));
    cluster.clock.run(4_000);
    expect([...outcomes, ...reads].map(({ what }) => what)).toEqual(["done", "done", "done", "done"]);
    sameKeys(cluster, 2);
  });

  test("forwarded writes that it took down with it are done by the next one, once", () => {
    const cluster = new Cluster(3).start();
    const leader = cluster.leader();
    const followers = cluster.followers();
    // It takes what it is sent and tells nobody.
    for (const follower of followers) cluster.network.cutOneWay(leader.id, follower.id);
    const outcomes = followers.map((member, i) => told(member.write(put(`k${i}`))));
    cluster.clock.run(20);
    expect(leader.status().lastIndex).toBeGreaterThan(followers[0]!.status().lastIndex);
    cluster.crash(cluster.node(leader.id));
    cluster.clock.run(4_000);
    expect(outcomes.map(({ what }) => what)).toEqual(["done", "done"]);
    sameKeys(cluster, 2);
  });

  test("forwarded writes that it replicated and never answered for are done once", () => {
    const cluster = new Cluster(3).start();
    const leader = cluster.leader();
    const [asked, other] = cluster.followers();
    const release = cluster.node(leader.id).world.holdSyncs();
    const outcome = told(asked!.write(put("a")));
    cluster.until(() => other!.status().lastIndex === leader.status().lastIndex);
    cluster.crash(cluster.node(leader.id));
    release();
    cluster.clock.run(4_000);
    expect(outcome.what).toBe("done");
    sameKeys(cluster, 1);
  });

  test("its own writes, cut off with it, are done by the next leader when the network heals in time", () => {
    const cluster = new Cluster(3).start();
    const old = cluster.leader();
    isolate(cluster, old);
    const outcomes = [0, 1, 2].map((i) => told(old.write(put(`old-${i}`))));
    const next = cluster.until(() => cluster.running().find((member) => member !== old && member.isLeader));
    const beside = told(next.write(put("new")));
    cluster.clock.run(1_000);
    expect([beside.what, ...outcomes.map(({ what }) => what)]).toEqual([
      "done",
      "waiting",
      "waiting",
      "waiting",
    ]);
    cluster.network.heal();
    cluster.clock.run(2_000);
    expect(outcomes.map(({ what }) => what)).toEqual(["done", "done", "done"]);
    sameKeys(cluster, 4);
  });

  test("[P18] cut off for longer, it says that its writes may happen, and what never left it will not", () => {
    const cluster = new Cluster(3).start();
    const old = cluster.leader();
    isolate(cluster, old);
    const appended = told(old.write(put("appended")));
    cluster.until(() => !old.isLeader);
    cluster.until(() => old.leader === 0n);
    const queued = told(old.write(put("queued")));
    cluster.clock.run(old.requestTimeoutMs + 600);
    expect([appended.what, queued.what]).toEqual([unknown("timeout"), never("timeout")]);
    cluster.network.heal();
    cluster.leader();
    cluster.clock.run(2_000);
    sameKeys(cluster, 0);
  });

  test("a read that the old leader cannot confirm is answered by the next one, with all that was written", () => {
    const cluster = new Cluster(3).start();
    const old = cluster.leader();
    isolate(cluster, old);
    const next = cluster.until(() => cluster.running().find((member) => member !== old && member.isLeader));
    cluster.clock.settle(next.write(put("new")));
    const read = told(old.linearizable().then(() => expect(keys(old)).toBe(1)));
    cluster.clock.run(1_000);
    expect(read.what).toBe("waiting");
    cluster.network.heal();
    cluster.clock.run(1_000);
    expect(read.what).toBe("done");
  });
});

describe("which timeout is told", () => {
  test("that of a previous leader, when the request came while it was being replaced", () => {
    const cluster = new Cluster(3).start();
    const leader = cluster.leader();
    const [asked] = cluster.followers();
    // The leader takes the write and tells nobody; the new one is elected and cannot be reached by who asked.
    cluster.network.filter = (message) => message.kind !== "append" && message.kind !== "propose-refused";
    const outcome = told(asked!.write(put("a")));
    cluster.clock.run(50);
    cluster.crash(cluster.node(leader.id));
    cluster.clock.run(asked!.requestTimeoutMs + 1_000);
    expect(outcome.what).toBe(unknown("timeoutDueToLeaderFail"));
  });

  test("that of a lost connection, when the leader was out of reach meanwhile", () => {
    const cluster = new Cluster(3).start();
    cluster.clock.run(10_000);
    const [asked] = cluster.followers();
    cluster.network.filter = (message) => message.kind !== "propose";
    const outcome = told(asked!.write(put("a")));
    cluster.clock.run(100);
    cluster.network.heal();
    cluster.clock.run(asked!.requestTimeoutMs + 1_000);
    expect(outcome.what).toBe(unknown("timeoutDueToConnectionLost"));
  });

  test("the plain one, when nothing is known to have been wrong", () => {
    const cluster = new Cluster(3).start();
    cluster.clock.run(10_000);
    const [asked] = cluster.followers();
    cluster.network.filter = (message) => message.kind !== "propose";
    const outcome = told(asked!.write(put("a")));
    cluster.clock.run(asked!.requestTimeoutMs + 1_000);
    expect(outcome.what).toBe(unknown("timeout"));
    expect(asked!.counters().proposalsFailed).toBe(1);
  });
});

test("a member that restarts answers nobody for its former life", () => {
  const cluster = new Cluster(3).start();
  const [asked] = cluster.followers();
  const node = cluster.node(asked!.id);
  const before = Array.from({ length: 5 }, (_, i) => told(asked!.write(put(`before-${i}`))));
  cluster.clock.run(0.5);
  cluster.crash(node);
  const again = cluster.open(node);
  // The sequence numbers start over, and the entries of the former life are applied again.
  const after = Array.from({ length: 5 }, (_, i) => again.write(put(`after-${i}`), "put"));
  const revisions = cluster.clock.settle(Promise.all(after)).map(({ revision }) => revision);
  cluster.clock.settle(again.linearizable());
  expect(new Set(revisions).size).toBe(5);
  expect(Math.min(...revisions)).toBe(again.revision - 4);
  expect(before.every(({ what }) => what === "waiting")).toBeTrue();
});

test("batches that arrive twice, late and out of order are written once", () => {
  const cluster = new Cluster(3, 4).start();
  cluster.network.weather = {
    delayMinMs: 0.2,
    delayMaxMs: 300,
    lostPerMille: 0,
    repeatedPerMille: 900,
    reordered: true,
  };
  const [first, second] = cluster.followers();
  const written: Promise<unknown>[] = [];
  for (let i = 0; i < 100; i++) {
    written.push((i % 2 === 0 ? first : second)!.write(put(`k${i}`)));
    cluster.clock.run(3);
  }
  cluster.clock.settle(Promise.all(written));
  sameKeys(cluster, 100);
  expect(cluster.running().map(({ revision }) => revision)).toEqual([101, 101, 101]);
});

test("reads of a follower share rounds: a thousand cost a handful of questions", () => {
  const cluster = new Cluster(3).start();
  const [reader] = cluster.followers();
  let questions = 0;
  cluster.network.filter = (message) => {
    if (message.kind === "read-index") questions++;
    return true;
  };
  const reads: Promise<unknown>[] = [];
  for (let i = 0; i < 1_000; i++) {
    reads.push(reader!.linearizable());
    if (i % 100 === 0) cluster.clock.run(0.5);
  }
  cluster.clock.settle(Promise.all(reads));
  expect(questions).toBeLessThan(12);
});

test("a leader that cannot write keeps forwarded writes for its heir, or says that they will not happen", () => {
  const cluster = new Cluster(3).start();
  const leader = cluster.leader();
  const [asked, heir] = cluster.followers();
  leader.space.logFull(true);
  const refused = told(asked!.write(put("a")));
  cluster.clock.run(3_500);
  expect(refused.what).toBe(never("requestTooManyRequests"));
  const kept = told(asked!.write(put("b")));
  cluster.clock.run(1_000);
  expect(kept.what).toBe("waiting");
  cluster.clock.settle(leader.transferLeader(heir!.id));
  cluster.clock.run(100);
  expect(kept.what).toBe("done");
  sameKeys(cluster, 1);
});

test("[P6] a member that starts alone has replayed what its log knows as committed before it serves", () => {
  const cluster = new Cluster(3, 1, { applyCommitIntervalMs: 60_000 }).start();
  const { id } = cluster.leader();
  for (let i = 0; i < 500; i++) cluster.clock.settle(cluster.leader().write(put(`k${i}`)));
  const node = cluster.node(id);
  const { revision } = cluster.leader();
  for (const one of cluster.nodes) cluster.crash(one);
  const member = cluster.open(node);
  const { commit } = member.status();
  expect(member.state.appliedIndex).toBeLessThan(commit);
  cluster.clock.settle(replayed(member, commit));
  expect(member.state.appliedIndex).toBeGreaterThanOrEqual(commit);
  // The commit index is written along with the next batch.
  expect(member.revision).toBeGreaterThanOrEqual(revision - 2);
  expect(member.leader).toBe(0n);
});

describe("a founder whose data were lost", () => {
  test("is turned away by those who know that it has lived, whoever leads, and ends", () => {
    const cluster = new Cluster(3).start();
    const former = cluster.leader();
    const lost = cluster.node(cluster.followers()[0]!.id);
    cluster.clock.settle(former.write(put("a")));
    cluster.loseDisk(lost);
    // The next leader knows nothing of what the lost one acknowledged.
    const place = cluster.node(former.id);
    cluster.crash(place);
    cluster.open(lost);
    cluster.clock.run(3_000);
    cluster.open(place);
    cluster.clock.run(3_000);
    expect(String(lost.world.fatal[0])).toContain("has already been bootstrapped");
    expect(String(lost.world.fatal[0])).toContain("etcdctl member remove");
    const others = cluster.nodes.filter((node) => node !== lost);
    expect(others.flatMap(({ world }) => world.fatal)).toEqual([]);
    const [one] = others;
    expect(cluster.clock.settle(one!.member!.write(put("b"), "put")).revision).toBe(3);
  });

  test("is none of which only unsynced entries were lost: it is not known before it has synced some", () => {
    const cluster = new Cluster(3);
    for (const node of cluster.nodes) cluster.open(node);
    const slow = cluster.nodes[2]!;
    const { id } = slow.member!;
    slow.world.holdSyncs();
    const others = cluster.nodes.slice(0, 2).map(({ member }) => member!);
    cluster.clock.settle(Promise.all(others.map((member) => member.ready())));
    slow.member!.ready().catch(() => {});
    cluster.clock.run(3_000);
    expect(slow.member!.leader).not.toBe(0n);
    for (const { state } of others) {
      expect(state.members().find(({ ID }) => ID === id)?.clientURLs).toEqual([]);
    }
    cluster.crash(slow);
    cluster.clock.settle(cluster.open(slow).ready());
    expect(cluster.fatal()).toEqual([]);
  });
});
