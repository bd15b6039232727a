/** What operators ask about the whole cluster: who answers, what a change of membership would mean, equal data. */
import { type RefusalName, refusals, refuse } from "../errors";
import { hexId, type MemberId, noMember } from "../ids";
import type { Member } from "../member/member";
import { refusalByLeader } from "../member/membership";
import type { MembershipChange } from "../member/membership-rules";
import type { JobContext } from "./jobs";
import type { Member as MemberRecord } from "../proto/gen/etcd/rpc_pb";
import { answerOf } from "./other-member";

const pingMethod = "ping";
const moveLeaderMethod = "move-leader";
const pingTimeoutMs = 1_000;
const hashTimeoutMs = 60_000;

/** A change of membership that somebody thinks about. */
export type PlannedChange =
  | { readonly kind: "add"; readonly learner: boolean; readonly peerUrls?: readonly string[] }
  | { readonly kind: "promote" | "remove" | "lead"; readonly id: MemberId }
  | { readonly kind: "update"; readonly id: MemberId; readonly peerUrls: readonly string[] };

export interface QuorumView {
  /** Ids as 16 hexadecimal digits; a member yet to come is "new". */
  readonly voters: readonly string[];
  readonly quorum: number;
  readonly reachable: readonly string[];
  /** Voters that may fail before writes stop; negative: they have stopped. */
  readonly spare: number;
}

export interface Preview {
  readonly before: QuorumView;
  readonly after: QuorumView;
  /** Who all have to answer afterwards for writes to go on, because nobody is spare. */
  readonly needed: readonly string[];
  /** What would go wrong; empty when nothing is known to. */
  readonly problems: readonly string[];
  /** Why the leader would not do it now. Absent: it would, or there is no leader that could say. */
  readonly refusal?: {
    /** etcd's text, as whoever asks for the change gets it. */
    readonly error: string;
    /** What to do instead. */
    readonly instead: string;
  };
}

export interface HashOfMember {
  readonly member: string;
  readonly hash: number | undefined;
  readonly compactRevision: number | undefined;
  readonly problem: string | undefined;
}

const hex16 = (id: MemberId): string => hexId(id).padStart(16, "0");

/** Compares a change with what is: pure, so that it can be tested without members. */
export function previewOf(
  change: PlannedChange,
  members: readonly {
    readonly ID: MemberId;
    readonly isLearner: boolean;
    readonly peerURLs?: readonly string[];
  }[],
  reachable: ReadonlySet<MemberId>,
  leader: MemberId = noMember,
): Preview {
  const voters = members.filter(({ isLearner }) => !isLearner).map(({ ID }) => ID);
  const answering = voters.filter((id) => reachable.has(id)).map(hex16);
  const before = quorumView(voters.map(hex16), answering);
  const problems: string[] = [];
  let names = voters.map(hex16);
  let answeringAfter = answering;
  if (change.kind === "add") {
    if (!change.learner) names = [...names, "new"];
  } else {
    const member = members.find(({ ID }) => ID === change.id);
    const name = hex16(change.id);
    if (member === undefined) problems.push("There is no member with this id.");
    else if (change.kind === "update") {
      const taken = members.some(
        (other) => other.ID !== change.id && other.peerURLs?.some((url) => change.peerUrls.includes(url)),
      );
      if (taken) problems.push("Another member has one of these peer URLs.");
      if (!reachable.has(change.id)) problems.push("The member does not answer at the URLs that it has now.");
    } else if (change.kind === "lead") {
      if (member.isLearner) problems.push("A learner cannot lead.");
      else if (!reachable.has(change.id))
        problems.push("The member does not answer, so it cannot take over.");
      if (leader === noMember) problems.push("Nobody leads, so nobody can hand over.");
    } else if (change.kind === "remove") {
      names = names.filter((other) => other !== name);
      answeringAfter = answeringAfter.filter((other) => other !== name);
    } else if (!member.isLearner) problems.push("This member votes already.");
    else {
      names = [...names, name];
      if (reachable.has(change.id)) answeringAfter = [...answeringAfter, name];
      else problems.push("The learner does not answer, so it would only enlarge the quorum.");
    }
  }
  const after = quorumView(names, answeringAfter);
  const resizes = change.kind !== "update" && change.kind !== "lead";
  if (!resizes && after.spare < 0) problems.push("Too few voters answer: nothing can be changed now.");
  if (!resizes) return { before, after, needed: after.spare <= 0 ? after.reachable : [], problems };
  if (names.length === 0) problems.push("No voter would be left.");
  else if (after.spare < 0) problems.push("Too few voters would answer: writes would stop until more do.");
  else if (after.spare === 0 && names.length > 1) {
    problems.push("Every voter that answers would be needed: one more failure stops writes.");
  }
  if (change.kind === "add" && !change.learner) {
    problems.push("A new voter counts before it has caught up; adding it as a learner first is safer.");
  }
  return { before, after, needed: after.spare <= 0 ? after.reachable : [], problems };
}

/** The change as the leader judges it; undefined: it has no say in it. */
function judgedChange(change: PlannedChange): MembershipChange | undefined {
  const { kind } = change;
  if (kind === "promote" || kind === "remove") return { type: kind, id: change.id };
  if (kind !== "add") return undefined;
  return { type: "add", id: noMember, peerUrls: change.peerUrls ?? [], isLearner: change.learner };
}

