/** The state that all roles share, and the transitions that any role can make. Roles live in their own files. */
import { assert } from "../assert";
import { noMember, type MemberId, type Term } from "../ids";
import { voterSets } from "./configuration";
import type { Leadership } from "./leadership";
import { Log } from "./log";
import type { ConsensusOptions, InitialState, Role } from "./options";
import { isAlone, isVoter, type VoterSets } from "./quorum";
import type { Configuration, ConfirmedRead, HardState, Message, SnapshotPosition } from "./types";

export class Core {
  readonly options: ConsensusOptions;
  readonly id: MemberId;
  readonly log: Log;

  role: Role = "follower";
  term: Term;
  /** For whom this member voted in `term`. */
  vote: MemberId;
  leader: MemberId = noMember;
  /** Present exactly while leading. */
  leadership: Leadership | undefined;
  /** Answers to the campaign under way, own vote included once it counts. */
  votes = new Map<MemberId, boolean>();

  configuration: Configuration;
  voters: VoterSets;

  /** Ticks since the leader was heard, the campaign began or, on a leader, the quorum was checked. */
  electionElapsed = 0;
  electionTimeout = 0;

  /** A snapshot that is being installed; until it ends the log stands still and nobody here campaigns. */
  installing: SnapshotPosition | undefined;

  // Outboxes, emptied by every Ready.
  sendNow: Message[] = [];
  sendAfterPersist: Message[] = [];
  confirmedReads: ConfirmedRead[] = [];
  abandonedReads: number[] = [];
  installOffered = false;

  /** As last handed out for persisting. */
  handedHardState: HardState;
  /** The commit index moved and a heartbeat interval passed without a batch to carry it. */
  commitDue = false;
  #commitElapsed = 0;

  constructor(options: ConsensusOptions, initial: InitialState) {
    const { hardState, configuration } = initial;
    assert(options.id !== noMember, "a member needs an id");
    assert(options.heartbeatTicks > 0, "heartbeatTicks must be positive");
    assert(options.electionTicks > options.heartbeatTicks, "electionTicks must exceed heartbeatTicks");
    assert(options.appendBytesMax > 0, "appendBytesMax must be positive");
    assert(options.inflightBytesMax >= options.appendBytesMax, "inflightBytesMax is below appendBytesMax");
    assert(options.inflightMessagesMax > 0, "inflightMessagesMax must be positive");
    this.options = options;
    this.id = options.id;
    this.log = new Log(initial, options.tailBytesMax);
    // A crash can leave entries on disk without the hard state of their batch. Nothing of it was revealed to anybody,
    // so no vote was given in that term.
    const behind = this.log.lastTerm > hardState.term;
    this.term = behind ? this.log.lastTerm : hardState.term;
    this.vote = behind ? noMember : hardState.vote;
    this.configuration = configuration;
    this.voters = voterSets(configuration);
    this.handedHardState = hardState;
    this.#drawElectionTimeout();
  }

  get alone(): boolean {
    return isAlone(this.voters, this.id);
  }

  /** R10, and neither a learner nor who is about to become something else campaigns. */
  get mayCampaign(): boolean {
    if (this.role === "leader" || this.installing !== undefined) return false;
    return isVoter(this.voters, this.id) && !this.log.hasUnappliedConfiguration;
  }

  /** R11: a leader was heard within the shortest election timeout, so there is no reason to replace it. */
  get hearsLeader(): boolean {
    return (
      this.options.checkQuorum &&
      this.leader !== noMember &&
      this.electionElapsed < this.options.electionTicks
    );
  }

  setConfiguration(configuration: Configuration): void {
    this.configuration = configuration;
    this.voters = voterSets(configuration);
  }

  restartElectionTimer(): void {
    this.electionElapsed = 0;
    this.#drawElectionTimeout();
  }

  #drawElectionTimeout(): void {
    const { rng, electionTicks } = this.options;
    this.electionTimeout = electionTicks + rng.below(electionTicks);
  }

  becomeFollower(term: Term, leader: MemberId): void {
    assert(term >= this.term, () => `term would go back from ${this.term} to ${term}`);
    if (term > this.term) {
      this.term = term;
      this.vote = noMember;
    }
    this.role = "follower";
    this.leader = leader;
    this.votes.clear();
    if (this.leadership !== undefined) {
      this.abandonedReads.push(...this.leadership.reads.abandon());
      this.leadership = undefined;
    }
    this.restartElectionTimer();
  }

  /** Follows a leader of the current term that made itself known. */
  follow(leader: MemberId): void {
    if (this.role !== "follower") this.becomeFollower(this.term, leader);
    assert(
      this.leader === noMember || this.leader === leader,
      () => `members ${this.leader} and ${leader} both lead term ${this.term}`,
    );
    this.leader = leader;
    this.electionElapsed = 0;
  }

  /**
   * For a commit index that no batch carried to disk: once per heartbeat interval it is worth a write of its own,
   * without a sync.
   */
  tickCommit(): void {
    if (this.log.durableCommit <= this.handedHardState.commit) return;
    this.#commitElapsed++;
    if (this.#commitElapsed < this.options.heartbeatTicks) return;
    this.#commitElapsed = 0;
    this.commitDue = true;
  }
}
