/**
 * How a member without data begins: as a founder, as one that was added by MemberAdd (`existing`), or by adding
 * itself (`--join`). Running clusters are asked first, so that a mistake is refused before anything is written.
 */
import { type ClusterId, hexId } from "../ids";
import { foundCluster, type InitialMember } from "../member/bootstrap";
import { hasMember } from "../member/data-directory";
import { type JoinPlan, readJoinPlan, removeJoinPlan } from "../member/join-plan";
import type { Disk } from "../member/ports";
import { joinCluster, type JoinDoors, listMembers } from "./join";
import { askPeers, type PeerAnswer } from "./peer-pages";

/** The part of what a member is told that counts for its beginning. */
export interface BeginningOptions {
  readonly name: string;
  readonly dataDirectory: string;
  readonly walDirectory: string | undefined;
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterState: "new" | "existing";
  readonly initialClusterToken: string;
  readonly initialAdvertisePeerUrls: readonly string[];
  readonly joinEndpoints: readonly { readonly url: string }[];
  readonly joinAsLearner: boolean;
  readonly forceNewCluster: boolean;
}

export interface BeginningDoors extends JoinDoors {
  readonly disk: Disk;
  /** {@link askPeers}, or a stand-in. */
  askPeers(urls: readonly string[], timeoutMs: number): Promise<readonly PeerAnswer[]>;
}

export { askPeers };

/** Founders come up together, so a peer that is not there yet is normal. */
const newTimeoutMs = 2_000;
/** A running cluster has to answer. */
const existingTimeoutMs = 5_000;
const checkTimeoutMs = 2_000;

/**
 * The plan of a member that comes to a running cluster; undefined when its data, or a plan that an earlier start
 * wrote down, says everything, or when it is a founder. Rejects with what is wrong and what to do.
 */
export async function decideBeginning(
  options: BeginningOptions,
  doors: BeginningDoors,
): Promise<JoinPlan | undefined> {
  const { dataDirectory, walDirectory, joinEndpoints } = options;
  const directories = {
    dataDirectory,
    ...(walDirectory === undefined ? {} : { logDirectory: walDirectory }),
  };
  if (hasMember(directories, doors.disk)) {
    if (joinEndpoints.length > 0)
      doors.report("--join has no effect: there is data already", { dataDirectory });
    return undefined;
  }
  if (options.forceNewCluster) return undefined;
  const before = readJoinPlan(dataDirectory, doors.disk);
  if (before !== undefined) {
    if (joinEndpoints.length === 0 || (await stillWanted(before, options, doors))) {
      doors.report("goes on with a join that was cut short", { memberId: hexId(before.memberId) });
      return undefined;
    }
    // Nothing of this member ran yet, so it may begin anew.
    removeJoinPlan(dataDirectory, doors.disk);
  }
  if (joinEndpoints.length > 0) {
    return joinCluster(
      {
        clusterUrls: joinEndpoints.map(({ url }) => url),
        name: options.name,
        peerUrls: options.initialAdvertisePeerUrls,
        promote: !options.joinAsLearner,
      },
      doors,
    );
  }
  const others = options.initialCluster
    .filter(({ name }) => name !== options.name)
    .flatMap(({ peerUrls }) => peerUrls);
  if (options.initialClusterState === "existing") return joinAsAdded(options, others, doors);
  await refuseFoundingAgain(options, others, doors);
  return undefined;
}

/**
 * Rejects when the data at hand belong to another cluster than the one that the flags name: the data say who a member
 * is, so it would look for the wrong ones. Best effort: who does not answer says nothing.
 */
export async function refuseForeignData(
  clusterId: ClusterId,
  options: BeginningOptions,
  doors: BeginningDoors,
): Promise<void> {
  const foreign = (url: string, other: ClusterId): Error =>
    new Error(
      `the data in ${options.dataDirectory} belong to cluster ${hexId(clusterId)}, but ${url} is of cluster ` +
        `${hexId(other)}; name the right --data-dir, or an empty one to begin a new member`,
    );
  await Promise.all(
    options.joinEndpoints.map(async ({ url }) => {
      const view = await listMembers(url, doors, checkTimeoutMs).catch(() => undefined);
      if (view !== undefined && view.clusterId !== clusterId) throw foreign(url, view.clusterId);
    }),
  );
  const others = options.initialCluster.filter(({ name }) => name !== options.name);
  const urls = others.flatMap(({ peerUrls }) => peerUrls);
  if (urls.length === 0) return;
  const answers = await doors.askPeers(urls, checkTimeoutMs);
  // One that answers for this cluster is enough: --initial-cluster may be old, and an address given away since.
  if (answers.some((answer) => answer.clusterId === clusterId)) return;
  const [other] = answers;
  if (other !== undefined) throw foreign(other.peerUrl, other.clusterId);
}

