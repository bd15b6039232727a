/** What the log tells of the cluster: who leads, who came and who went. One line for each change. */
import { hexId, type MemberId, noMember, type Term } from "../ids";
import type { Member as MemberRecord } from "../proto/gen/etcd/rpc_pb";
import type { MemberEvents } from "./options";

export class ClusterNews {
  readonly #self: MemberId;
  readonly #log: MemberEvents["log"];
  #leader: MemberId = noMember;
  #members: ReadonlyMap<MemberId, MemberRecord>;

  /** `members` are known already. */
  constructor(self: MemberId, members: readonly MemberRecord[], log: MemberEvents["log"]) {
    this.#self = self;
    this.#log = log;
    this.#members = byId(members);
  }

  /** Who leads by now; `noMember`: nobody as far as this member knows. */
  leader(leader: MemberId, term: Term): void {
    const former = this.#leader;
    if (leader === former) return;
    this.#leader = leader;
    if (leader === this.#self) this.#log("info", "this member leads", { term });
    else if (leader !== noMember) this.#log("info", "a member leads", { leader: hexId(leader), term });
    else this.#log("warn", "nobody leads that this member hears", { former: hexId(former), term });
  }

  /** Who the members are by now. */
  members(members: readonly MemberRecord[]): void {
    const before = this.#members;
    const now = byId(members);
    this.#members = now;
    for (const [id, { peerURLs, isLearner }] of now) {
      const known = before.get(id);
      const fields = { member: hexId(id), peerUrls: peerURLs, learner: isLearner };
      if (known === undefined) this.#log("info", "a member was added", fields);
      else if (known.isLearner && !isLearner) this.#log("info", "a learner became a voter", fields);
      else if (known.peerURLs.join() !== peerURLs.join()) this.#log("info", "a member has moved", fields);
    }
    for (const id of before.keys()) {
      if (!now.has(id)) this.#log("info", "a member was removed", { member: hexId(id) });
    }
  }
}

function byId(members: readonly MemberRecord[]): ReadonlyMap<MemberId, MemberRecord> {
  return new Map(members.map((member) => [member.ID, member]));
}
