/** A small cluster under a random schedule, all drawn from one seed, with the referee watching each step. */
import { assert } from "../../assert";
import type { MemberId } from "../../ids";
import { SeededRng } from "../../rng";
import type { Configuration, Message } from "../types";
import { Referee } from "./rules";
import {
  SimulatedMember,
  type MemberOptions,
  type SimulatedState,
  type Surroundings,
} from "./simulated-member";

export interface RunSummary {
  readonly seed: number;
  readonly steps: number;
  readonly counts: Referee["counts"];
}

const membersMax = 7;

/** Runs one seed: first anything may happen and only the rules must hold, then all heals and progress is due. */
export function runSeed(seed: number, steps = 3_000): RunSummary {
  const network = new RandomNetwork(seed);
  network.disturb(steps);
  network.heal();
  return { seed, steps, counts: network.referee.counts };
}

/** What may happen, and how often in proportion; drawn per seed so that quiet combinations occur as well. */
interface Weights {
  readonly deliver: number;
  readonly drop: number;
  readonly duplicate: number;
  readonly tick: number;
  readonly lapse: number;
  readonly overthrow: number;
  readonly take: number;
  readonly write: number;
  readonly apply: number;
  readonly propose: number;
  readonly read: number;
  readonly change: number;
  readonly transfer: number;
  readonly checkpoint: number;
  readonly crash: number;
  readonly restart: number;
  readonly partition: number;
  readonly install: number;
  readonly snapshotReport: number;
}

export class RandomNetwork implements Surroundings {
  readonly referee: Referee;
  readonly #rng: SeededRng;
  readonly #members = new Map<MemberId, SimulatedMember>();
  readonly #ids: MemberId[] = [];
  readonly #options: MemberOptions;
  readonly #initial: { configuration: Configuration; start: { index: number; term: number } };
  readonly #weights: Weights;
  readonly #snapshots = new Map<number, SimulatedState>();
  /** On their way; any may be delivered next. */
  #messages: Message[] = [];
  readonly #cut = new Set<string>();
  #context = 0;
  #payload = 0;
  #mirrorLast = 0;

