/**
 * One run: a cluster of production members under virtual time, the load and the faults that a seed draws, every check
 * on. First anything may go wrong and only the promises must hold; then all heals, and progress is due.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { ConfigurationChange } from "../../src/consensus/types";
import type { LeaseId, MemberId } from "../../src/ids";
import type { JoinPlan } from "../../src/member/join-plan";
import type { Member, MemberOptions } from "../../src/member/member";
import { MemberSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { setRandomSeed } from "bun:jsc";
import { SeededRng } from "../../src/rng";
import { LogFullError } from "../../src/storage/wal/errors";
import { checkByRevision } from "../check/by-revision";
import { VirtualClock } from "./clock";
import { Faults } from "./faults";
import { SimulatedHost } from "./host";
import { LeaseJudge } from "./lease-judge";
import { Links } from "./links";
import { finalChecks, hashesAgree } from "./final-checks";
import { type Operation, Operations, Shown } from "./operations";
import {
  drawOptions,
  operationKinds,
  type OperationKind,
  type Overrides,
  type SimulationOptions,
} from "./options";
import { Recorder } from "./recorder";
import { Referee } from "./referee";
import { listen } from "./taps";
import { setTraps } from "./traps";
import { type Step, Truth } from "./truth";
import { claim, Violation } from "./violation";
import { Watchers } from "./watchers";
import { memberDefaults } from "./world";

export interface RunResult {
  readonly seed: number;
  readonly ok: boolean;
  /** What was broken, with the virtual time; absent when all is well. */
  readonly violation?: string;
  readonly virtualMs: number;
  /** Requests that were answered, refusals included. */
  readonly answered: number;
  readonly succeeded: number;
  /** Over everything that happened: equal for equal seeds. */
  readonly traceHash: string;
  readonly events: number;
  readonly counts: Readonly<Record<string, number>>;
}

export interface RunOptions extends Overrides {
  readonly seconds: number;
  /** Receives one line per noteworthy thing. */
  readonly trace?: (line: string) => void;
}

/** After healing, everything that is due must have happened within this virtual time. */
const livenessMs = 60_000;
/** One run in so many keeps its whole history, for the second level of the linearizability check. */
const historyEvery = 8;
/** A second of virtual time has some ten thousand events. */
const eventsPerSecondMax = 2_000_000;
/** Hashes of members are compared this often. */
const hashIntervalMs = 10_000;

/** Runs one seed from beginning to end, with real time, randomness and files trapped. */
export function runSeed(seed: number, options: RunOptions): RunResult {
  const release = setTraps();
  // Nothing may depend on it; if something did, it would at least repeat.
  setRandomSeed(seed);
  try {
    return new Simulation(drawOptions(seed, options.seconds, options), options.trace).run();
  } finally {
    release();
  }
}

export class Simulation {
  readonly clock = new VirtualClock();
  readonly truth = new Truth();
  readonly referee: Referee;
  readonly links: Links;
  readonly leases: LeaseJudge;
  readonly shown: Shown;
  readonly operations: Operations;
  readonly watchers: Watchers;
  readonly faults: Faults;
  readonly hosts: SimulatedHost[] = [];
  readonly options: SimulationOptions;
  readonly #rng: SeededRng;
  readonly #clientRng: SeededRng;
  readonly #traceLine: ((line: string) => void) | undefined;
  readonly #recorder: Recorder | undefined;
  /** The host whose event is running. */
  #current: SimulatedHost | undefined;
  #failure: { readonly error: unknown; readonly atMs: number } | undefined;
  #hash = 0x811c9dc5;
  #events = 0;
  /** A Ready was taken, or an entry applied, in this event. */
  #moved = false;
  #second = 0;
  #eventsAtSecond = 0;
  /** Requests of each life, by sequence number of their proposal. */
  readonly #proposed = new Map<bigint, Map<bigint, Operation>>();
  #asking: Operation | undefined;
  readonly #busy = new Set<number>();
  #operationNumber = 0;
  #answered = 0;
  #loaded = true;
  /** As the applied configuration says, with the addresses. */
  readonly #members = new Map<MemberId, { readonly peerUrls: readonly string[]; learner: boolean }>();

