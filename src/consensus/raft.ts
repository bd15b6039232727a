/** Raft as a function of ticks, messages and proposals; see README.md for what its driver must do. */
import type { LogIndex, MemberId, Term } from "../ids";
import type { Rng } from "../rng";
import type {
  Configuration,
  ConfigurationChange,
  Entry,
  HardState,
  Message,
  Ready,
  SnapshotPosition,
} from "./types";

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

export interface Status {
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
  /** Of a leader, about every other member; empty otherwise. */
  readonly progress: readonly ProgressStatus[];
}

export class Raft {
  constructor(_options: ConsensusOptions, _initial: InitialState) {
    throw new Error("under construction");
  }
  /** Time passes. A single voter campaigns at once. */
  declare tick: () => void;
  /** A message from another member. Malformed and stale ones change nothing. */
  declare step: (message: Message) => void;
  /** Appends commands (leader only). They travel with the next Ready. */
  declare propose: (payloads: readonly Uint8Array[]) => ProposalResult;
  declare proposeConfigurationChange: (change: ConfigurationChange) => ConfigurationResult;
  /** Leader only. The answer comes in `Ready.reads` or `Ready.abandonedReads`. */
  declare readIndex: (context: number) => ReadResult;
  declare transferLeader: (to: MemberId) => TransferResult;
  /** Campaigns now, with a pre-vote if so configured. Does nothing where not allowed. */
  declare campaign: () => void;
  declare hasReady: () => boolean;
  declare ready: () => Ready;
  declare persisted: (completion: {
    readonly term: Term;
    readonly index: LogIndex;
    readonly sequence: number;
  }) => void;
  declare appliedTo: (index: LogIndex) => void;
  /** Call when a committed configuration entry is applied, before `appliedTo` reaches it. */
  declare applyConfiguration: (change: ConfigurationChange) => Configuration;
  /** Answers `Ready.wanted`. No entries: they are gone, and the follower gets a snapshot. */
  declare supplyEntries: (low: LogIndex, entries: readonly Entry[]) => void;
  /** The snapshot of `Ready.install` is durable and is now the state. */
  declare snapshotInstalled: (position: SnapshotPosition) => void;
  /** The snapshot of `Ready.install` could not be had; the member goes on as it was. */
  declare snapshotInstallFailed: (position: SnapshotPosition) => void;
  /** Leader: a snapshot that can be sent. The core answers with a "snapshot" message to who needs it. */
  declare snapshotAvailable: (position: SnapshotPosition) => void;
  /** Leader: how sending a snapshot to a member ended. */
  declare reportSnapshot: (to: MemberId, ok: boolean) => void;
  /** The driver cut the log up to and including `index`. `term` is that entry's term, when known. */
  declare compactTo: (index: LogIndex, term?: Term) => void;
  declare status: () => Status;
}
