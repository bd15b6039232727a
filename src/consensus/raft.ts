/** Raft as a function of ticks, messages and proposals; see README.md for what its driver must do. */
import { assert } from "../assert";
import { noMember, type LogIndex, type MemberId, type Term } from "../ids";
import { candidateAfterChange, onVoteAnswer, ownVotePersisted, startCampaign } from "./candidate";
import { changed } from "./configuration";
import { Core } from "./core";
import {
  abandonInstall,
  answerStaleLeader,
  finishInstall,
  onAppend,
  onHeartbeat,
  onSnapshot,
  onTimeoutNow,
  tickWithoutLead,
} from "./follower";
import {
  committedInTerm,
  leaderAfterChange,
  leaderOnAppendAnswer,
  leaderOnHeartbeatAnswer,
  maybeCommit,
  offerSnapshot,
  proposeChange,
  proposeCommands,
  requestRead,
  requestTransfer,
  snapshotSent,
  tickLeader,
} from "./leader";
import { wellFormed, type MessageKind, type MessageOf } from "./messages";
import type {
  BriefStatus,
  ConfigurationResult,
  ConsensusOptions,
  InitialState,
  ProgressStatus,
  ProposalResult,
  ReadResult,
  Role,
  Status,
  TransferResult,
} from "./options";
import { hasReady, takeReady, type Announced } from "./ready";
import { feedFollower } from "./replication";
import type { Configuration, ConfigurationChange, Entry, Message, Ready, SnapshotPosition } from "./types";
import type { Completion } from "./unstable";
import { onVoteRequest, refuseStaleVote } from "./vote";

export type * from "./options";
export type { Completion } from "./unstable";

type Handlers = { readonly [Kind in MessageKind]: (core: Core, message: MessageOf<Kind>) => void };

function ignore(): void {}

function impossible(core: Core, message: Message): void {
  assert(false, `${message.kind} from ${message.from} to the leader of the same term ${core.term}`);
}

/** What followers and candidates do alike. Messages of other terms were dealt with before. */
const withoutLead: Handlers = {
  "pre-vote": onVoteRequest,
  vote: onVoteRequest,
  "pre-vote-answer": ignore,
  "vote-answer": ignore,
  append: onAppend,
  "append-answer": ignore,
  heartbeat: onHeartbeat,
  "heartbeat-answer": ignore,
  snapshot: onSnapshot,
  "snapshot-status": ignore,
  "timeout-now": ignore,
};

/** Every role answers every kind of message; a new kind does not compile until it is decided here. */
const handlers: { readonly [R in Role]: Handlers } = {
  follower: { ...withoutLead, "timeout-now": onTimeoutNow },
  "pre-candidate": { ...withoutLead, "pre-vote-answer": onVoteAnswer },
  candidate: { ...withoutLead, "vote-answer": onVoteAnswer },
  leader: {
    "pre-vote": onVoteRequest,
    vote: onVoteRequest,
    "pre-vote-answer": ignore,
    "vote-answer": ignore,
    append: impossible,
    "append-answer": leaderOnAppendAnswer,
    heartbeat: impossible,
    "heartbeat-answer": leaderOnHeartbeatAnswer,
    snapshot: impossible,
    "snapshot-status": (core, message) => snapshotSent(core, message.from, message.ok),
    "timeout-now": ignore,
  },
};

/**
 * One member's consensus. Inputs are its methods; what they cause comes out of `ready()`. Nothing here waits, reads a
 * clock or touches a file; the same calls with the same `Rng` give the same answers.
 */
export class Raft {
  readonly #core: Core;
  readonly #announced: Announced = { role: "follower", term: 0, leader: noMember };

  constructor(options: ConsensusOptions, initial: InitialState) {
    this.#core = new Core(options, initial);
    this.#announced.term = this.#core.term;
  }

