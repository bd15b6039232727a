import { describe, expect, test } from "bun:test";
import { create, type DescMethodUnary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { GrpcCode, refuse, StoreError } from "../errors";
import {
  type Member,
  type MemberAddRequest,
  MemberAddResponseSchema,
  MemberListResponseSchema,
  type MemberRemoveRequest,
  MemberSchema,
} from "../proto/gen/etcd/rpc_pb";
import { joinCluster, type JoinDoors, type JoinWish } from "./join";

const wish: JoinWish = {
  clusterUrls: ["http://a:2379", "http://b:2379"],
  name: "new",
  peerUrls: ["http://new:2380"],
  promote: true,
};
const header = { clusterId: 7n, memberId: 1n };

/** A cluster of one started member, as its client API shows it; `before` may refuse a call, or lose its answer. */
class FakeCluster implements JoinDoors {
  readonly members: Member[] = [
    create(MemberSchema, { ID: 1n, name: "a", peerURLs: ["http://a:2380"], clientURLs: ["http://a:2379"] }),
  ];
  readonly calls: string[] = [];
  readonly waits: string[] = [];
  pauses = 0;
  #nextId = 100n;
  before: (method: string, count: number) => StoreError | undefined = () => undefined;
  /** Called when a call has taken effect: an error loses the answer. */
  after: (method: string, count: number) => StoreError | undefined = () => undefined;

  add(member: MessageInitShape<typeof MemberSchema>): void {
    this.members.push(create(MemberSchema, member));
  }

  async call<Method extends DescMethodUnary>(
    url: string,
    method: Method,
    request: MessageShape<Method["input"]>,
  ): Promise<MessageShape<Method["output"]>> {
    this.calls.push(`${method.name} ${url}`);
    const count = this.calls.filter((call) => call.startsWith(method.name)).length;
    const refused = this.before(method.name, count);
    if (refused !== undefined) throw refused;
    const answer = this.#perform(method.name, request);
    const lost = this.after(method.name, count);
    if (lost !== undefined) throw lost;
    return answer as MessageShape<Method["output"]>;
  }

  #perform(method: string, request: unknown): unknown {
    switch (method) {
      case "MemberAdd": {
        const { peerURLs, isLearner } = request as MemberAddRequest;
        this.add({ ID: this.#nextId++, peerURLs, isLearner });
        return create(MemberAddResponseSchema, {
          header,
          member: this.members.at(-1)!,
          members: [...this.members],
        });
      }
      case "MemberRemove": {
        const { ID } = request as MemberRemoveRequest;
        this.members.splice(
          this.members.findIndex((member) => member.ID === ID),
          1,
        );
        return {};
      }
      default:
        return create(MemberListResponseSchema, { header, members: [...this.members] });
    }
  }

  async pause(): Promise<void> {
    this.pauses++;
    if (this.pauses > 50) throw new Error("waits for ever");
  }
  waiting(reason: string): void {
    this.waits.push(reason);
  }
  report(): void {}
}

const gone = (): StoreError => new StoreError(GrpcCode.unavailable, "connect ECONNREFUSED", false);
const added = (cluster: FakeCluster): number =>
  cluster.members.filter(({ peerURLs }) => peerURLs.includes("http://new:2380")).length;

describe("a member that joins by itself", () => {
  test("is added as a learner and knows the others", async () => {
    const cluster = new FakeCluster();
    expect(await joinCluster(wish, cluster)).toEqual({
      clusterId: 7n,
      memberId: 100n,
      name: "new",
      promote: true,
      members: [{ id: 1n, peerUrls: ["http://a:2380"] }],
    });
    expect(cluster.members[1]!.isLearner).toBe(true);
  });

  test("asks another member when one cannot be reached", async () => {
    const cluster = new FakeCluster();
    cluster.before = (method, count) => (method === "MemberList" && count === 1 ? gone() : undefined);
    expect((await joinCluster(wish, cluster)).memberId).toBe(100n);
    expect(cluster.calls.slice(0, 2)).toEqual(["MemberList http://a:2379", "MemberList http://b:2379"]);
    expect(cluster.waits).toEqual(["waits to join the cluster: connect ECONNREFUSED"]);
  });

  test("is added once when the answer is lost, and when the request is", async () => {
    for (const lost of [true, false]) {
      const cluster = new FakeCluster();
      const lose = (method: string, count: number) =>
        method === "MemberAdd" && count === 1 ? refuse("timeout") : undefined;
      if (lost) cluster.after = lose;
      else cluster.before = lose;
      expect((await joinCluster(wish, cluster)).memberId).toBe(100n);
      expect(added(cluster)).toBe(1);
    }
  });

  test("waits while another learner is in the way, the cluster is unhealthy, or has no leader", async () => {
    for (const name of ["tooManyLearners", "unhealthy", "noLeader", "memberNotEnoughStarted"] as const) {
      const cluster = new FakeCluster();
      cluster.before = (method, count) => (method === "MemberAdd" && count < 4 ? refuse(name) : undefined);
      expect((await joinCluster(wish, cluster)).memberId).toBe(100n);
      expect(cluster.waits.length).toBe(3);
    }
  });

  test("takes the place of one that was added but never started, under a fresh id", async () => {
    const cluster = new FakeCluster();
    cluster.add({ ID: 50n, peerURLs: ["http://new:2380"], isLearner: true });
    expect((await joinCluster(wish, cluster)).memberId).toBe(100n);
    expect(cluster.members.map(({ ID }) => ID)).toEqual([1n, 100n]);
  });

  test("takes the place of a voter that was added but never started: without it there may be no quorum", async () => {
    const cluster = new FakeCluster();
    cluster.add({ ID: 50n, peerURLs: ["http://new:2380"] });
    expect((await joinCluster(wish, cluster)).memberId).toBe(50n);
    expect(added(cluster)).toBe(1);
  });

  test("is refused the place of one that has been started", async () => {
    const cluster = new FakeCluster();
    cluster.add({ ID: 50n, name: "old", peerURLs: ["http://new:2380"], clientURLs: ["http://new:2379"] });
    const refused = await joinCluster(wish, cluster).catch(String);
    expect(refused).toContain("it has been started before");
    expect(refused).toContain("etcdctl member remove 32");
    expect(cluster.calls).toEqual(["MemberList http://a:2379"]);
  });

  test("is refused when the cluster expects it at other URLs", async () => {
    const cluster = new FakeCluster();
    cluster.add({ ID: 50n, peerURLs: ["http://new:2380", "http://new2:2380"], isLearner: true });
    expect(await joinCluster(wish, cluster).catch(String)).toContain(
      "expects a member 32 at http://new:2380, ",
    );
  });

  test("gives up on what does not pass", async () => {
    const cluster = new FakeCluster();
    cluster.before = () => refuse("permissionDenied");
    expect(await joinCluster(wish, cluster).catch(String)).toContain(
      "cannot join the cluster at http://a:2379: etcdserver: permission denied",
    );
    expect(cluster.pauses).toBe(0);
  });
});
