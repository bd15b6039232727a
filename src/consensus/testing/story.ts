/**
 * A cluster that does what a text says, one command at a time, and tells what happened. The words:
 *
 *     add-nodes 3 [learners=4,5] [election=10] [heartbeat=1] [pre-vote=on] [check-quorum=on] [append-bytes=4096]
 *               [inflight-bytes=…] [inflight-messages=…] [tail-bytes=…]
 *     start 6 [empty]                  a member that joins: as the founders began, or with nothing at all
 *     log 2 1,1,4,4                    replaces the log on disk by entries of these terms (member is down meanwhile)
 *     campaign 1                       timeout 1 (ticks until it campaigns)         tick 1 3
 *     propose 1 a b c                  change 1 add-voter 4 | add-learner 4 | remove 4
 *     read 1 7                         transfer 1 2
 *     ready 1 | write 1 | apply 1      one step of the driver
 *     deliver 2 [from=1] [kind=…] | drop 2 [from=1] [kind=…]
 *     stabilize [1 2 …]                lets these (all) run until nothing moves
 *     cut 1-2 | cut 1>2 | heal         links, both ways or one way
 *     crash 1 [keep=2] | restart 1     keep: writes in flight that reached the disk
 *     checkpoint 1 [cut=5]             state becomes durable; the log forgets up to an index
 *     report-snapshot 1 2 ok|lost
 *     status [1]                       quiet | loud (whether stabilize tells its steps)
 */
import { assert } from "../../assert";
import type { MemberId } from "../../ids";
import { SeededRng } from "../../rng";
import { decodeConfigurationChange } from "../configuration-change";
import type { Entry, Message, Ready } from "../types";
import { Referee } from "./rules";
import {
  SimulatedMember,
  type MemberOptions,
  type SimulatedState,
  type Surroundings,
} from "./simulated-member";

const text = new TextEncoder();

export class Story implements Surroundings {
  readonly #members = new Map<MemberId, SimulatedMember>();
  readonly #messages: Message[] = [];
  readonly #cut = new Set<string>();
  readonly #snapshots = new Map<number, SimulatedState>();
  #referee: Referee | undefined;
  #options: MemberOptions | undefined;
  #initial: { voters: MemberId[]; learners: MemberId[] } = { voters: [], learners: [] };
  #mirrorLast = 0;
  #lines: string[] = [];
  #loud = true;

