/** What the core is told when it is built, and what it tells about itself. */
import type { LogIndex, MemberId, Term } from "../ids";
import type { Rng } from "../rng";
import type { Configuration, Entry, HardState } from "./types";

export interface ConsensusOptions {
  readonly id: MemberId;
  /** Silence after which a follower campaigns: a draw from [electionTicks, 2 × electionTicks). */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  /** Entries of one append message are cut at about this size; one entry always fits. */
  readonly appendBytesMax: number;
  /** Unacknowledged bytes and messages on their way to one follower. */
  readonly inflightBytesMax: number;
  readonly inflightMessagesMax: number;
  /** Bound of the log held in memory; older entries are asked for through `Ready.wanted`. */
  readonly tailBytesMax: number;
  /** Proposals are refused while more than this waits to be committed. */
  readonly uncommittedBytesMax: number;
  readonly rng: Rng;
}

/** What storage and state remember. */
export interface InitialState {
  readonly hardState: HardState;
  /** As of `applied`. */
  readonly configuration: Configuration;
  readonly start: { readonly index: LogIndex; readonly term: Term };
  /** The newest entries; must reach back to the first entry after max(hardState.commit, applied). */
  readonly tail: readonly Entry[];
  readonly lastIndex: LogIndex;
  readonly applied: LogIndex;
}

export type Role = "follower" | "pre-candidate" | "candidate" | "leader";

export interface Refusal<Reason extends string> {
  readonly ok: false;
  readonly reason: Reason;
  /** Who leads as far as known; `noMember` if nobody. */
  readonly leader: MemberId;
}
export interface Accepted {
  readonly ok: true;
  readonly firstIndex: LogIndex;
  readonly term: Term;
}
export type ProposalResult = Accepted | Refusal<"no-leader" | "not-leader" | "transferring" | "overloaded">;
export type ConfigurationResult =
  | Accepted
  | Refusal<"no-leader" | "not-leader" | "transferring" | "pending-change" | "not-ready" | "invalid">;
export type ReadResult = { readonly ok: true } | Refusal<"no-leader" | "not-leader">;
export type TransferResult = { readonly ok: true } | Refusal<"no-leader" | "not-leader" | "invalid">;

/** What the leader believes about another member. */
export interface ProgressStatus {
  readonly id: MemberId;
  readonly learner: boolean;
  readonly state: "probe" | "replicate" | "snapshot";
  readonly match: LogIndex;
  readonly next: LogIndex;
  readonly inflightBytes: number;
  readonly inflightMessages: number;
  readonly recentlyActive: boolean;
}

/** Where a member stands. */
export interface BriefStatus {
  readonly id: MemberId;
  readonly role: Role;
  readonly term: Term;
  readonly vote: MemberId;
  readonly leader: MemberId;
  readonly commit: LogIndex;
  readonly applied: LogIndex;
  readonly persisted: LogIndex;
  readonly lastIndex: LogIndex;
  readonly lastTerm: Term;
  readonly startIndex: LogIndex;
  readonly configuration: Configuration;
  /** The member that leadership is being handed to, or `noMember`. */
  readonly transferee: MemberId;
  /** True on a leader that has committed an entry of its own term. */
  readonly committedInTerm: boolean;
}

export interface Status extends BriefStatus {
  /** Of a leader, about every other member; empty otherwise. */
  readonly progress: readonly ProgressStatus[];
}