/** Whether the cluster still has the member of a plan; it counts as wanted when nobody answers. */
async function stillWanted(
  plan: JoinPlan,
  { joinEndpoints }: BeginningOptions,
  doors: BeginningDoors,
): Promise<boolean> {
  for (const { url } of joinEndpoints) {
    try {
      const { clusterId, members } = await listMembers(url, doors, checkTimeoutMs);
      return clusterId === plan.clusterId && members.some(({ ID }) => ID === plan.memberId);
    } catch {
      // The next one may answer.
    }
  }
  return true;
}

/** `existing`: the cluster runs and has an entry for this member; --initial-cluster must be what it says. */
async function joinAsAdded(
  options: BeginningOptions,
  others: readonly string[],
  doors: BeginningDoors,
): Promise<JoinPlan> {
  if (others.length === 0) {
    throw new Error(
      '--initial-cluster-state is "existing", but --initial-cluster names no other member that could be asked; name ' +
        "all members of the cluster, or use --join",
    );
  }
  const answers = await doors.askPeers(others, existingTimeoutMs);
  const [answer] = answers;
  if (answer === undefined) {
    throw new Error(
      `--initial-cluster-state is "existing", but no member answers at ${others.join(", ")}; check these URLs and that ` +
        "the cluster runs",
    );
  }
  const stranger = answers.find(({ clusterId }) => clusterId !== answer.clusterId);
  if (stranger !== undefined) {
    throw new Error(
      `--initial-cluster mixes two clusters: ${answer.peerUrl} belongs to ${hexId(answer.clusterId)}, ` +
        `${stranger.peerUrl} to ${hexId(stranger.clusterId)}`,
    );
  }
  refuseDifferentMembers(options.initialCluster, answer);
  const own = answer.members.find(({ peerUrls }) => sameUrls(peerUrls, options.initialAdvertisePeerUrls))!;
  const id = hexId(own.id);
  if (own.clientUrls.length > 0) {
    throw new Error(
      `member ${id} (${JSON.stringify(own.name)}) has been started before, but ${options.dataDirectory} holds no data; ` +
        `start it with its own --data-dir, or remove it (etcdctl member remove ${id}) and add it again`,
    );
  }
  return {
    clusterId: answer.clusterId,
    memberId: own.id,
    name: options.name,
    promote: false,
    members: answer.members.filter((member) => member !== own),
  };
}

/** As etcd: the same number of members, and for each of the running ones an entry with its URLs. */
function refuseDifferentMembers(initialCluster: readonly InitialMember[], answer: PeerAnswer): void {
  const told = `the cluster's members at ${answer.peerUrl} are ${answer.members
    .map(({ id, name, peerUrls }) => `${name === "" ? hexId(id) : name}=${peerUrls.join(",")}`)
    .join(",")}`;
  for (const { peerUrls } of answer.members) {
    if (!initialCluster.some((entry) => sameUrls(entry.peerUrls, peerUrls))) {
      throw new Error(`--initial-cluster has no member at ${peerUrls.join(", ")}; ${told}`);
    }
  }
  for (const { name, peerUrls } of initialCluster) {
    if (!answer.members.some((member) => sameUrls(member.peerUrls, peerUrls))) {
      throw new Error(
        `--initial-cluster has ${name} at ${peerUrls.join(", ")}, which the running cluster does not know (add it first: ` +
          `etcdctl member add ${name} --peer-urls=${peerUrls.join(",")}); ${told}`,
      );
    }
  }
}

function sameUrls(some: readonly string[], others: readonly string[]): boolean {
  return new Set(some).symmetricDifference(new Set(others)).size === 0;
}

/** `new`: peers that run already must not know another cluster, or this member as one that has lived. */
async function refuseFoundingAgain(
  options: BeginningOptions,
  others: readonly string[],
  doors: BeginningDoors,
): Promise<void> {
  if (others.length === 0) return;
  const { identity } = foundCluster(options.name, options.initialCluster, options.initialClusterToken);
  const id = hexId(identity.memberId);
  for (const { peerUrl, clusterId, members } of await doors.askPeers(others, newTimeoutMs)) {
    if (clusterId !== identity.clusterId) {
      throw new Error(
        `cluster ID mismatch: ${peerUrl} runs cluster ${hexId(clusterId)}, but these flags found ` +
          `${hexId(identity.clusterId)}; --initial-cluster and --initial-cluster-token must be the same on all founders. ` +
          "To add a member to a running cluster use --join",
      );
    }
    const own = members.find((member) => member.id === identity.memberId);
    if (own === undefined) {
      throw new Error(
        `member ${id} has been removed from the cluster that ${peerUrl} runs, and its id is never used again; use --join ` +
          "to become a member once more",
      );
    }
    if (own.clientUrls.length > 0) {
      throw new Error(
        `member ${id} has already been bootstrapped, but ${options.dataDirectory} holds no data; start it with its own ` +
          `--data-dir, or remove it (etcdctl member remove ${id}) and start with --join`,
      );
    }
  }
}