  /** Carries out one command; returns what there is to tell. */
  run(line: string): string {
    this.#lines = [];
    const [command = "", ...words] = line.split(/\s+/);
    const options = new Map(
      words.filter((w) => w.includes("=")).map((w) => w.split("=") as [string, string]),
    );
    this.#command(
      command,
      words.filter((word) => !word.includes("=")),
      options,
    );
    return this.#lines.length === 0 ? "ok" : this.#lines.join("\n");
  }

  #tell(line: string): void {
    this.#lines.push(line);
  }

  #member(word: string | undefined): SimulatedMember {
    const member = this.#members.get(BigInt(word ?? "0"));
    assert(member !== undefined, `there is no member ${word}`);
    return member;
  }

  #command(command: string, words: readonly string[], options: ReadonlyMap<string, string>): void {
    const [first, second, third] = words;
    switch (command) {
      case "add-nodes":
        return this.#addNodes(Number(first), options);
      case "start":
        return this.#start(BigInt(first!), second === "empty");
      case "log":
        return this.#writeLog(this.#member(first), second!.split(",").map(Number));
      case "campaign":
        return this.#call(first, (member) => member.raft.campaign());
      case "timeout":
        return this.#call(first, (member) => this.#timeout(member));
      case "tick":
        return this.#call(first, (member) => {
          for (let i = 0; i < Number(second ?? 1); i++) member.raft.tick();
        });
      case "propose":
        return this.#call(first, (member) =>
          this.#result(member.raft.propose(words.slice(1).map((word) => text.encode(word)))),
        );
      case "change":
        return this.#call(first, (member) => {
          const type = second as "add-voter" | "add-learner" | "remove";
          const change = { type, memberId: BigInt(third!), context: new Uint8Array(0) };
          this.#result(member.raft.proposeConfigurationChange(change));
        });
      case "read":
        return this.#call(first, (member) => {
          const result = member.raft.readIndex(Number(second));
          if (result.ok) this.#referee?.readAsked(member, Number(second));
          this.#result(result);
        });
      case "transfer":
        return this.#call(first, (member) => this.#result(member.raft.transferLeader(BigInt(second!))));
      case "ready":
        return this.#call(first, (member) => {
          if (!this.#take(member)) this.#tell("nothing");
        });
      case "write":
        return this.#call(first, (member) => {
          this.#tell(member.completeWrite() ? "on disk" : "nothing");
        });
      case "apply":
        return this.#call(first, (member) => {
          while (member.applyOne());
        });
      case "deliver":
      case "drop":
        return this.#deliver(BigInt(first!), options, command === "drop");
      case "stabilize":
        return this.#stabilize(words.map(BigInt));
      case "cut":
        return this.#cutLink(first!);
      case "heal":
        return this.#cut.clear();
      case "crash":
        return this.#member(first).crash(Number(options.get("keep") ?? 0), { entries: 0, hardState: false });
      case "restart":
        this.#member(first).restart(0);
        return;
      case "checkpoint":
        return this.#call(first, (member) =>
          member.checkpoint(options.has("cut") ? Number(options.get("cut")) : undefined),
        );
      case "report-snapshot":
        return this.#call(first, (member) => member.raft.reportSnapshot(BigInt(second!), third === "ok"));
      case "status":
        return this.#status(first);
      case "quiet":
      case "loud":
        this.#loud = command === "loud";
        return;
      default:
        throw new Error(`unknown command: ${command}`);
    }
  }

  #addNodes(count: number, options: ReadonlyMap<string, string>): void {
    const number = (name: string, otherwise: number): number => Number(options.get(name) ?? otherwise);
    this.#options = {
      electionTicks: number("election", 10),
      heartbeatTicks: number("heartbeat", 1),
      preVote: options.get("pre-vote") !== "off",
      checkQuorum: options.get("check-quorum") !== "off",
      appendBytesMax: number("append-bytes", 4096),
      inflightBytesMax: number("inflight-bytes", 65_536),
      inflightMessagesMax: number("inflight-messages", 16),
      tailBytesMax: number("tail-bytes", 1_000_000),
      uncommittedBytesMax: 1_000_000,
    };
    const voters = Array.from({ length: count }, (_, i) => BigInt(i + 1));
    const learners = (options.get("learners") ?? "").split(",").filter(Boolean).map(BigInt);
    this.#initial = { voters, learners };
    this.#referee = new Referee(this.#members, 0, 0);
    for (const id of [...voters, ...learners]) this.#start(id, false);
  }

  #start(id: MemberId, empty: boolean): void {
    const configuration = empty ? { voters: [], learners: [] } : this.#initial;
    const start = { index: 0, term: 0 };
    this.#members.set(
      id,
      new SimulatedMember(id, this.#options!, configuration, start, new SeededRng(Number(id)), this),
    );
  }

  #writeLog(member: SimulatedMember, terms: readonly number[]): void {
    const entries: Entry[] = terms.map((term, i) => ({
      term,
      index: i + 1,
      kind: "command",
      data: text.encode(`t${term}`),
    }));
    member.crash(0, { entries: 0, hardState: false });
    member.disk.write(entries, { term: terms[terms.length - 1]!, vote: 0n, commit: 0 });
    member.restart(0);
  }

  #call(word: string | undefined, act: (member: SimulatedMember) => void): void {
    const member = this.#member(word);
    assert(member.running, `member ${word} is down`);
    act(member);
    this.#referee!.observe(member);
  }

  #timeout(member: SimulatedMember): void {
    const { role, term } = member.raft.status();
    for (let i = 0; i < 2 * this.#options!.electionTicks; i++) {
      member.raft.tick();
      const now = member.raft.status();
      if (now.role !== role || now.term !== term) return;
    }
  }

  #result(result: { ok: boolean; reason?: string; firstIndex?: number }): void {
    if (!result.ok) this.#tell(`refused: ${result.reason}`);
    else if (result.firstIndex !== undefined) this.#tell(`accepted at ${result.firstIndex}`);
  }

  #take(member: SimulatedMember): boolean {
    this.#mirrorLast = member.mirror.lastIndex;
    const took = member.takeReady() !== undefined;
    this.#referee!.observe(member);
    return took;
  }

  #stabilize(only: readonly MemberId[]): void {
    const told = this.#lines;
    const members = [...this.#members.values()].filter((m) => only.length === 0 || only.includes(m.id));
    for (let round = 0, busy = true; busy; round++) {
      assert(round < 1000, "the story does not come to rest");
      busy = false;
      for (const member of members) {
        if (!member.running) continue;
        while (this.#take(member)) busy = true;
        while (member.completeWrite()) busy = true;
        this.#referee!.observe(member);
        while (member.applyOne()) busy = true;
        if (member.receiveSnapshot(true)) busy = true;
        this.#referee!.observe(member);
      }
      for (const member of members) if (this.#deliverTo(member.id, new Map(), false)) busy = true;
    }
    if (!this.#loud) this.#lines = told.slice(0, 0);
  }

  #deliver(to: MemberId, options: ReadonlyMap<string, string>, drop: boolean): void {
    if (!this.#deliverTo(to, options, drop)) this.#tell("nothing");
  }

  #deliverTo(to: MemberId, options: ReadonlyMap<string, string>, drop: boolean): boolean {
    const fits = (m: Message): boolean =>
      m.to === to &&
      (!options.has("from") || m.from === BigInt(options.get("from")!)) &&
      (!options.has("kind") || m.kind === options.get("kind"));
    const chosen = this.#messages.filter(fits);
    for (const message of chosen) {
      this.#messages.splice(this.#messages.indexOf(message), 1);
      const member = this.#members.get(to);
      const arrives = !drop && member !== undefined && member.running;
      this.#tell(`${arrives ? "" : "lost: "}${describe(message)}`);
      if (arrives) {
        member.raft.step(message);
        this.#referee!.observe(member);
      }
      const from = this.#members.get(message.from)!;
      if (message.kind === "snapshot" && from.running) from.raft.reportSnapshot(to, arrives);
    }
    return chosen.length > 0;
  }

  #cutLink(word: string): void {
    const [a, b] = word.split(/[->]/);
    this.#cut.add(`${a}>${b}`);
    if (word.includes("-")) this.#cut.add(`${b}>${a}`);
  }

  #status(only: string | undefined): void {
    for (const member of this.#members.values()) {
      if (only !== undefined && member.id !== BigInt(only)) continue;
      if (!member.running) {
        this.#tell(`${member.id}: down`);
        continue;
      }
      const s = member.raft.status();
      const { voters, learners } = s.configuration;
      const log = `log ${s.startIndex}..${s.lastIndex}/${s.lastTerm} commit ${s.commit} applied ${s.applied}`;
      const who = `voters ${voters.join(",")}${learners.length > 0 ? ` learners ${learners.join(",")}` : ""}`;
      this.#tell(`${member.id}: ${s.role} term ${s.term} leader ${s.leader} ${log} ${who}`);
      for (const p of s.progress) {
        const flight = p.inflightMessages > 0 ? ` in flight ${p.inflightMessages}` : "";
        this.#tell(
          `   ${p.id}: ${p.state}${p.learner ? " learner" : ""} match ${p.match} next ${p.next}${flight}`,
        );
      }
    }
  }

  // What members do to their surroundings.

  send(message: Message): void {
    this.#referee?.leaves(message);
    if (!this.#cut.has(`${message.from}>${message.to}`)) this.#messages.push(message);
    else {
      this.#tell(`lost: ${describe(message)}`);
      if (message.kind === "snapshot")
        this.#members.get(message.from)!.raft.reportSnapshot(message.to, false);
    }
  }

  taken(member: SimulatedMember, ready: Ready): void {
    this.#referee!.taken(member, ready, this.#mirrorLast);
    const { id } = member;
    if (ready.stateChanged) {
      const { role, term, leader } = member.raft.status();
      const follows = role === "follower" ? (leader === 0n ? ", no leader" : `, leader ${leader}`) : "";
      this.#tell(`${id} is ${role} in term ${term}${follows}`);
    }
    if (ready.persist !== undefined) {
      const { hardState } = ready;
      const hard = hardState && `term ${hardState.term} vote ${hardState.vote} commit ${hardState.commit}`;
      const parts = [hard, ready.entries.map(describeEntry).join(" ")].filter(Boolean).join("; ");
      this.#tell(`${id} persists ${parts === "" ? "nothing new" : parts}`);
    }
    if (ready.committed.length > 0)
      this.#tell(`${id} applies ${ready.committed.map(describeEntry).join(" ")}`);
    for (const range of ready.wanted) this.#tell(`${id} wants entries from ${range.low} from storage`);
    if (ready.snapshotWanted) this.#tell(`${id} wants a snapshot to send`);
    if (ready.install !== undefined)
      this.#tell(`${id} installs snapshot ${ready.install.index}/${ready.install.term}`);
  }

  applied(member: SimulatedMember, entry: Entry): void {
    this.#referee!.applied(member);
    if (entry.kind !== "configuration") return;
    const { voters, learners } = member.state.configuration;
    this.#tell(`${member.id} now has voters ${voters.join(",")} learners ${learners.join(",") || "none"}`);
  }

  confirmed(member: SimulatedMember, read: { context: number; index: number }): void {
    this.#referee!.confirmed(member, read);
    this.#tell(`${member.id} may serve read ${read.context} at ${read.index}`);
  }

  abandoned(member: SimulatedMember, contexts: readonly number[]): void {
    this.#tell(`${member.id} gives up reads ${contexts.join(",")}`);
  }

  snapshot(index: number): SimulatedState | undefined {
    return this.#snapshots.get(index);
  }

  snapshotMade(state: SimulatedState): void {
    this.#snapshots.set(state.applied, state);
  }
}

