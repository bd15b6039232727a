/**
 * What a member's log begins with: the configuration of a founded cluster, or after a disaster the rewritten
 * membership of what is left of one.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { assert } from "../assert";
import { changed } from "../consensus/configuration";
import { decodeConfigurationChange, encodeConfigurationChange } from "../consensus/configuration-change";
import type { Configuration, ConfigurationChange, Entry, HardState } from "../consensus/types";
import { type LogIndex, type MemberId, noMember } from "../ids";
import { MemberSchema } from "../proto/gen/etcd/rpc_pb";
import type { LogIdentity } from "../storage/wal/types";
import { clusterIdOf, memberIdOf } from "./identity";

/** The term of the entries with which founders begin; those of the first leader have a later one. */
export const foundingTerm = 1;

/** A member of the configuration that a cluster starts with. */
export interface InitialMember {
  readonly name: string;
  readonly peerUrls: readonly string[];
}

export interface Founding {
  readonly identity: LogIdentity;
  readonly members: readonly (InitialMember & { readonly id: MemberId })[];
  readonly first: { readonly entries: readonly Entry[]; readonly hardState: HardState };
}

/**
 * The identity of a founder and the first entries of its log: one configuration change per initial member, all
 * committed in term 1, the same on every founder (as etcd does it). Throws when `name` is not among them.
 */
export function foundCluster(
  name: string,
  initialCluster: readonly InitialMember[],
  clusterToken: string,
): Founding {
  const members = initialCluster
    .map((member) => ({ ...member, id: memberIdOf(member.peerUrls, clusterToken) }))
    .sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const own = members.find((member) => member.name === name);
  if (own === undefined) {
    throw new Error(`--initial-cluster has no member with this member's name, ${JSON.stringify(name)}`);
  }
  const entries = members.map((member, position): Entry => ({
    term: foundingTerm,
    index: position + 1,
    kind: "configuration",
    data: encodeConfigurationChange({
      type: "add-voter",
      memberId: member.id,
      context: toBinary(
        MemberSchema,
        create(MemberSchema, { ID: member.id, name: member.name, peerURLs: [...member.peerUrls] }),
      ),
    }),
  }));
  return {
    members,
    identity: { clusterId: clusterIdOf(members.map((member) => member.id)), memberId: own.id },
    first: { entries, hardState: { term: foundingTerm, vote: noMember, commit: entries.length } },
  };
}

/** Of a log: what `foundCluster` or `standAlone` need to know. */
export interface LogEnd {
  readonly hardState: HardState;
  readonly lastIndex: LogIndex;
  /** Everything behind what the state has applied, to the end of the log, committed or not. */
  readonly unapplied: Iterable<Entry>;
}

/**
 * --force-new-cluster: the changes that leave `self` as the only member, as entries behind the last one of the log,
 * in a term of their own. What the log holds counts as committed from then on: some of it may have been
 * acknowledged by a majority that is gone. Undefined when `self` is alone already.
 */
export function standAlone(
  self: MemberId,
  applied: Configuration,
  { hardState, lastIndex, unapplied }: LogEnd,
): { readonly entries: readonly Entry[]; readonly hardState: HardState } | undefined {
  let configuration = applied;
  for (const entry of unapplied) {
    if (entry.kind !== "configuration") continue;
    configuration = changed(configuration, decodeConfigurationChange(entry.data)) ?? configuration;
  }
  const changes: ConfigurationChange[] = [];
  const step = (type: ConfigurationChange["type"], memberId: MemberId): void => {
    changes.push({ type, memberId, context: new Uint8Array(0) });
  };
  const { voters, learners } = configuration;
  if (!voters.includes(self)) {
    assert(learners.includes(self), "only a member of the cluster can stand alone");
    step("add-voter", self);
  }
  for (const id of [...voters, ...learners]) if (id !== self) step("remove", id);
  if (changes.length === 0) return undefined;
  const term = hardState.term + 1;
  const entries = changes.map((change, position): Entry => ({
    term,
    index: lastIndex + 1 + position,
    kind: "configuration",
    data: encodeConfigurationChange(change),
  }));
  return { entries, hardState: { term, vote: self, commit: lastIndex + entries.length } };
}
