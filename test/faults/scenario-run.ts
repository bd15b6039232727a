/**
 * One run: start a cluster behind the network of the faults, warm up, do the scenario's fault under load, recover,
 * a second more of load, a last write that must succeed, let everything settle, and judge all that was seen.
 */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { KV, Maintenance, PutRequestSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../src/rng";
import type { Operation } from "../check/history";
import type { MemberState } from "../check/members";
import { Cluster, type ClusterMember, type StartOptions } from "../tools/cluster";
import { GrpcClient } from "../tools/grpc-client";
import { scratchDir, type ServerKind } from "../tools/server";
import { Auditor } from "./auditor";
import { SmallDisk } from "./disks";
import type { PutListener } from "./failover";
import { Network, processTree } from "./network";
import { type Endpoint, failure, Recorder, RecordingClient } from "./recorder";
import { judge, type Judgement } from "./validate";
import { Watchers } from "./watchers";
import { type Traffic, utf8, type WorkloadName, workloads } from "./workloads";

export interface Scenario {
  readonly name: string;
  /** What is done, and what it stands for in the museum. */
  readonly title: string;
  readonly flags?: readonly string[];
  readonly workloads?: readonly WorkloadName[];
  /** Of this member the data lies on a disk of its own, of so many MiB. */
  readonly smallDisk?: { readonly position: number; readonly mebibytes: number };
  /** Started in front of members, by position. */
  wrapper?(position: number, output: string): readonly string[] | undefined;
  /** Why it does not apply to a real etcd. */
  readonly notForEtcd?: string;
  /** What a real etcd 3.6.16 was seen to fail at here. */
  readonly etcdFails?: string;
  /** Brings the fault, lives with it, and takes it away. */
  fault(run: ScenarioRun): Promise<void>;
}

export interface RunOptions {
  readonly subject: ServerKind;
  readonly seed: number;
  /** How long faults are on, about. */
  readonly seconds: number;
  /** Keeps data, logs and histories even of a good run. */
  readonly keep?: boolean;
}

export interface RunResult {
  readonly scenario: string;
  readonly judgement: Judgement;
  /** Figures and events worth printing. */
  readonly notes: readonly string[];
  readonly perSecond: number;
  readonly seconds: number;
  /** Where members' data and logs lie, and what the report is written to. */
  readonly directories: readonly string[];
}

/** Fewer successes a second than this show nothing. */
const informativePerSecond = 100;

export class ScenarioRun {
  readonly network = new Network();
  readonly recorder = new Recorder();
  readonly auditor = new Auditor();
  readonly rng: SeededRng;
  readonly notes: string[] = [];
  readonly problems: string[] = [];
  /** When what happened to the cluster, for the timeline. */
  readonly events: { readonly at: number; readonly text: string }[] = [];
  cluster!: Cluster;
  watchers!: Watchers;
  disk: SmallDisk | undefined;
  readonly #clientPorts = new Map<string, number>();
  readonly #expectedEnds = new Set<string>();
  readonly #watched = new Set<unknown>();
  readonly #removed = new Set<string>();
  #stopped = false;
  #beginAt = 0;
  #disturbedUntil = Infinity;

  constructor(
    readonly scenario: Scenario,
    readonly options: RunOptions,
  ) {
    this.rng = new SeededRng(options.seed);
  }

  get seconds(): number {
    return this.options.seconds;
  }
  get isEtcd(): boolean {
    return this.options.subject === "etcd";
  }
  get members(): readonly ClusterMember[] {
    return this.cluster.members.filter(({ name }) => !this.#removed.has(name));
  }

  /** Where clients reach the members, through the network of the faults. */
  endpoints(): Endpoint[] {
    return this.members.map(({ name }) => ({
      member: name,
      url: `http://127.0.0.1:${this.#clientPorts.get(name)}`,
    }));
  }

  note(text: string): void {
    this.notes.push(text);
    this.event(text);
  }
  event(text: string): void {
    this.events.push({ at: performance.now(), text });
  }
  /** Notes a problem unless it holds. */
  require(holds: boolean, problem: string): void {
    if (!holds) this.problems.push(problem);
  }

  async sleep(seconds: number): Promise<void> {
    await Bun.sleep(seconds * 1000);
  }

  // --- Members

  /** Makes room for a member and puts it onto the network; it is not started. */
  async newMember(): Promise<ClusterMember> {
    const member = await this.cluster.newMember();
    const { name } = member;
    this.network.addMember(name, () => (member.running ? member.server!.pid : undefined));
    this.#clientPorts.set(name, await this.network.forward(name, () => member.clientPort, "clients"));
    return member;
  }

  /** Watches over a member's process, and follows what it tells. */
  #attend(member: ClusterMember): void {
    const { server, name } = member;
    if (server === undefined || this.#watched.has(server)) return;
    this.#watched.add(server);
    void server.exit().then((status) => {
      this.event(`${name} ended (${JSON.stringify(status)})`);
      if (this.#expectedEnds.delete(name) || this.#stopped) return;
      this.problems.push(
        `${name} ended by itself: ${JSON.stringify(status)}\n${server.log().split("\n").slice(-12).join("\n")}`,
      );
    });
  }

  /** From now on the end of this member's process is no surprise. */
  expectEnd(member: ClusterMember): void {
    this.#expectedEnds.add(member.name);
  }

  async start(member: ClusterMember, options: StartOptions = {}, timeoutMs = 30_000): Promise<void> {
    this.#expectedEnds.delete(member.name);
    const server = await member.launch(options);
    this.#attend(member);
    await server.ready(timeoutMs);
    this.event(`${member.name} serves`);
  }

  async kill(member: ClusterMember): Promise<void> {
    this.expectEnd(member);
    this.event(`kill -9 ${member.name}`);
    await this.#killTree(member);
  }

  /** A process in front of the member's, such as strace, would leave it behind. */
  async #killTree(member: ClusterMember): Promise<void> {
    if (member.running) for (const pid of processTree(member.server!.pid)) process.kill(pid, "SIGKILL");
    await member.kill();
  }

  async stop(member: ClusterMember): Promise<void> {
    this.expectEnd(member);
    this.event(`stop ${member.name}`);
    await member.stop();
  }

  /** No longer one of those that must agree at the end. */
  forget(member: ClusterMember): void {
    this.#removed.add(member.name);
  }

  follow(member: ClusterMember): void {
    this.auditor.follow({ member: member.name, url: member.clientUrl });
  }

  async leader(): Promise<ClusterMember> {
    return this.cluster.leader(15_000);
  }

  async followers(): Promise<ClusterMember[]> {
    const leader = await this.leader();
    return this.members.filter((member) => member !== leader && member.running);
  }

  /** One write through these members, as often as it takes; how long until it succeeded. */
  async writeThrough(members: readonly ClusterMember[], timeoutMs: number): Promise<number> {
    const beginAt = performance.now();
    const names = new Set(members.map(({ name }) => name));
    const endpoints = this.endpoints().filter(({ member }) => names.has(member));
    const client = new RecordingClient(this.recorder, endpoints, 1_500);
    try {
      for (let attempt = 1; performance.now() - beginAt < timeoutMs; attempt++) {
        const value = utf8(`${client.id}.${attempt}`);
        if ((await client.call("put", { key: utf8("z/probe"), value })) !== undefined) {
          return performance.now() - beginAt;
        }
        await Bun.sleep(20);
      }
    } finally {
      client.close();
    }
    throw new Error(`no write succeeded through ${[...names].join(", ")} within ${timeoutMs} ms`);
  }

  /** Takes a put of someone else's client into the history. */
  notePut({ member, key, value, callAt, returnAt, reply }: Parameters<PutListener>[0]): void {
    const outcome: Operation["outcome"] =
      reply === undefined
        ? { kind: "unanswered" }
        : reply.ok
          ? { kind: "replied", reply: reply.message }
          : failure(reply);
    this.recorder.note({
      id: this.recorder.nextId(),
      client: this.recorder.nextClient(),
      member,
      kind: "put",
      request: create(PutRequestSchema, { key: utf8(key), value: utf8(value) }),
      callAt,
      returnAt: reply === undefined ? Infinity : returnAt,
      outcome,
    } as Operation);
  }

  /** Waits until every member serves and takes a write. */
  async healthy(timeoutMs = 30_000): Promise<void> {
    await this.cluster.ready(timeoutMs);
    for (const member of this.members) if (member.running) await this.writeThrough([member], timeoutMs);
  }

  // --- The run

  async #startCluster(directory: string): Promise<void> {
    const { scenario, options } = this;
    const peerPorts: number[] = [];
    for (let position = 0; position < 5; position++) {
      const name = `m${position + 1}`;
      peerPorts.push(await this.network.forward(name, () => this.cluster.members[position]?.peerPort ?? 1));
    }
    this.cluster = new Cluster({
      size: 0,
      kind: options.subject,
      fsync: true,
      flags: scenario.flags ?? [],
      advertisePeerUrl: (position) => `http://127.0.0.1:${peerPorts[position]}`,
    });
    for (let position = 0; position < 3; position++) await this.newMember();
    this.cluster.founders = [...this.cluster.members];
    if (scenario.smallDisk !== undefined) {
      const { dataDir } = this.cluster.members[scenario.smallDisk.position]!;
      this.disk = SmallDisk.mount(dataDir, scenario.smallDisk.mebibytes);
    }
    await Promise.all(
      this.cluster.founders.map((member, position) => {
        const wrapper = scenario.wrapper?.(position, join(directory, `${member.name}.strace`));
        return member.launch(wrapper === undefined ? {} : { wrapper });
      }),
    );
    for (const member of this.members) this.#attend(member);
    await this.cluster.ready(30_000);
    for (const member of this.members) this.follow(member);
  }

  #traffic(): Promise<void>[] {
    const isStopped = (): boolean => this.#stopped;
    const audited = (): number => this.auditor.through;
    const chosen = this.scenario.workloads ?? [
      "register",
      "append",
      "ranges",
      "lease",
      "kubernetes",
      "compactor",
    ];
    return chosen.flatMap((name, kind) =>
      Array.from({ length: workloads[name].clients }, async (_, index) => {
        const rng = this.rng.fork(100 * kind + index);
        const traffic: Traffic = {
          recorder: this.recorder,
          rng,
          get stopped() {
            return isStopped();
          },
          get auditedRevision() {
            return audited();
          },
          pastInTxns: !this.isEtcd || this.scenario.name === "past-in-txns",
          client: () => new RecordingClient(this.recorder, this.endpoints()),
          think: () => Bun.sleep(4 + rng.below(12)),
        };
        try {
          await workloads[name].run(traffic);
        } catch (error) {
          this.problems.push(
            `the ${name} workload broke: ${error instanceof Error ? error.stack : String(error)}`,
          );
        }
      }),
    );
  }

  async run(): Promise<RunResult> {
    const directory = scratchDir(`faults-${this.scenario.name}`);
    mkdirSync(directory, { recursive: true });
    this.#beginAt = performance.now();
    let perSecond = 0;
    let states: MemberState[] = [];
    try {
      await this.#startCluster(directory);
      this.watchers = new Watchers(this.recorder, this.rng.fork(9_999), () => this.endpoints());
      const loadFrom = performance.now();
      const load = this.#traffic();
      this.watchers.start(3);
      try {
        await this.sleep(1);
        this.event("the fault begins");
        await this.scenario.fault(this);
        this.event("the fault is over");
        this.network.heal();
        await this.healthy();
        this.#disturbedUntil = performance.now();
        await this.sleep(1);
      } finally {
        this.#stopped = true;
        this.watchers.settling = true;
        await Promise.all(load);
      }
      const loadSeconds = (performance.now() - loadFrom) / 1000;
      perSecond = this.recorder.succeeded / loadSeconds;
      states = await this.#settle();
    } catch (error) {
      this.problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    const judgement = await this.#judge(states, perSecond);
    await this.#end();
    const seconds = (performance.now() - this.#beginAt) / 1000;
    return {
      scenario: this.scenario.name,
      judgement,
      notes: this.notes,
      perSecond,
      seconds,
      directories: [directory, this.dataDirectory],
    };
  }

  /** A last write, then everyone at its revision; what each member holds. */
  async #settle(): Promise<MemberState[]> {
    await this.writeThrough(this.members, 15_000);
    const alive = this.members.filter(({ running }) => running);
    const revision = this.recorder.revision;
    const names = alive.map(({ name }) => name);
    await this.auditor
      .reach(revision, names, 20_000)
      .catch((error: unknown) => this.problems.push(String(error)));
    // Leases may still expire; the hash is taken at one revision.
    return Promise.all(alive.map((member) => memberState(member, revision)));
  }

  async #judge(states: readonly MemberState[], perSecond: number): Promise<Judgement> {
    const deadline = performance.now() + 8_000;
    for (;;) {
      const judgement = judge({
        recorder: this.recorder,
        auditor: this.auditor,
        streams: this.watchers?.records ?? [],
        states,
        endAt: performance.now(),
        disturbedUntil: this.#disturbedUntil,
        problems: this.problems,
        network: this.network,
      });
      // Open watches may still be on their way to the end.
      const waiting = judgement.problems.some((text) => /never saw revision/.test(text));
      if (waiting && performance.now() < deadline) {
        await Bun.sleep(500);
        continue;
      }
      const uninformative = perSecond < informativePerSecond;
      return { ...judgement, uninformative };
    }
  }

  async #end(): Promise<void> {
    await this.watchers?.stop();
    await this.auditor.stop();
    await Promise.all((this.cluster?.members ?? []).map((member) => this.#killTree(member)));
    this.network.close();
    this.disk?.unmount();
  }

  /** Folders with the members' data and logs. */
  get dataDirectory(): string {
    return dirname(this.cluster.members[0]?.dataDir ?? ".");
  }
}

/** What a member holds up to a revision, asked of it alone. */
async function memberState(member: ClusterMember, revision: number): Promise<MemberState> {
  const client = new GrpcClient(member.clientUrl);
  try {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const local = await client.call(KV.method.range, { key: utf8("z/probe"), serializable: true });
      if (Number(local.header?.revision ?? 0n) >= revision) break;
      if (performance.now() > deadline) throw new Error(`${member.name} stays behind revision ${revision}`);
      await Bun.sleep(20);
    }
    const answer = await client.call(Maintenance.method.hashKV, { revision: BigInt(revision) });
    const compactRevision = Number(answer.compactRevision);
    return { member: member.name, revision, compactRevision, hash: answer.hash };
  } finally {
    client.close();
  }
}