function describeEntry(entry: Entry): string {
  if (entry.kind === "configuration") {
    const { type, memberId } = decodeConfigurationChange(entry.data);
    return `${entry.index}/${entry.term}:${type}-${memberId}`;
  }
  return `${entry.index}/${entry.term}:${new TextDecoder().decode(entry.data)}`;
}

function describe(message: Message): string {
  const head = `${message.from}→${message.to} ${message.kind} term ${message.term}`;
  switch (message.kind) {
    case "pre-vote":
    case "vote":
      return `${head} last ${message.lastIndex}/${message.lastTerm}${message.transfer ? " for transfer" : ""}`;
    case "pre-vote-answer":
    case "vote-answer":
      return `${head} ${message.granted ? "granted" : "refused"}`;
    case "append": {
      const entries = message.entries.map(describeEntry).join(" ");
      return `${head} after ${message.previousIndex}/${message.previousTerm} [${entries}] commit ${message.commit}`;
    }
    case "append-answer":
      return message.accepted
        ? `${head} holds ${message.index}`
        : `${head} refuses ${message.index}, try ${message.hintIndex}/${message.hintTerm}`;
    case "heartbeat":
      return `${head} commit ${message.commit}${message.readRound > 0 ? ` round ${message.readRound}` : ""}`;
    case "heartbeat-answer":
      return `${head}${message.readRound > 0 ? ` round ${message.readRound}` : ""}`;
    case "snapshot":
      return `${head} at ${message.position.index}/${message.position.term}`;
    case "snapshot-status":
      return `${head} ${message.ok ? "ok" : "failed"}`;
    case "timeout-now":
      return head;
  }
}