  constructor(options: SimulationOptions, trace?: (line: string) => void) {
    this.options = options;
    this.#traceLine = trace;
    // The exact check of the whole history costs memory and a second: some runs have it.
    this.#recorder = options.seed % historyEvery === 0 ? new Recorder() : undefined;
    this.#rng = new SeededRng(options.seed).fork(1);
    this.#clientRng = this.#rng.fork(2);
    const { truth, clock } = this;
    const noteTrace = (host: SimulatedHost | undefined, what: string): void => this.trace(host, what);
    this.referee = new Referee(truth, noteTrace);
    this.links = new Links(clock, this.#rng.fork(3), options.link, {
      leaves: (message) => this.#guarded(() => this.referee.leaves(this.#current!, message)),
      arrives: (message) => this.referee.arrives(this.#current!, message),
      arrived: (message) => this.#guarded(() => this.referee.arrived(this.#current!, message)),
    });
    this.leases = new LeaseJudge(truth, 1 + options.clockRateSpreadPercent / 100, options.electionTimeoutMs);
    this.shown = new Shown(truth);
    const shared = { truth, shown: this.shown, workload: options.workload };
    this.operations = new Operations({
      ...shared,
      rng: this.#rng.fork(4),
      leases: this.leases,
      recorder: this.#recorder,
      now: () => clock.monotonicMs(),
      revoked: (id) => this.#renewRevoked(id),
    });
    this.watchers = new Watchers({
      ...shared,
      clock,
      rng: this.#rng.fork(5),
      someHost: () => this.#someHost(),
      at: (host, work) => this.#at(host, work),
      trace: noteTrace,
    });
    this.faults = new Faults({
      clock,
      rng: this.#rng.fork(6),
      links: this.links,
      options,
      hosts: () => this.hosts.filter((host) => !this.#isGone(host)),
      leader: () => this.referee.leader(),
      voters: () => this.#ids(false),
      learners: () => this.#ids(true),
      crash: (host, powerFails) => this.crash(host, powerFails),
      start: (host) => this.startHost(host),
      at: (host, work) => host.enter(host.life, work),
      trace: noteTrace,
      fail: (error) => this.fail(error),
    });
    this.#addFounders();
  }

  #addFounders(): void {
    const initialCluster = Array.from({ length: this.options.voters }, (_, i) => ({
      name: `m${i + 1}`,
      peerUrls: [`http://m${i + 1}:2380`],
    }));
    for (const { name } of initialCluster) this.#addHost({ name, initialCluster });
  }

