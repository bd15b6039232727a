/**
 * One running member: builds the parts, owns their lifetime, and is what the services talk to. The only place
 * where the pure stations meet time, disk and network.
 */
import { join } from "node:path";
import { assert } from "../assert";
import type { BriefStatus, Raft, Status } from "../consensus/raft";
import type { Idempotency } from "../idempotency";
import { refuse, type RefusalName } from "../errors";
import { type ClusterId, type LeaseId, type MemberId, noMember, type Revision, type Term } from "../ids";
import { committedUnappliedMax } from "../limits";
import { AlarmType, type Member as MemberRecord } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { ApplyResult } from "../state/results";
import type { StateMachine } from "../state/state-machine";
import type { DurableLog } from "../storage/wal/types";
import { WatchHub } from "../watch/hub";
import { Applier } from "./applier";
import { ClusterNews } from "./cluster-news";
import { connect } from "./connect";
import { consensusOf } from "./consensus-of";
import { openDataDirectory, type OpenedData, scratchName } from "./data-directory";
import { Consistency } from "./consistency";
import { Envelopes } from "./envelopes";
import { Exchange } from "./exchange";
import { HandOver } from "./hand-over";
import { Headers } from "./headers";
import { Housekeeping } from "./housekeeping";
import type { LeaseKeeper } from "./lease-keeper";
import { LeaseRenewals, type LeaseTimeToLive } from "./lease-renewals";
import { ConsensusLoop } from "./loop";
import { type AddedMember, Membership, type NewMember } from "./membership";
import { leaseKeeperOf, raiseAlarm, recordRests } from "./operations";
import type { MemberCounters, MemberEvents, MemberOptions } from "./options";
import { Others } from "./others";
import type { PeerCalls } from "./peer-calls";
import type { PeerMessage } from "./peer-message";
import type { DiskFile, Ports } from "./ports";
import { Proposals } from "./proposals";
import { makeKnown, publish } from "./publication";
import { Reads } from "./reads";
import { Snapshots } from "./snapshots";
import { SpaceGuard } from "./space-guard";
import { timeoutReason } from "./timeout-reason";
import { Timers } from "./timers";

export type { MemberEvents, MemberOptions } from "./options";

export class Member {
  readonly clusterId: ClusterId;
  readonly id: MemberId;
  readonly options: MemberOptions;
  readonly state: StateMachine;
  readonly hub: WatchHub;
  readonly leases: LeaseKeeper;
  readonly headers: Headers;
  readonly space: SpaceGuard;
  readonly housekeeping: Housekeeping;
  readonly snapshots: Snapshots;
  readonly consistency: Consistency;
  /** Questions to other members, and the methods that this one answers. */
  readonly calls: PeerCalls;
  /** Milliseconds after which a proposal or linearizable read gives up (reference etcd-wire 1). */
  readonly requestTimeoutMs: number;
  /** Counters for metrics. */
  leaderChanges = 0;
  readonly #ports: Ports;
  readonly #events: MemberEvents;
  readonly #log: DurableLog;
  readonly #raft: Raft;
  readonly #loop: ConsensusLoop;
  readonly #proposals: Proposals;
  readonly #reads: Reads;
  readonly #exchange: Exchange;
  readonly #handOver: HandOver;
  readonly #membership: Membership;
  readonly #renewals: LeaseRenewals;
  readonly #applier: Applier;
  readonly #incarnation: bigint;
  readonly #envelopes: Envelopes;
  readonly #others: Others;
  readonly #news: ClusterNews;
  readonly #timers: Timers;
  readonly #stopListeners = new Set<() => void>();
  #term: Term = 0;
  #leader: MemberId = noMember;
  #leaderSinceMs = 0;
  #learner = false;
  /** Nobody else votes. */
  #votesAlone = false;
  /** There is no other member. */
  #alone = false;
  #stopping = false;
  #stopBegun = false;
  #removed = false;
  #scratchFiles = 0;