/** What to do instead of a change that would be refused. `names` are of whom the advice speaks. */
export function adviceFor(
  refusal: RefusalName,
  kind: PlannedChange["kind"],
  members: readonly Pick<MemberRecord, "ID" | "name" | "isLearner">[],
  reachable: ReadonlySet<MemberId>,
): string {
  const named = (found: typeof members): string =>
    found.map(({ ID, name }) => (name === "" ? hex16(ID) : name)).join(", ");
  const voters = members.filter(({ isLearner }) => !isLearner);
  const unstarted = voters.filter(({ name }) => name === "");
  const silent = voters.filter(({ ID, name }) => name !== "" && !reachable.has(ID));
  switch (refusal) {
    case "memberNotEnoughStarted":
      return unstarted.length > 0
        ? `Start ${named(unstarted)} first, or remove it: it counts, and has never run.`
        : "The last voter cannot leave: add another first.";
    case "unhealthy":
      if (silent.length === 0) {
        return "A member has to be connected for 5 s before it counts as healthy: wait a moment, and look again.";
      }
      return kind === "add"
        ? `Remove ${named(silent)} first, which does not answer; then add the new one. Or bring it back.`
        : `Bring ${named(silent)} back, or remove it first: it does not answer.`;
    case "tooManyLearners":
      return `Promote or remove ${named(members.filter(({ isLearner }) => isLearner))} first: there are as many learners as may be.`;
    case "learnerNotReady":
      return "Wait until it has caught up, and look again. If it was not started yet, start it.";
    case "peerURLExist":
      return "A member has this peer URL already. Give the new one another, or remove that member first.";
    case "memberNotLearner":
      return "It votes already: there is nothing to do.";
    default:
      return "Look at the members, and try again.";
  }
}

function quorumView(voters: readonly string[], reachable: readonly string[]): QuorumView {
  const quorum = Math.floor(voters.length / 2) + 1;
  return { voters, quorum, reachable, spare: reachable.length - quorum };
}

export class Overview {
  readonly #member: Member;

  constructor(member: Member) {
    this.#member = member;
    member.calls.answer(pingMethod, () => Promise.resolve(new Uint8Array(0)));
    member.calls.answer(moveLeaderMethod, async (_from, body) => {
      await member.transferLeader(BigInt(`0x${Buffer.from(body).toString()}`));
      return new Uint8Array(0);
    });
  }

  /**
   * Has the leader hand over to `to`, wherever it is asked; at once when that member leads already. Refusals are those
   * of {@link Member.transferLeader}, and `noLeader`.
   */
  async moveLeader(to: MemberId): Promise<void> {
    const { leader, id, options } = this.#member;
    if (leader === to) return;
    if (leader === noMember) throw refuse("noLeader");
    if (leader === id) return this.#member.transferLeader(to);
    const timeoutMs = 2 * options.electionTimeoutMs + pingTimeoutMs;
    await answerOf(this.#member.call(leader, moveLeaderMethod, Buffer.from(hexId(to)), timeoutMs));
  }

  /** Who answers within a second. */
  async reachable(): Promise<ReadonlySet<MemberId>> {
    const ids = this.#member.state.members().map(({ ID }) => ID);
    const answers = await Promise.all(
      ids.map((id) =>
        this.#member.call(id, pingMethod, new Uint8Array(0), pingTimeoutMs).then(
          () => true,
          () => false,
        ),
      ),
    );
    return new Set(ids.filter((_, at) => answers[at]));
  }

  async preview(change: PlannedChange): Promise<Preview> {
    const { state, leader } = this.#member;
    const [reachable, refusal] = await Promise.all([this.reachable(), this.#refusal(change)]);
    const members = state.members();
    const preview = previewOf(change, members, reachable, leader);
    if (refusal === undefined) return preview;
    const instead = adviceFor(refusal, change.kind, members, reachable);
    return { ...preview, refusal: { error: refusals[refusal].text, instead } };
  }

  /** Undefined as well when nobody can say. */
  async #refusal(change: PlannedChange): Promise<RefusalName | undefined> {
    const { calls, leader } = this.#member;
    const judged = judgedChange(change);
    if (judged === undefined || leader === noMember) return undefined;
    return refusalByLeader(calls, leader, judged).catch(() => undefined);
  }

  /** What each member holds at a revision; etcd's HashKV. Progress is in members. Rejects when it is given up. */
  async hashes(revision: number, by?: JobContext): Promise<HashOfMember[]> {
    const question = Buffer.from(JSON.stringify({ revision }));
    const { promise: givenUp, reject } = Promise.withResolvers<never>();
    givenUp.catch(() => {});
    by?.onCancel(() => reject(refuse("canceled")));
    const members = this.#member.state.members();
    let done = 0;
    by?.progress(done, members.length);
    const all = Promise.all(
      members.map(async ({ ID }) => {
        try {
          const answer = await this.#member.call(ID, "hash-kv", question, hashTimeoutMs);
          const { hash, compactRevision } = JSON.parse(Buffer.from(answer).toString()) as Record<
            string,
            number
          >;
          return { member: hex16(ID), hash, compactRevision, problem: undefined };
        } catch (error) {
          const problem = error instanceof Error ? error.message : String(error);
          return { member: hex16(ID), hash: undefined, compactRevision: undefined, problem };
        } finally {
          by?.progress(++done, members.length);
        }
      }),
    );
    return Promise.race([all, givenUp]);
  }
}
