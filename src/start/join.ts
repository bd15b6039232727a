/**
 * `--join`: a member without data adds itself to a running cluster, as a learner, and learns who the others are.
 * It asks over the client API of any member. What may still happen (a timeout, a lost leader) is looked up before
 * anything is asked again, so joining twice never adds two members.
 */
import { create, type DescMethodUnary, type MessageShape } from "@bufbuild/protobuf";
import { GrpcCode, refusals, StoreError } from "../errors";
import { type ClusterId, hexId, type MemberId } from "../ids";
import type { JoinPlan } from "../member/join-plan";
import {
  Cluster,
  type Member,
  MemberAddRequestSchema,
  MemberListRequestSchema,
  MemberRemoveRequestSchema,
} from "../proto/gen/etcd/rpc_pb";

export interface JoinWish {
  /** Client URLs of members of the cluster. */
  readonly clusterUrls: readonly string[];
  readonly name: string;
  /** Where the others will reach this member. */
  readonly peerUrls: readonly string[];
  /** Become a voter once in sync. */
  readonly promote: boolean;
}

/** What joining needs of the world. */
export interface JoinDoors {
  call<Method extends DescMethodUnary>(
    url: string,
    method: Method,
    request: MessageShape<Method["input"]>,
    timeoutMs: number,
  ): Promise<MessageShape<Method["output"]>>;
  pause(durationMs: number): Promise<void>;
  /** Called for each thing that is waited for; the same one again and again while it lasts. */
  waiting(reason: string, fields: Readonly<Record<string, unknown>>): void;
  report(message: string, fields: Readonly<Record<string, unknown>>): void;
}

const callTimeoutMs = 8_000;
const retryPauseMs = 500;
const retryPauseMsMax = 3_000;

/** What may pass by itself: the cluster is busy, has no leader, or another member is joining. */
const passing: ReadonlySet<string> = new Set<string>(
  (
    [
      "tooManyLearners",
      "unhealthy",
      "memberNotEnoughStarted",
      "noLeader",
      "notLeader",
      "leaderChanged",
      "notCapable",
      "requestTooManyRequests",
      "notSupportedForLearner",
    ] as const
  ).map((name) => refusals[name].text),
);

/** A cluster's members as one of them told it. */
interface View {
  readonly clusterId: ClusterId;
  readonly members: readonly Member[];
}

/**
 * Adds this member and resolves with how it begins. Waits as long as the cluster cannot be reached or has another
 * learner; rejects, having changed nothing, when waiting would not help.
 */
export async function joinCluster(wish: JoinWish, doors: JoinDoors): Promise<JoinPlan> {
  /** Set once this process asked to be added: then a member with these URLs that never started is this one. */
  let asked = false;
  for (let attempt = 0; ; attempt++) {
    if (attempt > 0) await doors.pause(Math.min(retryPauseMs * attempt, retryPauseMsMax));
    const url = wish.clusterUrls[attempt % wish.clusterUrls.length]!;
    try {
      const view = await listMembers(url, doors, callTimeoutMs);
      const own = view.members.find(({ peerURLs }) => peerURLs.some((peer) => wish.peerUrls.includes(peer)));
      if (own === undefined) {
        asked = true;
        const added = await doors.call(
          url,
          Cluster.method.memberAdd,
          create(MemberAddRequestSchema, { peerURLs: [...wish.peerUrls], isLearner: true }),
          callTimeoutMs,
        );
        doors.report("was added to the cluster as a learner", { memberId: hexId(added.member!.ID) });
        return plan(wish, added.header!.clusterId, added.member!.ID, added.members);
      }
      refuseUnlessNew(own, wish, url);
      if (asked || !own.isLearner) return plan(wish, view.clusterId, own.ID, view.members);
      // Added by an earlier start that was cut short, or by hand. Whether that id ever ran is not known, and an id
      // that comes back without its log could break promises: a fresh one cannot.
      doors.report("replaces a learner with these peer URLs that was added but never started", {
        memberId: hexId(own.ID),
      });
      await doors.call(
        url,
        Cluster.method.memberRemove,
        create(MemberRemoveRequestSchema, { ID: own.ID }),
        callTimeoutMs,
      );
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (!mayPass(error))
        throw new Error(`cannot join the cluster at ${url}: ${error.message}`, { cause: error });
      doors.waiting(`waits to join the cluster: ${error.message}`, { url });
    }
  }
}

/** The members, as of now, from one of them. */
export async function listMembers(
  url: string,
  doors: Pick<JoinDoors, "call">,
  timeoutMs: number,
): Promise<View> {
  const answer = await doors.call(
    url,
    Cluster.method.memberList,
    create(MemberListRequestSchema, { linearizable: true }),
    timeoutMs,
  );
  if (answer.header === undefined) throw new StoreError(GrpcCode.unknown, "its answer has no header");
  return { clusterId: answer.header.clusterId, members: answer.members };
}

function mayPass({ code, message }: StoreError): boolean {
  if (passing.has(message)) return true;
  // Raced with another start of this member: the next look shows it.
  if (message === refusals.peerURLExist.text || message === refusals.memberNotFound.text) return true;
  return code === GrpcCode.unavailable || code === GrpcCode.deadlineExceeded || code === GrpcCode.canceled;
}

/** A member with these URLs is there already: it must be one that never ran, with exactly these URLs. */
function refuseUnlessNew(own: Member, { peerUrls }: JoinWish, url: string): void {
  const id = hexId(own.ID);
  if (own.name !== "" || own.clientURLs.length > 0) {
    throw new Error(
      `the cluster at ${url} has a member ${id} (${JSON.stringify(own.name)}) with the peer URL ` +
        `${own.peerURLs.join(", ")} already, and it has been started before; start it with its own --data-dir, or ` +
        `remove it first (etcdctl member remove ${id})`,
    );
  }
  if (new Set(own.peerURLs).symmetricDifference(new Set(peerUrls)).size > 0) {
    throw new Error(
      `the cluster at ${url} expects a member ${id} at ${own.peerURLs.join(", ")}, but --initial-advertise-peer-urls says ` +
        `${peerUrls.join(", ")}; give both the same, or remove that member (etcdctl member remove ${id})`,
    );
  }
}

function plan(
  { name, promote }: JoinWish,
  clusterId: ClusterId,
  memberId: MemberId,
  members: readonly Member[],
): JoinPlan {
  return {
    clusterId,
    memberId,
    name,
    promote,
    members: members
      .filter(({ ID }) => ID !== memberId)
      .map(({ ID, peerURLs }) => ({ id: ID, peerUrls: [...peerURLs] })),
  };
}