  private constructor(
    options: MemberOptions,
    ports: Ports,
    events: MemberEvents,
    opened: OpenedData,
    loggedBytes: () => number,
  ) {
    const { log, databasePath, state, clusterId, memberId } = opened;
    const { clock } = ports;
    this.options = options;
    this.clusterId = clusterId;
    this.id = memberId;
    this.state = state;
    this.requestTimeoutMs = 5_000 + 2 * options.electionTimeoutMs;
    this.#ports = ports;
    this.#timers = new Timers(clock);
    this.#events = events;
    this.#log = log;
    this.#others = new Others(memberId, state, opened.joining);
    this.#news = new ClusterNews(memberId, state.members(), events.log);
    this.#incarnation = ports.rng.bits64() >> 1n;
    this.#envelopes = new Envelopes(memberId, this.#incarnation);
    this.#raft = consensusOf(options, opened, ports.rng);
    this.headers = new Headers(clusterId, memberId, () => this.#term);
    this.#proposals = new Proposals(options.requestBytesMax);
    this.#reads = new Reads(state.appliedIndex);
    this.#exchange = new Exchange({
      self: memberId,
      incarnation: this.#incarnation,
      clock,
      peers: ports.peers,
      raft: this.#raft,
      proposals: this.#proposals,
      reads: this.#reads,
      overloaded: () => this.#loop.backlog > committedUnappliedMax,
      stuck: () => this.space.logIsFull,
      electionTimeoutMs: options.electionTimeoutMs,
    });
    this.calls = this.#exchange.calls;
    const wake = () => this.#loop.wake();
    this.#handOver = new HandOver({
      self: memberId,
      raft: this.#raft,
      peers: ports.peers,
      clock,
      electionTimeoutMs: options.electionTimeoutMs,
      wake,
    });
    this.#membership = new Membership({
      self: memberId,
      limits: {
        strict: options.strictReconfiguration ?? true,
        learnersMax: options.learnersMax ?? 1,
      },
      requestTimeoutMs: this.requestTimeoutMs,
      state,
      raft: this.#raft,
      proposals: this.#proposals,
      calls: this.calls,
      handOver: this.#handOver,
      peers: ports.peers,
      clock,
      wake,
    });
    this.hub = new WatchHub({
      history: state.history,
      header: (revision) => this.headers.bytes(revision),
      wake: () => this.#feedWatchers(),
      progressIntervalMs: options.watchProgressIntervalMs,
      jitter: () => ports.rng.below(1_000_000) / 1_000_000,
    });
    this.leases = leaseKeeperOf(
      options,
      clock,
      (operation, term) => void this.#proposeQuietly(operation, term),
    );
    this.#renewals = new LeaseRenewals({
      keeper: this.leases,
      state,
      calls: this.calls,
      clock,
      leader: () => this.#leader,
      alone: () => this.#alone,
      linearizable: () => this.linearizable(),
      clearRest: (id, term) => this.propose(recordRests([{ id, remainingSeconds: 0 }]), undefined, term),
      requestTimeoutMs: this.requestTimeoutMs,
      electionTimeoutMs: options.electionTimeoutMs,
    });
    this.space = new SpaceGuard({
      state,
      disk: ports.disk,
      directory: options.dataDirectory,
      checkpointBytes: () => this.housekeeping.databaseLogBytes,
      quotaBytes: options.quotaBytes,
      memberId,
      raiseAlarm: (alarm) => this.#proposeQuietly(raiseAlarm(memberId, alarm)),
    });
    this.housekeeping = new Housekeeping({
      member: this,
      log,
      loggedBytes,
      clock,
      jobs: ports.startDatabaseJobs(databasePath, state),
      keepFrom: () => this.snapshots.keepFrom,
      wake: () => this.#loop.wake(),
      logCut: (index, term) => this.#raft.compactTo(index, term),
      report: (level, message, fields) => events.log(level, message, fields),
      fatal: (error) => this.#fatal(error),
    });
    this.#applier = new Applier({
      state,
      raft: this.#raft,
      proposals: this.#proposals,
      hub: this.hub,
      leases: this.leases,
      clock,
      observer: events.applyObserver,
      self: memberId,
      incarnation: this.#incarnation,
      warningApplyMs: options.warningApplyMs,
      host: {
        holding: () => this.housekeeping.holding,
        compacted: () => this.housekeeping.compact(),
        configurationChanged: () => this.#configurationChanged(),
        slow: (operation, tookMs, index) =>
          events.log("warn", "apply request took too long", { operation, tookMs: Math.round(tookMs), index }),
      },
    });
    this.#loop = new ConsensusLoop(this.#raft, log, clock, ports.peers, {
      handIn: () => this.#exchange.handIn(),
      apply: (entry) => this.#applier.apply(entry),
      applied: (index) => {
        this.hub.flush();
        this.#reads.applied(index);
        if (this.#proposals.sendable) this.#loop.wake();
        this.housekeeping.applied();
      },
      reads: (reads) => this.#exchange.confirmed(reads),
      readsAbandoned: (contexts) => this.#exchange.abandoned(contexts),
      install: (position) => this.snapshots.install(position),
      snapshotWanted: () => this.snapshots.wanted(),
      stateChanged: () => this.#stateChanged(),
      logFull: (full) => this.#logFull(full),
      fatal: (error) => this.#fatal(error),
    });
    this.consistency = new Consistency({
      member: this,
      clock,
      intervalMs: options.corruptCheckIntervalMs ?? 0,
      compactionIntervalMs: options.compactHashCheckIntervalMs ?? 0,
      report: (level, message, fields) => events.log(level, message, fields),
    });
    this.snapshots = new Snapshots({
      member: this,
      ports,
      raft: this.#raft,
      loop: this.#loop,
      log,
      applier: this.#applier,
      proposals: this.#proposals,
      reads: this.#reads,
      databasePath,
      configurationChanged: () => this.#configurationChanged(),
      report: (level, message, fields) => events.log(level, message, fields),
      fatal: (error) => this.#fatal(error),
    });
  }

  /** Opens the data directory and takes part in consensus. Use {@link ready} before serving clients. */
  static async start(options: MemberOptions, ports: Ports, events: MemberEvents): Promise<Member> {
    let loggedBytes = 0;
    const opened = await openDataDirectory(
      {
        ...options,
        report: (message, fields) => events.log("info", message, fields),
        logObserver: {
          monotonicMs: () => ports.clock.monotonicMs(),
          synced(durationMs, bytes) {
            loggedBytes += bytes;
            events.logObserver?.synced?.(durationMs, bytes);
          },
          preparationFailed: (error) => events.logObserver?.preparationFailed?.(error),
        },
      },
      ports,
    );
    const member = new Member(options, ports, events, opened, () => loggedBytes);
    member.#begin();
    return member;
  }

  #begin(): void {
    const { clock, peers } = this.#ports;
    connect(peers, {
      member: this,
      incarnation: this.#incarnation,
      others: this.#others,
      receive: (message) => this.#receive(message),
      removed: () => this.#learnRemoved(),
      fatal: (error) => this.#fatal(error),
    });
    this.#configurationChanged();
    this.#timers.every(this.options.heartbeatIntervalMs, () => {
      this.#raft.tick();
      this.#handOver.check();
      this.#loop.wake();
    });
    this.#timers.every(100, () => this.hub.tick(clock.monotonicMs()));
    this.#timers.every(500, () => this.#sweep());
    this.#timers.every(1_000, () => this.space.measure());
    this.space.measure();
    this.housekeeping.start();
    this.snapshots.start();
    this.consistency.start();
    this.#raft.tick();
    this.#loop.wake();
  }

  #receive(message: PeerMessage): void {
    if (this.#stopping || !this.#others.hears(message)) return;
    try {
      this.snapshots.receive(message);
      if (message.kind === "propose" || message.kind === "read-index") this.#loop.asked(message.from);
      this.#exchange.receive(message);
    } catch (error) {
      this.#fatal(error);
    }
    this.#loop.wake();
  }

  /**
   * Resolves when this member has made itself known to the cluster, and so can serve. Repeats until a leader
   * accepts; rejects only when the member stops.
   */
  ready(): Promise<void> {
    return makeKnown(this, (error) =>
      this.#events.log("warn", "could not publish this member yet", { error: String(error) }),
    );
  }

  /** Tells the cluster this member's name and the URLs at which clients find it. */
  publish(clientUrls: readonly string[]): Promise<void> {
    return publish(this, clientUrls);
  }

  /** Proposes an operation and resolves with what applying it did; refusals reject as StoreError. */
  async write<Kind extends ApplyResult["kind"]>(
    operation: Command["operation"],
    _kind?: Kind,
    idempotency?: Idempotency,
  ): Promise<Extract<ApplyResult, { kind: Kind }>> {
    const result = await this.propose(operation, idempotency);
    if (result.kind === "refused") throw refuse(result.name);
    return result as Extract<ApplyResult, { kind: Kind }>;
  }

  /** As {@link write}, with a refusal by apply as a value; with a term only where this member leads that term. */
  propose(operation: Command["operation"], idempotency?: Idempotency, term?: Term): Promise<ApplyResult> {
    if (this.#stopping) throw refuse("stopped");
    if (this.#loop.backlog > committedUnappliedMax) throw refuse("requestTooManyRequests");
    this.space.admit(operation);
    const { clock } = this.#ports;
    const command = this.#envelopes.around(operation, clock.wallMs(), idempotency);
    const result = this.#proposals.submit(command, clock.monotonicMs(), term);
    this.#loop.wake();
    return result;
  }

  /** For proposals of the member itself, often from a timer: nothing is thrown, and failures are only logged. */
  async #proposeQuietly(operation: Command["operation"], onlyInTerm?: Term): Promise<void> {
    if (this.#stopping) return;
    try {
      await this.propose(operation, undefined, onlyInTerm);
    } catch (error) {
      if (onlyInTerm !== undefined && onlyInTerm !== this.#term) return;
      this.#events.log("warn", "an internal proposal failed", {
        operation: operation.case,
        error: String(error),
      });
    }
  }

  /** Resolves when the local state reflects every write acknowledged before this call. */
  linearizable(): Promise<void> {
    if (this.#stopping) return Promise.reject(refuse("stopped"));
    const confirmed = this.#reads.confirm(this.#ports.clock.monotonicMs());
    this.#loop.wake();
    return confirmed;
  }

  /** Asks another member something; see {@link PeerCalls.call}. */
  call(to: MemberId, method: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    return this.calls.call(to, method, body, timeoutMs);
  }

  /**
   * Adds a voter or a learner, on any member. Rejects with etcd's refusals: `memberNotEnoughStarted`, `unhealthy`,
   * `memberExist`, `peerURLExist`, `tooManyLearners`; with `timeout` the outcome is unknown.
   */
  addMember(member: NewMember): Promise<AddedMember> {
    return this.#membership.add(member);
  }

  /**
   * Makes a learner a voter; resolves with the members after that. Refusals: `memberNotFound`, `memberNotLearner`,
   * `learnerNotReady`, `memberNotEnoughStarted`.
   */
  promoteMember(id: MemberId): Promise<readonly MemberRecord[]> {
    return this.#membership.change({ type: "promote", id });
  }

  /**
   * Removes a member for good; resolves with the members after that. Refusals: `memberNotFound`,
   * `memberNotEnoughStarted`, `unhealthy`. A leader that is to remove itself hands over first.
   */
  removeMember(id: MemberId): Promise<readonly MemberRecord[]> {
    return this.#membership.change({ type: "remove", id });
  }

  /** Changes a member's peer URLs; resolves with the members after that. Refusals: `memberNotFound`, `peerURLExist`. */
  async updateMember(memberId: MemberId, peerUrls: readonly string[]): Promise<readonly MemberRecord[]> {
    await this.write({
      case: "updateMember",
      value: { $typeName: "keelson.UpdateMember", memberId, peerUrls: [...peerUrls] },
    });
    return this.state.members();
  }

  /**
   * Hands leadership to `to`; resolves when this member sees it lead. Refusals: `notLeader` when this member does not
   * lead, `badLeaderTransferee` when `to` is no voter, and etcd's text for a transfer that took too long.
   */
  transferLeader(to: MemberId): Promise<void> {
    return this.#handOver.to(to);
  }

  /**
   * Gives a lease its full time again, through the leader; the answer is that time in seconds, 0 for a lease that is
   * unknown or over. At once where nobody has to be asked. Rejects with `noLeader`, `timeout` or `leaderChanged`.
   */
  renewLease(id: LeaseId): number | Promise<number> {
    return this.#renewals.renew(id);
  }

  /**
   * What is left of a lease, from the leader; undefined: there is no such lease. The local state is then as new as the
   * answer, so that the lease's keys can be read from it. Rejects as {@link renewLease}.
   */
  leaseTimeToLive(id: LeaseId): Promise<LeaseTimeToLive | undefined> {
    return this.#renewals.timeToLive(id);
  }

  /** True once this member learned that it was removed from the cluster; {@link MemberEvents.removed} tells it. */
  get isRemoved(): boolean {
    return this.#removed;
  }

  #feedWatchers(): void {
    this.#ports.clock.soon(() => {
      if (this.#stopping) return;
      try {
        if (this.hub.work()) this.#feedWatchers();
      } catch (error) {
        this.#fatal(error);
      }
    });
  }

  #stateChanged(): void {
    const { role, term, leader } = this.#raft.briefStatus();
    this.#term = term;
    this.#news.leader(leader, term);
    if (leader !== this.#leader) {
      this.#leader = leader;
      if (leader !== noMember) {
        this.leaderChanges++;
        this.#leaderSinceMs = this.#ports.clock.monotonicMs();
        if (this.#others.led(leader)) this.#ports.peers.setMembers(this.#others.addresses());
      }
    }
    if (role !== "leader") this.leases.demote();
    this.#exchange.stateChanged();
    this.#handOver.check();
    // What waited for a leader need not wait for a tick.
    this.#loop.wake();
  }

  #configurationChanged(): void {
    const { voters, learners } = this.#raft.briefStatus().configuration;
    this.#learner = learners.includes(this.id);
    this.#votesAlone = voters.length === 1 && voters[0] === this.id;
    this.#alone = this.#votesAlone && learners.length === 0;
    this.#ports.peers.setMembers(this.#others.addresses());
    this.#news.members(this.state.members());
    this.#membership.applied();
    if (this.state.isRemovedMember(this.id)) this.#learnRemoved();
  }

  #learnRemoved(): void {
    if (this.#removed) return;
    this.#removed = true;
    this.#membership.removed();
    this.#events.log("error", "the member has been permanently removed from the cluster");
    this.#events.removed?.();
  }

  #sweep(): void {
    const nowMs = this.#ports.clock.monotonicMs();
    const { voters } = this.#raft.briefStatus().configuration;
    this.#proposals.sweep(nowMs, this.requestTimeoutMs, (submittedAtMs) =>
      timeoutReason(submittedAtMs, {
        self: this.id,
        leader: this.#leader,
        leaderSinceMs: this.#leaderSinceMs,
        electionTimeoutMs: this.options.electionTimeoutMs,
        voters,
        peers: this.#ports.peers,
      }),
    );
    this.#reads.sweep(nowMs, this.requestTimeoutMs);
    if (this.#reads.waiting) this.#loop.wake();
    this.#resignIfDiskStalls(nowMs);
  }

  /** A leader applies only what its own disk has: one whose disk is full or hangs serves the cluster better by following. */
  #resignIfDiskStalls(nowMs: number): void {
    const sinceMs = this.#loop.unpersistedSinceMs;
    if (sinceMs === undefined || nowMs - sinceMs < this.options.electionTimeoutMs) return;
    if (this.isLeader && !this.#votesAlone) void this.#handOver.away();
  }

  #logFull(full: boolean): void {
    this.space.logFull(full);
    if (full) this.#events.log("error", "the disk of the log is full: writes wait, reads go on");
    else this.#events.log("info", "the disk of the log has space again");
  }

  #fatal(error: unknown): void {
    this.#stopping = true;
    this.#timers.stop();
    this.#loop.stop();
    this.#events.fatal(error);
  }

  get term(): Term {
    return this.#term;
  }
  /** The leader as far as this member knows; `noMember` when it knows none. */
  get leader(): MemberId {
    return this.#leader;
  }
  get isLeader(): boolean {
    return this.#leader === this.id;
  }
  get isLearner(): boolean {
    return this.#learner;
  }
  get revision(): Revision {
    return this.state.revision;
  }
  status(): Status {
    return this.#raft.status();
  }
  briefStatus(): BriefStatus {
    return this.#raft.briefStatus();
  }
  /** Numbers for metrics and Status. */
  counters(): MemberCounters {
    return {
      proposalsPending: this.#proposals.pending,
      proposalsFailed: this.#proposals.failed,
      readsFailed: this.#reads.failed,
      backlog: this.#loop.backlog,
      slowApplies: this.#applier.slowCount,
      logBytes: this.#log.sizeBytes,
    };
  }

  /** What the raised alarms refuse new keys and leases with, if they do. */
  activeAlarm(): RefusalName | undefined {
    const raised = new Set(this.state.alarms().map(({ alarm }) => alarm));
    if (raised.has(AlarmType.CORRUPT)) return "corrupt";
    return raised.has(AlarmType.NOSPACE) ? "noSpace" : undefined;
  }

  monotonicMs(): number {
    return this.#ports.clock.monotonicMs();
  }
  /** Runs work in slices: calls back after pending I/O. */
  soon(): Promise<void> {
    return new Promise((resolve) => this.#ports.clock.soon(resolve));
  }
  pause(durationMs: number): Promise<void> {
    return new Promise((resolve) => void this.#ports.clock.after(durationMs, resolve));
  }
  randomId(): bigint {
    return this.#ports.rng.bits64() >> 1n;
  }

  get stopping(): boolean {
    return this.#stopping;
  }
  /** Calls back once when the member stops, at once if it already does; the answer removes the listener. */
  onStop(listener: () => void): () => void {
    if (this.#stopping) {
      listener();
      return () => {};
    }
    this.#stopListeners.add(listener);
    return () => this.#stopListeners.delete(listener);
  }

  /** A new path inside the data directory for a file that does not outlive its use. */
  scratchPath(): string {
    return join(this.options.dataDirectory, scratchName(++this.#scratchFiles));
  }
  /** Opens such a file for reading and takes its name away: it vanishes with the last handle. */
  openScratch(path: string): DiskFile {
    const file = this.#ports.disk.open(path, "read");
    this.#ports.disk.remove(path);
    return file;
  }

  /**
   * Hands leadership over, within an election timeout; then ends watches and waits, writes out what is in memory,
   * and closes the files.
   */
  async stop(): Promise<void> {
    assert(!this.#stopBegun, "a member is stopped once");
    this.#stopBegun = true;
    if (!this.#stopping) await this.#handOver.away();
    this.#stopping = true;
    for (const listener of this.#stopListeners) listener();
    this.#stopListeners.clear();
    this.#loop.stop();
    this.#timers.stop();
    this.leases.demote();
    this.#applier.stop();
    this.#proposals.stop();
    this.#reads.stop();
    this.calls.stop();
    this.#handOver.stop();
    this.#renewals.stop();
    await this.#ports.peers.close();
    this.snapshots.stop();
    await this.housekeeping.stop();
    await this.#log.close();
    this.state.close();
    this.state.database.close();
  }
}