  /** Time passes. A single voter campaigns at once. */
  tick(): void {
    this.#core.tickCommit();
    if (this.#core.role === "leader") tickLeader(this.#core);
    else tickWithoutLead(this.#core);
  }

  /** A message from another member. Malformed, misdirected and stale ones change nothing. */
  step(message: Message): void {
    const core = this.#core;
    if (message.to !== core.id || message.from === core.id || !wellFormed(message)) return;
    if (message.term < core.term) {
      answerStale(core, message);
      return;
    }
    if (message.term > core.term && !enterTerm(core, message)) return;
    const handle = handlers[core.role][message.kind] as (core: Core, message: Message) => void;
    handle(core, message);
  }

  /** Appends commands (leader only). They travel with the next Ready. */
  propose(payloads: readonly Uint8Array[]): ProposalResult {
    return proposeCommands(this.#core, payloads);
  }

  proposeConfigurationChange(change: ConfigurationChange): ConfigurationResult {
    return proposeChange(this.#core, change);
  }

  /** Leader only. The answer comes in `Ready.reads` or `Ready.abandonedReads`. Never use a context twice. */
  readIndex(context: number): ReadResult {
    return requestRead(this.#core, context);
  }

  transferLeader(to: MemberId): TransferResult {
    return requestTransfer(this.#core, to);
  }

  /** Campaigns now, with a pre-vote if so configured. Does nothing where that is not allowed. */
  campaign(): void {
    if (this.#core.mayCampaign) startCampaign(this.#core);
  }

  /** Whether `ready()` would say anything. */
  hasReady(): boolean {
    return hasReady(this.#core, this.#announced);
  }

  /** What must be done now. Each thing is said once. */
  ready(): Ready {
    return takeReady(this.#core, this.#announced);
  }

  /** The batch of a `Ready.persist`, and all before it, are on disk. Completions of unknown batches are ignored. */
  persisted(completion: Completion): void {
    const core = this.#core;
    const { unstable } = core.log;
    if (!unstable.complete(completion)) return;
    if (core.role === "leader") maybeCommit(core);
    else if (unstable.persistedTerm === core.term && unstable.persistedVote === core.id)
      ownVotePersisted(core);
  }

  /** Everything up to `index` is applied. */
  appliedTo(index: LogIndex): void {
    this.#core.log.appliedTo(index);
  }

  /**
   * The state applies a committed membership change; call it before `appliedTo` reaches the entry. A change that is
   * not a legal step changes nothing, on every member alike. Returns the configuration from now on.
   */
  applyConfiguration(change: ConfigurationChange): Configuration {
    const core = this.#core;
    const next = changed(core.configuration, change);
    if (next === undefined) return core.configuration;
    core.setConfiguration(next);
    if (core.role === "leader") leaderAfterChange(core);
    else if (core.role !== "follower") candidateAfterChange(core);
    return next;
  }

  /** Answers one range of `Ready.wanted`, from its `low` on. No entries: they are gone for good. */
  supplyEntries(low: LogIndex, entries: readonly Entry[]): void {
    const core = this.#core;
    const { leadership, log } = core;
    const trusted = log.agreesWith(entries);
    if (trusted) log.supply(low, entries);
    if (leadership === undefined) return;
    for (const follower of leadership.progress.values()) {
      if (follower.wantedLow !== low) continue;
      if (trusted) feedFollower(core, leadership, follower, entries);
      else {
        // Read before the log was overwritten in an earlier term; ask again.
        follower.wantedLow = 0;
        leadership.flushDue = true;
      }
    }
  }

  /** The snapshot of `Ready.install` is durable and has become the state. */
  snapshotInstalled(position: SnapshotPosition): void {
    const core = this.#core;
    assert(core.installing?.index === position.index, `snapshot ${position.index} was not to be installed`);
    assert(core.installing.term === position.term, `snapshot ${position.index} has another term`);
    finishInstall(core, core.installing);
  }

  /** The snapshot of `Ready.install` could not be had; the member goes on as it was. */
  snapshotInstallFailed(position: SnapshotPosition): void {
    if (this.#core.installing?.index === position.index) abandonInstall(this.#core);
  }

  /**
   * Leader: a snapshot for those who wait for one, in answer to `Ready.snapshotWanted`. Each gets a "snapshot"
   * message; how sending went is reported for each.
   */
  snapshotAvailable(position: SnapshotPosition): void {
    offerSnapshot(this.#core, position);
  }

  /** Leader: how sending a snapshot to a member ended. */
  reportSnapshot(to: MemberId, ok: boolean): void {
    snapshotSent(this.#core, to, ok);
  }

  /** The log was cut up to and including `index`; `term` is the term there, in case the core does not know it. */
  compactTo(index: LogIndex, term?: Term): void {
    this.#core.log.compactTo(index, term);
  }

  /** Without what a leader knows of the others, so that asking for it often costs little. */
  briefStatus(): BriefStatus {
    const core = this.#core;
    const { leadership, log } = core;
    return {
      id: core.id,
      role: core.role,
      term: core.term,
      vote: core.vote,
      leader: core.leader,
      commit: log.commit,
      applied: log.applied,
      persisted: log.unstable.persisted,
      lastIndex: log.lastIndex,
      lastTerm: log.lastTerm,
      startIndex: log.startIndex,
      configuration: core.configuration,
      transferee: leadership?.transferee ?? noMember,
      committedInTerm: committedInTerm(core),
    };
  }

  status(): Status {
    const { leadership } = this.#core;
    return {
      ...this.briefStatus(),
      progress: leadership === undefined ? [] : Array.from(leadership.progress.values(), progressStatus),
    };
  }
}

function progressStatus(progress: {
  readonly id: MemberId;
  readonly learner: boolean;
  readonly state: ProgressStatus["state"];
  readonly match: LogIndex;
  readonly next: LogIndex;
  readonly recentlyActive: boolean;
  readonly inflights: { readonly bytes: number; readonly count: number };
}): ProgressStatus {
  const { id, learner, state, match, next, recentlyActive, inflights } = progress;
  return {
    id,
    learner,
    state,
    match,
    next,
    inflightBytes: inflights.bytes,
    inflightMessages: inflights.count,
    recentlyActive,
  };
}

/** A message from a term that has passed: who may be stuck behind gets an answer (R12), answers are dropped. */
function answerStale(core: Core, message: Message): void {
  switch (message.kind) {
    case "append":
    case "heartbeat":
    case "snapshot":
      answerStaleLeader(core, message);
      return;
    case "pre-vote":
    case "vote":
      refuseStaleVote(core, message);
      return;
  }
}

/** A message from a later term. Returns whether it is to be handled further. */
function enterTerm(core: Core, message: Message): boolean {
  switch (message.kind) {
    case "pre-vote":
      return !core.hearsLeader;
    case "vote":
      // R11: no reason to unseat a leader that is heard, unless it asked for it.
      if (core.hearsLeader && !message.transfer) return false;
      core.becomeFollower(message.term, noMember);
      return true;
    case "pre-vote-answer":
      // A grant names the term that was asked about, not one that anybody is in.
      if (message.granted) return true;
      core.becomeFollower(message.term, noMember);
      return true;
    case "append":
    case "heartbeat":
    case "snapshot":
      core.becomeFollower(message.term, message.from);
      return true;
    default:
      core.becomeFollower(message.term, noMember);
      return true;
  }
}