  #addHost(options: Pick<MemberOptions, "name" | "initialCluster">, joining?: JoinPlan): SimulatedHost {
    const { options: run } = this;
    const rng = this.#rng.fork(100 + this.hosts.length);
    const spread = run.clockRateSpreadPercent;
    const diskRng = rng.fork(1);
    const host: SimulatedHost = new SimulatedHost(
      {
        number: this.hosts.length + 1,
        turnMs: run.turnMs,
        clockRate: 1 + (rng.below(2 * spread + 1) - spread) / 100,
        kv: { txnOpsMax: 128, requestBytesMax: memberDefaults.requestBytesMax },
        syncMs: () =>
          run.syncMeanMs * (0.2 + (1.6 * diskRng.below(1_000)) / 1_000) + this.faults.syncPenaltyMs(host),
        ...(joining === undefined ? {} : { joining }),
        member: {
          ...memberDefaults,
          ...options,
          clientUrls: [`http://${options.name}:2379`],
          initialClusterState: joining === undefined ? "new" : "existing",
          heartbeatIntervalMs: run.heartbeatIntervalMs,
          electionTimeoutMs: run.electionTimeoutMs,
          preVote: run.preVote,
          compactionBatchRows: run.compactionBatchRows,
          applyCommitIntervalMs: run.applyCommitIntervalMs,
          checkpointEntries: run.checkpointEntries,
          catchupEntries: run.catchupEntries,
          watchProgressIntervalMs: run.watchProgressIntervalMs,
          leaseCheckpoints: run.leaseCheckpoints,
          logSegmentBytes: run.logSegmentBytes,
          bounds: run.bounds,
          learnersMax: 2,
        },
      },
      {
        clock: this.clock,
        network: this.links,
        run: (running, work) => this.#runEvent(running, work),
        fatal: (failed, error) =>
          this.fail(
            error instanceof Violation
              ? error
              : new Violation(`${failed.name} ended itself: ${textOf(error)}`),
          ),
        startFailed: (failed, error) => this.#startFailed(failed, error),
        started: (started, member) => this.#started(started, member),
        trace: (traced, what) => this.trace(traced, what),
      },
      rng,
    );
    this.hosts.push(host);
    return host;
  }

  // Events.

  #runEvent(host: SimulatedHost, work: () => void): void {
    this.#current = host;
    try {
      work();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Runs work as part of an event of this host, or as its next one. */
  #at(host: SimulatedHost, work: () => void): void {
    if (this.#current === host) work();
    else host.enter(host.life, work);
  }

  #guarded(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error: unknown): void {
    this.#failure ??= { error, atMs: this.clock.monotonicMs() };
  }

  #step(untilMs: number): boolean {
    this.#current = undefined;
    if (!this.clock.step(untilMs)) return false;
    this.#events++;
    const second = Math.floor(this.clock.monotonicMs() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#eventsAtSecond = this.#events;
    }
    claim(this.#events - this.#eventsAtSecond < eventsPerSecondMax, "P21: the members spin");
    const host = this.#current as SimulatedHost | undefined;
    if (host !== undefined) {
      // Whatever consensus did shows in a Ready before anybody can be told of it.
      if (this.#moved) {
        this.#moved = false;
        this.#guarded(() => this.referee.observe(host));
      }
      this.#mix(host);
    }
    if (this.#failure !== undefined) throw this.#failure.error;
    return true;
  }

  #mix(host: SimulatedHost): void {
    const status = this.referee.status(host);
    let hash = this.#hash;
    hash = Math.imul(hash ^ (this.clock.monotonicMs() * 1_000), 0x01000193);
    hash = Math.imul(hash ^ host.number, 0x01000193);
    if (status !== undefined) {
      hash = Math.imul(hash ^ status.commit, 0x01000193);
      hash = Math.imul(hash ^ status.lastIndex, 0x01000193);
      hash = Math.imul(hash ^ status.applied ^ (status.term << 20), 0x01000193);
    }
    this.#hash = hash;
  }

  /** Lets time pass; ends early when the condition holds. */
  #pass(durationMs: number, until: () => boolean = () => false): boolean {
    const endMs = this.clock.monotonicMs() + durationMs;
    let checkAtMs = 0;
    for (;;) {
      const nowMs = this.clock.monotonicMs();
      if (nowMs >= checkAtMs) {
        if (until()) return true;
        checkAtMs = nowMs + 20;
      }
      if (!this.#step(endMs)) return until();
    }
  }

  trace(host: SimulatedHost | undefined, what: string): void {
    if (this.#traceLine === undefined) return;
    const status = host === undefined ? undefined : this.referee.status(host);
    const standing =
      status === undefined
        ? ""
        : `${status.role.slice(0, 4)} t${status.term} ${status.applied}/${status.commit}/${status.lastIndex}`;
    const at = (this.clock.monotonicMs() / 1_000).toFixed(4).padStart(9);
    this.#traceLine(`${at} ${(host?.name ?? "--").padEnd(8)} ${standing.padEnd(28)} ${what}`);
  }

  // Members.

  startHost(host: SimulatedHost): void {
    if (host.state !== "down" || this.#isGone(host)) return;
    this.trace(host, "starts");
    host.start();
  }

  crash(host: SimulatedHost, powerFails: boolean): void {
    if (host.state === "down") return;
    this.trace(host, powerFails ? "loses power" : "is killed");
    host.crash(powerFails);
    this.watchers.hostEnded(host);
  }

  #startFailed(host: SimulatedHost, error: unknown): void {
    this.trace(host, `does not start: ${textOf(error)}`);
    const removed = error instanceof Error && error.message.includes("was removed from the cluster");
    const full = error instanceof LogFullError;
    if (!removed && !full) return this.fail(new Violation(`${host.name} does not start: ${textOf(error)}`));
    if (removed) host.removed = true;
    this.clock.after(0, () => {
      this.crash(host, false);
      if (full) this.clock.after(500, () => this.startHost(host));
    });
  }

  #started(host: SimulatedHost, member: Member): void {
    const operations = new Map<bigint, Operation>();
    this.#proposed.set(host.incarnation, operations);
    const propose = member.propose.bind(member);
    let sequence = 0n;
    member.propose = (operation) => {
      if (operation.case === "leaseRevoke" && operation.value.expiredInTerm !== 0n) {
        const { id, expiredInTerm } = operation.value;
        this.#guarded(() => this.leases.askedToExpire(host, member.leases, id, expiredInTerm));
      }
      const asking = this.#asking;
      this.#asking = undefined;
      // Whatever is refused before it gets a number is not counted.
      const outcome = propose(operation);
      sequence++;
      if (asking !== undefined) operations.set(sequence, asking);
      return outcome;
    };
    this.#moved = true;
    this.trace(host, `is there, at ${member.state.appliedIndex}`);
  }

  /** The host of a member that is removed, or was never meant to be. */
  #isGone(host: SimulatedHost): boolean {
    return host.removed || (host.id !== undefined && this.#removed.has(host.id));
  }

  readonly #removed = new Set<MemberId>();

  #ids(learners: boolean): MemberId[] {
    return [...this.#members].filter(([, { learner }]) => learner === learners).map(([id]) => id);
  }

  /** A change of membership was applied for the first time: its consequences for the hosts. */
  #configurationChanged({ type, memberId, context }: ConfigurationChange): void {
    if (type === "remove") {
      if (!this.#members.delete(memberId)) return;
      this.#removed.add(memberId);
      const host = this.hosts.find(({ id }) => id === memberId);
      if (host === undefined) return;
      // It goes on for a while as if nothing had happened.
      this.clock.after(100 + this.#clientRng.below(4_000), () => this.crash(host, false));
      return;
    }
    if (this.#removed.has(memberId)) return;
    const known = this.#members.get(memberId);
    if (known !== undefined) {
      known.learner = type === "add-learner";
      return;
    }
    const { peerURLs } = fromBinary(MemberSchema, context);
    this.#members.set(memberId, { peerUrls: peerURLs, learner: type === "add-learner" });
    const founder = this.hosts.find(({ options }) =>
      options.member.initialCluster.some(
        ({ name, peerUrls }) => name === options.member.name && peerUrls[0] === peerURLs[0],
      ),
    );
    if (founder !== undefined) return;
    const others = [...this.#members].filter(([id]) => id !== memberId);
    const plan: JoinPlan = {
      clusterId: this.hosts.find(({ member }) => member !== undefined)!.member!.clusterId,
      memberId,
      name: `m${this.hosts.length + 1}`,
      members: others.map(([id, { peerUrls }]) => ({ id, peerUrls })),
      promote: false,
    };
    const host = this.#addHost({ name: plan.name, initialCluster: [] }, plan);
    host.id = memberId;
    this.clock.after(10 + this.#clientRng.below(2_000), () => this.startHost(host));
  }

  // Load.

  #serving(): SimulatedHost[] {
    return this.hosts.filter((host) => host.state === "up" && host.services !== undefined);
  }

  #someHost(): SimulatedHost | undefined {
    const serving = this.#serving();
    return serving[this.#clientRng.below(Math.max(1, serving.length))];
  }

  #load(): void {
    const { operationsPerSecond, clients, fixedMembers } = this.options.workload;
    const rng = this.#clientRng;
    const gapMs = (-Math.log(1 - rng.below(1_000_000) / 1_000_000) * 1_000) / operationsPerSecond;
    this.clock.after(gapMs, () => {
      if (!this.#loaded) return;
      this.#load();
      const client = rng.below(clients);
      const kind = this.#drawKind();
      // A client has one request under way at a time; another one takes its turn.
      let free = client;
      while (this.#busy.has(free)) {
        free = (free + 1) % clients;
        if (free === client) return;
      }
      const serving = this.#serving();
      const host = fixedMembers
        ? this.hosts[free % this.hosts.length]
        : serving[rng.below(Math.max(1, serving.length))];
      if (host?.services === undefined) return;
      host.enter(host.life, () => this.#send(host, kind, free));
    });
  }

  #drawKind(): OperationKind {
    const { weights } = this.options.workload;
    const total = operationKinds.reduce((sum, kind) => sum + weights[kind], 0);
    let draw = this.#clientRng.below(total);
    for (const kind of operationKinds) {
      draw -= weights[kind];
      if (draw < 0) return kind;
    }
    return "put";
  }

  #operation(host: SimulatedHost, kind: OperationKind): Operation {
    return {
      number: ++this.#operationNumber,
      kind,
      host,
      calledAtMs: this.clock.monotonicMs(),
      shownRevision: this.shown.revision,
      shownIndex: this.shown.index,
      shownCompacted: this.shown.compacted,
      committedIndex: this.referee.committed,
      state: "open",
      step: undefined,
      description: kind,
      noted: undefined,
    };
  }

  #send(host: SimulatedHost, kind: OperationKind, client: number): void {
    const operation = this.#operation(host, kind);
    const { life } = host;
    this.#busy.add(client);
    const done = (): void => {
      this.#busy.delete(client);
      if (life === host.life) this.#answered++;
    };
    this.#asking = operation;
    this.operations.send(operation).then(done, (error: unknown) => {
      done();
      this.fail(error);
    });
    this.#asking = undefined;
    // Whoever waits too long goes on with something else, and never learns the outcome; it is judged all the same.
    this.clock.after(200 + this.#clientRng.below(2_000), () => {
      if (operation.state === "open") this.#busy.delete(client);
    });
  }

  /** Whoever renews a lease that is gone must be told so, by whichever member: also by a leader that applies late. */
  #renewRevoked(id: LeaseId): void {
    const rng = this.#clientRng;
    for (let i = rng.below(3); i > 0; i--) {
      this.clock.after(rng.below(20), () => {
        const host = this.#someHost();
        if (!this.#loaded || host === undefined) return;
        host.enter(host.life, () => {
          if (host.services === undefined) return;
          const operation = this.#operation(host, "leaseKeepAlive");
          this.operations.renew(operation, id).catch((error: unknown) => this.fail(error));
        });
      });
    }
  }

  // What the taps hear.

  #listen(): () => void {
    const host = (): SimulatedHost => this.#current!;
    return listen({
      ready: (ready) => {
        this.#moved = true;
        this.#guarded(() => this.referee.ready(host(), ready));
      },
      logOpened: (log) => this.#guarded(() => this.referee.logOpened(host(), log)),
      appended: (_log, batch) => this.#guarded(() => this.referee.given(host(), batch)),
      durable: (_log, batch) => this.#guarded(() => this.referee.durable(host(), batch)),
      applied: (_state, index, term, command, result, changes) =>
        this.#guarded(() => {
          this.#moved = true;
          const by = host();
          const step = this.truth.applied(
            index,
            term,
            command,
            result,
            changes,
            this.clock.monotonicMs(),
            by.name,
          );
          if (
            command?.operation.case === "leaseGrant" &&
            result.kind === "lease-grant" &&
            by.member !== undefined
          )
            this.leases.grantApplied(by.member.leases, result.id, result.ttlSeconds);
          if (step !== undefined) this.#stepped(step);
        }),
      configurationApplied: (_state, index, _term, change, isMade) =>
        this.#guarded(() => {
          this.#moved = true;
          if (!this.truth.configurationApplied(index, change, host().name) || !isMade) return;
          this.trace(host(), `${change.type} ${change.memberId.toString(16)} at ${index}`);
          this.referee.counts.configurationChanges++;
          this.#configurationChanged(change);
        }),
      leaseKeeperPromoted: (keeper, term, leases) =>
        this.#guarded(() => this.leases.promoted(host(), keeper, term, leases)),
      leaseRenewed: (keeper, id, outcome) => this.#guarded(() => this.leases.renewed(keeper, id, outcome)),
    });
  }

  #stepped(step: Step): void {
    this.leases.step(step);
    const { requestId } = step.command ?? {};
    if (requestId === undefined) return;
    const operations = this.#proposed.get(requestId.incarnation);
    const operation = operations?.get(requestId.sequence);
    if (operation === undefined) return;
    claim(
      operation.step === undefined,
      () => `P2: ${operation.description} took effect twice, at ${operation.step!.index} and ${step.index}`,
    );
    operation.step = step;
    claim(
      operation.state !== "failed" || (step.written.length === 0 && step.outcome.kind === "refused"),
      () =>
        `P18: ${operation.description} was said to have failed for certain, and took effect at ${step.index}`,
    );
  }

  // The run.

  run(): RunResult {
    const stopListening = this.#listen();
    let violation: string | undefined;
    try {
      for (const host of this.hosts) this.startHost(host);
      this.#warmUp();
      this.faults.start();
      this.watchers.start();
      this.#compareHashes();
      this.#pass(this.options.seconds * 1_000 - this.clock.monotonicMs());
      this.#heal();
    } catch (error) {
      const at = `at ${(this.clock.monotonicMs() / 1_000).toFixed(3)} s: `;
      violation = at + textOf(error);
      this.trace(undefined, `VIOLATION ${textOf(error)}`);
    } finally {
      this.watchers.close();
      for (const host of this.hosts) host.dispose();
      stopListening();
    }
    return {
      seed: this.options.seed,
      ok: violation === undefined,
      ...(violation === undefined ? {} : { violation }),
      virtualMs: this.clock.monotonicMs(),
      answered: this.#answered,
      succeeded: this.operations.counts.reads + this.operations.counts.writes,
      traceHash: (this.#hash >>> 0).toString(16).padStart(8, "0"),
      events: this.#events,
      counts: this.#counts(),
    };
  }

  /**
   * A story instead of a draw: the members start, a leader is there, then the script says what happens; no load, no
   * faults but the script's. All checks are on, and at the end all heals and progress is due. Throws what was broken.
   */
  play(script: (simulation: Simulation) => void): void {
    const stopListening = this.#listen();
    try {
      for (const host of this.hosts) this.startHost(host);
      this.pass(30_000, () => this.referee.leader() !== undefined);
      this.pass(2_000);
      script(this);
      this.#heal();
    } finally {
      this.watchers.close();
      for (const host of this.hosts) host.dispose();
      stopListening();
    }
  }

  /** For stories: lets time pass until the condition holds, and says whether it does. */
  pass(durationMs: number, until?: () => boolean): boolean {
    return this.#pass(durationMs, until);
  }

  /** For stories: asks a member something, and lets time pass until it answers. */
  settle<Answer>(
    host: SimulatedHost,
    ask: (host: SimulatedHost) => Promise<Answer>,
    withinMs = 30_000,
  ): Answer {
    const asked = this.begin(host, ask);
    this.#pass(withinMs, () => asked.outcome !== undefined);
    const { outcome } = asked;
    if (outcome === undefined) throw new Error(`${host.name} did not answer within ${withinMs} ms`);
    if ("error" in outcome) throw outcome.error;
    return outcome.answer;
  }

  /** For stories: asks a member something; the outcome comes as time passes. */
  begin<Answer>(
    host: SimulatedHost,
    ask: (host: SimulatedHost) => Promise<Answer>,
  ): { outcome?: { readonly answer: Answer } | { readonly error: unknown } } {
    const asked: { outcome?: { readonly answer: Answer } | { readonly error: unknown } } = {};
    this.clock.after(0, () =>
      host.enter(host.life, () => {
        ask(host).then(
          (answer) => {
            asked.outcome = { answer };
          },
          (error: unknown) => {
            asked.outcome = { error };
          },
        );
      }),
    );
    return asked;
  }

  /** No faults until the first write succeeded. */
  #warmUp(): void {
    const there = this.#pass(
      30_000,
      () => this.referee.leader() !== undefined && this.truth.appliedIndex > this.options.voters,
    );
    claim(there, "P21: no leader appeared in a cluster without faults");
    this.#load();
  }

  #compareHashes(): void {
    this.clock.after(hashIntervalMs, () => {
      const serving = this.#serving();
      const at = this.#clientRng.below(Math.max(1, serving.length));
      // Two at a time: over a batch every pair meets.
      this.#guarded(() => hashesAgree([...serving.slice(at), ...serving.slice(0, at)].slice(0, 2)));
      this.#compareHashes();
    });
  }

  #heal(): void {
    this.trace(undefined, "everything heals");
    this.faults.stop();
    this.links.options = {
      delayMinMs: 0.2,
      delayMeanMs: 0.5,
      lossPermille: 0,
      repeatPermille: 0,
      overtakePermille: 0,
      capacity: 10_000,
      pieceBytes: 1_000_000,
    };
    const startAll = (): void => {
      for (const host of this.hosts) this.startHost(host);
      if (!this.#isQuiet) this.clock.after(100, startAll);
    };
    startAll();
    const healedAtMs = this.clock.monotonicMs();
    this.#mustCome("a leader", () => this.referee.leader() !== undefined);
    this.#mustCome("every member serves", () =>
      this.#belonging().every(({ services }) => services !== undefined),
    );
    for (const host of this.#belonging()) this.#mustWrite(host);
    this.#loaded = false;
    this.watchers.stop();
    this.trace(
      undefined,
      `writes succeed everywhere, ${Math.round(this.clock.monotonicMs() - healedAtMs)} ms later`,
    );
    const longestMs = (this.leases.longestMs * 1.3 + 5 * this.options.electionTimeoutMs) * 1.3;
    this.#pass(longestMs + 5_000, () => this.leases.leftOver().length === 0);
    const left = this.leases.leftOver();
    claim(left.length === 0, () => `P15: leases ${left} are not revoked though nobody renews them`);
    this.#mustCome("all members are at the same entry", () => this.#converged());
    this.#mustCome("watchers have seen everything", () => this.watchers.caughtUp);
    this.#mustCome("nobody waits", () =>
      this.#belonging().every(({ member }) => member?.counters().proposalsPending === 0),
    );
    // What was answered last may have come in after the first look, and some member may hold it back for a moment.
    this.#mustCome("all members are still at the same entry", () => this.#converged());
    this.#isQuiet = true;
    this.watchers.finish();
    finalChecks(this.truth, this.#belonging());
    if (this.#recorder === undefined) return;
    const { problems, counts } = checkByRevision(this.#recorder.history(this.truth));
    this.#judged = counts;
    claim(problems.length === 0, () => `P2 (whole history): ${problems.slice(0, 3).join("\n")}`);
  }

  #judged: Readonly<Record<string, number>> = {};

  #isQuiet = false;

  /** Running hosts of those that the configuration names. */
  #belonging(): SimulatedHost[] {
    return this.hosts.filter(({ id }) => id !== undefined && this.#members.has(id));
  }

  #converged(): boolean {
    const belonging = this.#belonging();
    return (
      belonging.length === this.#members.size &&
      belonging.every(({ member }) => member?.state.appliedIndex === this.truth.appliedIndex)
    );
  }

  /** P21: progress within a bounded time. */
  #mustCome(what: string, condition: () => boolean): void {
    const came = this.#pass(livenessMs, condition);
    claim(
      came,
      () => `P21: ${what}: not within ${livenessMs / 1_000} s after everything healed; ${this.#situation()}`,
    );
  }

  #situation(): string {
    return this.#belonging()
      .map((host) => {
        const status = this.referee.status(host);
        if (status === undefined) return `${host.name} ${host.state}`;
        const { role, term, applied, commit, lastIndex } = status;
        return `${host.name} ${role} t${term} ${applied}/${commit}/${lastIndex}`;
      })
      .join(", ");
  }

  #mustWrite(host: SimulatedHost): void {
    let done = false;
    const write = (): void => {
      if (done) return;
      this.clock.after(500, write);
      host.enter(host.life, () => {
        if (host.services === undefined) return;
        const operation = this.#operation(host, "put");
        this.#asking = operation;
        this.operations.put(operation, "k00", `final ${operation.number} of ${host.name}`).then(
          () => {
            if (operation.state === "done") done = true;
          },
          (error: unknown) => this.fail(error),
        );
        this.#asking = undefined;
      });
    };
    write();
    // A removal from before may come through only now.
    this.#mustCome(`a write at ${host.name}`, () => done || !this.#belonging().includes(host));
    done = true;
  }

  #counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    const add = (
      prefix: string,
      from: Readonly<Record<string, number>> | ReadonlyMap<string, number>,
    ): void => {
      const entries = from instanceof Map ? from.entries() : Object.entries(from as Record<string, number>);
      for (const [name, count] of entries) if (count > 0) counts[`${prefix}: ${name}`] = count;
    };
    add("fault", this.faults.counts);
    add("consensus", { ...this.referee.counts });
    add("watch", this.watchers.counts);
    add("lease", this.leases.counts);
    add("history", this.#judged);
    add("network", this.links.counts);
    add("refusal", this.operations.counts.refusals);
    const { reads, writes, stale } = this.operations.counts;
    add("load", { reads, writes, stale, entries: this.truth.appliedIndex, revisions: this.truth.revision });
    return counts;
  }
}

function textOf(error: unknown): string {
  if (error instanceof Violation) return error.message;
  return error instanceof Error ? `${error.stack ?? error.message}` : String(error);
}