  constructor(seed: number) {
    const rng = new SeededRng(seed);
    this.#rng = rng;
    const often = (weight: number): number => (rng.below(2) === 0 ? 0 : weight);
    // In a storm of membership changes little else happens, and leaders fall all the time.
    const storm = rng.below(4) === 0;
    const electionTicks = 4 + rng.below(8);
    this.#options = {
      electionTicks,
      heartbeatTicks: 1 + rng.below(2),
      preVote: rng.below(4) > 0,
      checkQuorum: rng.below(4) > 0,
      appendBytesMax: [40, 200, 4096][rng.below(3)]!,
      inflightBytesMax: 4096,
      inflightMessagesMax: 1 + rng.below(6),
      tailBytesMax: [1, 300, 100_000][rng.below(3)]!,
      uncommittedBytesMax: 800,
    };
    this.#weights = {
      deliver: 40,
      drop: often(4),
      duplicate: often(4),
      tick: 8 + rng.below(12),
      lapse: often(1),
      overthrow: storm ? 2 : often(1),
      take: 30,
      write: 20,
      apply: [2, 20][rng.below(2)]!,
      propose: storm ? 1 : 8,
      read: 3,
      change: storm ? 12 : [0, 0, 2][rng.below(3)]!,
      transfer: often(1),
      checkpoint: often(2),
      crash: often(1),
      restart: 2,
      partition: often(1),
      install: 6,
      snapshotReport: 3,
    };
    const voters = range(1 + rng.below(5));
    const learners = range(rng.below(3)).map((id) => id + BigInt(voters.length));
    // Founders may begin at index 1, as if from a snapshot; then whoever joins needs one.
    const start = rng.below(2) === 0 ? { index: 0, term: 0 } : { index: 1, term: 1 };
    this.#initial = { configuration: { voters, learners }, start };
    this.referee = new Referee(this.#members, start.index, start.index);
    for (const id of [...voters, ...learners]) this.#add(id, true);
  }

  #add(id: MemberId, founder: boolean): void {
    const fromScratch = !founder && this.#initial.start.index > 0;
    const configuration = fromScratch ? { voters: [], learners: [] } : this.#initial.configuration;
    const start = fromScratch ? { index: 0, term: 0 } : this.#initial.start;
    const member = new SimulatedMember(
      id,
      this.#options,
      configuration,
      start,
      new SeededRng(this.#rng.below(2 ** 32)),
      this,
    );
    this.#members.set(id, member);
    this.#ids.push(id);
  }

  // What members do to their surroundings.

  send(message: Message): void {
    this.referee.leaves(message);
    if (message.kind === "snapshot") this.referee.counts.snapshots++;
    if (this.#cut.has(`${message.from}>${message.to}`)) {
      if (message.kind === "snapshot") this.#lost.push(message);
      return;
    }
    this.#messages.push(message);
  }

  /** Snapshots that were lost: their senders learn of it, at some time. */
  #lost: Message[] = [];

  taken(member: SimulatedMember, ready: Parameters<NonNullable<Surroundings["taken"]>>[1]): void {
    this.referee.taken(member, ready, this.#mirrorLast);
  }

  applied(member: SimulatedMember): void {
    this.referee.applied(member);
  }

  confirmed(member: SimulatedMember, read: { context: number; index: number }): void {
    this.referee.confirmed(member, read);
  }

  snapshot(index: number): SimulatedState | undefined {
    return this.#snapshots.get(index);
  }

  snapshotMade(state: SimulatedState): void {
    this.#snapshots.set(state.applied, state);
  }

  // The schedule.

  disturb(steps: number): void {
    const actions = Object.entries(this.#weights) as [keyof Weights, number][];
    const total = actions.reduce((sum, [, weight]) => sum + weight, 0);
    for (let step = 0; step < steps; step++) {
      let draw = this.#rng.below(total);
      for (const [action, weight] of actions) {
        draw -= weight;
        if (draw >= 0) continue;
        this.#act(action);
        break;
      }
    }
  }

  #act(action: keyof Weights): void {
    const rng = this.#rng;
    const member = this.#members.get(this.#ids[rng.below(this.#ids.length)]!)!;
    switch (action) {
      case "deliver":
        return this.#deliver(rng.below(Math.max(1, this.#messages.length)));
      case "drop":
        return this.#drop(rng.below(Math.max(1, this.#messages.length)));
      case "duplicate": {
        const message = this.#messages[rng.below(Math.max(1, this.#messages.length))];
        if (message !== undefined && message.kind !== "snapshot") this.#messages.push(message);
        return;
      }
      case "partition":
        return this.#partition();
      case "overthrow":
        return this.#overthrow(member);
      case "restart":
        if (!member.running) {
          member.restart(rng.below(4));
          this.#watch(member);
        }
        return;
      case "snapshotReport": {
        const message = this.#lost.shift();
        const from = message && this.#members.get(message.from);
        if (message !== undefined && from!.running) from!.raft.reportSnapshot(message.to, false);
        return;
      }
      default:
        if (member.running) this.#drive(action, member);
    }
  }

  #drive(action: keyof Weights, member: SimulatedMember): void {
    const rng = this.#rng;
    switch (action) {
      case "tick":
        member.raft.tick();
        break;
      case "lapse":
        // Long enough without a word from anybody to campaign.
        for (let i = 0; i < 2 * this.#options.electionTicks; i++) member.raft.tick();
        break;
      case "take":
        this.#take(member);
        break;
      case "write":
        member.completeWrite();
        break;
      case "apply":
        member.applyOne();
        break;
      case "propose":
        this.#propose(this.#someLeader() ?? member, 1 + rng.below(3));
        break;
      case "read":
        for (const leader of this.#leaders()) this.#read(leader);
        break;
      case "change":
        this.#change(this.#someLeader() ?? member);
        break;
      case "transfer": {
        const leader = this.#someLeader() ?? member;
        const done = leader.raft.transferLeader(this.#ids[rng.below(this.#ids.length)]!);
        if (done.ok) this.referee.counts.transfers++;
        break;
      }
      case "checkpoint":
        member.checkpoint(rng.below(2) === 0 ? undefined : member.state.applied - rng.below(4));
        break;
      case "crash":
        this.referee.counts.crashes++;
        if (rng.below(2) === 0) member.durableState = member.state;
        member.crash(rng.below(member.writes.length + 1), {
          entries: rng.below(3),
          hardState: rng.below(2) === 0,
        });
        return;
      case "install":
        member.receiveSnapshot(rng.below(5) > 0);
        break;
    }
    this.#watch(member);
  }

  /** Those who believe that they lead; in partitions there may be several. */
  #leaders(): SimulatedMember[] {
    return [...this.#members.values()].filter((m) => m.running && m.raft.status().role === "leader");
  }

  #someLeader(): SimulatedMember | undefined {
    const leaders = this.#leaders();
    return leaders[this.#rng.below(Math.max(1, leaders.length))];
  }

  #watch(member: SimulatedMember): void {
    if (member.running) this.referee.observe(member);
  }

  #take(member: SimulatedMember): boolean {
    this.#mirrorLast = member.mirror.lastIndex;
    // A leader's first sight must come before its entries do.
    this.#watch(member);
    const ready = member.takeReady();
    this.#watch(member);
    return ready !== undefined;
  }

  #deliver(at: number): void {
    const message = this.#removeMessage(at);
    if (message === undefined) return;
    const to = this.#members.get(message.to);
    if (to === undefined || !to.running) {
      if (message.kind === "snapshot") this.#lost.push(message);
      return;
    }
    to.raft.step(message);
    this.#watch(to);
    if (message.kind !== "snapshot") return;
    const from = this.#members.get(message.from)!;
    if (from.running) {
      from.raft.reportSnapshot(message.to, true);
      this.#watch(from);
    }
  }

  #drop(at: number): void {
    const message = this.#removeMessage(at);
    if (message?.kind === "snapshot") this.#lost.push(message);
  }

  /** Order is lost anyway, so the last takes the place of the removed. */
  #removeMessage(at: number): Message | undefined {
    const message = this.#messages[at];
    const last = this.#messages.pop();
    if (last !== undefined && at < this.#messages.length) this.#messages[at] = last;
    return message;
  }

  #partition(): void {
    const rng = this.#rng;
    this.#cut.clear();
    if (rng.below(3) === 0) return;
    const oneWay = rng.below(3) === 0;
    for (const from of this.#ids) {
      for (const to of this.#ids) {
        if (from >= to || rng.below(2) === 0) continue;
        this.#cut.add(`${from}>${to}`);
        if (!oneWay) this.#cut.add(`${to}>${from}`);
      }
    }
  }

  /** Leaders are cut off, perhaps with a companion, and somebody else's patience ends. */
  #overthrow(challenger: SimulatedMember): void {
    const leaders = this.#leaders();
    if (leaders.length === 0 || leaders.includes(challenger) || !challenger.running) return;
    this.#cut.clear();
    const behind = new Set(leaders.map((leader) => leader.id));
    for (const id of this.#ids) if (id !== challenger.id && this.#rng.below(4) === 0) behind.add(id);
    const oneWay = this.#rng.below(4) === 0;
    for (const from of this.#ids) {
      for (const to of this.#ids) {
        if (behind.has(from) === behind.has(to)) continue;
        if (behind.has(from) || !oneWay) this.#cut.add(`${from}>${to}`);
      }
    }
    for (const member of this.#members.values()) {
      if (!member.running || behind.has(member.id)) continue;
      const ticks = member === challenger ? 2 * this.#options.electionTicks : this.#options.electionTicks;
      for (let i = 0; i < ticks; i++) member.raft.tick();
      this.#watch(member);
    }
  }

  #propose(member: SimulatedMember, count: number): boolean {
    const payloads: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      this.#payload++;
      payloads.push(
        new Uint8Array([this.#payload & 255, this.#payload >> 8, ...new Uint8Array(this.#rng.below(40))]),
      );
    }
    const result = member.raft.propose(payloads);
    this.#watch(member);
    return result.ok;
  }

  #read(member: SimulatedMember): void {
    this.#context++;
    if (member.raft.readIndex(this.#context).ok) this.referee.readAsked(member, this.#context);
    this.#watch(member);
  }

  #change(member: SimulatedMember): void {
    const rng = this.#rng;
    const { voters, learners } = member.raft.status().configuration;
    const known = [...voters, ...learners];
    const context = new Uint8Array(0);
    const type = (["add-voter", "add-learner", "remove"] as const)[rng.below(3)]!;
    let memberId = known[rng.below(Math.max(1, known.length))];
    // Ids are never used again, so who joins is always new.
    if (type === "add-learner" || (type === "add-voter" && (learners.length === 0 || rng.below(2) === 0)))
      memberId = BigInt(this.#ids.length + 1);
    if (memberId === undefined || (memberId > BigInt(membersMax) && type !== "remove")) return;
    const result = member.raft.proposeConfigurationChange({ type, memberId, context });
    if (result.ok && !this.#members.has(memberId)) this.#add(memberId, false);
    this.#watch(member);
  }

  // Healing: no more faults; somebody must lead, commit, and bring everyone who belongs up to date.

  heal(): void {
    this.#cut.clear();
    for (const member of this.#members.values()) if (!member.running) member.restart(0);
    const rounds = 60 * this.#options.electionTicks;
    for (let round = 0; round < rounds; round++) {
      for (const member of this.#members.values()) {
        member.raft.tick();
        this.#watch(member);
      }
      this.#settle();
      // The schedule may have left transfers and changes under way, hence only from some time on.
      if (round > 6 * this.#options.electionTicks && round % 8 === 0 && this.#hasConverged()) return;
    }
    const states = [...this.#members.values()].map((m) => {
      const s = m.raft.status();
      const { voters, learners } = s.configuration;
      const place = `start ${s.startIndex} applied ${s.applied} commit ${s.commit} last ${s.lastIndex}`;
      const installing = m.installing === undefined ? "" : ` installing ${m.installing.index}`;
      return `\n${m.id}: ${s.role} term ${s.term} ${place} voters ${voters} learners ${learners}${installing}`;
    });
    throw new Error(`no progress after healing: ${states.join("; ")}`);
  }

  #settle(): void {
    for (let i = 0; i < 2_000; i++) {
      let busy = this.#messages.length > 0;
      for (let left = this.#messages.length; left > 0; left--)
        this.#deliver(this.#rng.below(this.#messages.length));
      for (const message of this.#lost.splice(0))
        this.#members.get(message.from)!.raft.reportSnapshot(message.to, false);
      for (const member of this.#members.values()) {
        if (this.#take(member)) busy = true;
        while (member.completeWrite()) busy = true;
        this.#watch(member);
        while (member.applyOne()) busy = true;
        member.receiveSnapshot(true);
        this.#watch(member);
        // So that the bound on what waits to be applied cannot hide a stuck member.
        if (this.#rng.below(8) === 0) member.checkpoint(member.state.applied);
      }
      if (!busy) return;
    }
    throw new Error("the network does not come to rest");
  }

  /** The highest-term leader commits a new entry, and all of its configuration apply it. */
  #hasConverged(): boolean {
    const leader = [...this.#members.values()]
      .filter((member) => member.raft.status().role === "leader")
      .sort((a, b) => b.raft.status().term - a.raft.status().term)[0];
    if (leader === undefined || !this.#propose(leader, 1)) return false;
    this.#read(leader);
    const reads = this.referee.counts.reads;
    this.#settle();
    const { configuration, commit, lastIndex } = leader.raft.status();
    if (commit !== lastIndex || this.referee.counts.reads <= reads) return false;
    for (const member of this.#members.values()) member.raft.tick();
    for (let i = 0; i < this.#options.heartbeatTicks; i++) leader.raft.tick();
    this.#settle();
    for (const id of [...configuration.voters, ...configuration.learners]) {
      if (this.#members.get(id)!.state.applied < commit) return false;
    }
    const digests = new Set(
      [...configuration.voters, ...configuration.learners]
        .map((id) => this.#members.get(id)!.state)
        .filter((state) => state.applied === commit)
        .map((state) => state.digest),
    );
    assert(digests.size <= 1, "states differ at the same index");
    return true;
  }
}

function range(count: number): MemberId[] {
  return Array.from({ length: count }, (_, i) => BigInt(i + 1));
}
