/**
 * Clusters of real processes for the tests: Keelsons or reference etcds, on ports and in folders of their own.
 * Ports stay with a member over restarts, as they do on real machines.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ensureEtcd } from "./etcd";
import { Etcdctl } from "./etcdctl";
import { freePorts, keelsonCommand, scratchDir, Server, type ExitStatus, type ServerKind } from "./server";

export interface ClusterOptions {
  /** Members at the start; 0 begins with none, to be added by {@link Cluster.newMember}. */
  readonly size: number;
  /** "keelson" by default; KEELSON_TEST_SUBJECT=etcd puts a reference etcd in its place. */
  readonly kind?: ServerKind;
  /** Further flags of every member. */
  readonly flags?: readonly string[];
  /** What members tell each other to dial; where they listen by default. A proxy stands in between this way. */
  readonly advertisePeerUrl?: (position: number, listenUrl: string) => string;
  readonly token?: string;
  /** Names by position: m1, m2, ... by default. */
  readonly name?: (position: number) => string;
  readonly env?: Readonly<Record<string, string>>;
  /** Where the members' folders lie; a new scratch folder by default. */
  readonly directory?: string;
  /** Whether a reference etcd syncs its files. */
  readonly fsync?: boolean;
}

/** How a member is started: with all flags of a first start, or with none but where its data lies. */
export interface StartOptions {
  /** Replaces the flags that say how the member begins (--initial-cluster and so on). */
  readonly begin?: readonly string[];
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly wrapper?: readonly string[];
}

/** One place for a member: its name, addresses and folder, and the process that runs there, if any. */
export class ClusterMember {
  server: Server | undefined;

  constructor(
    readonly cluster: Cluster,
    readonly position: number,
    readonly name: string,
    readonly clientPort: number,
    readonly peerPort: number,
    readonly dataDir: string,
    /** What the others dial. */
    readonly peerUrl: string,
  ) {}

  get clientUrl(): string {
    return `http://127.0.0.1:${this.clientPort}`;
  }
  get listenPeerUrl(): string {
    return `http://127.0.0.1:${this.peerPort}`;
  }
  get logFile(): string {
    return `${this.dataDir}.log`;
  }
  get running(): boolean {
    return this.server !== undefined && this.server.exited === undefined;
  }

  /** The flags with which any start needs to be told where this member lives. */
  addressFlags(): string[] {
    return [
      "--data-dir",
      this.dataDir,
      "--listen-client-urls",
      this.clientUrl,
      "--advertise-client-urls",
      this.clientUrl,
      "--listen-peer-urls",
      this.listenPeerUrl,
    ];
  }

  /** Flags of a founder, or with "existing" of one that was added by MemberAdd. */
  clusterFlags(state: "new" | "existing", members: readonly ClusterMember[]): string[] {
    return [
      "--name",
      this.name,
      "--initial-advertise-peer-urls",
      this.peerUrl,
      "--initial-cluster",
      members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(","),
      "--initial-cluster-state",
      state,
      "--initial-cluster-token",
      this.cluster.token,
    ];
  }

  /** The program with the flags that every start of this kind of server gets. */
  async command(options: StartOptions = {}): Promise<string[]> {
    const { cluster } = this;
    const program =
      cluster.kind === "keelson"
        ? keelsonCommand()
        : [
            (await ensureEtcd()).etcd,
            "--log-level=warn",
            ...(cluster.options.fsync === true ? [] : ["--unsafe-no-fsync"]),
          ];
    return [
      ...(options.wrapper ?? []),
      ...program,
      ...this.addressFlags(),
      ...(options.begin ?? this.clusterFlags("new", cluster.founders)),
      ...(cluster.options.flags ?? []),
      ...(options.flags ?? []),
    ];
  }

  /** Starts the process; does not wait for it to serve. */
  async launch(options: StartOptions = {}): Promise<Server> {
    if (this.running) throw new Error(`${this.name} runs already`);
    const env = { ...this.cluster.options.env, ...options.env };
    const command = await this.command(options);
    this.server = new Server(this.cluster.kind, command, this.clientPort, this.dataDir, this.logFile, env);
    return this.server;
  }

  /** Starts the process and waits until it knows a leader and serves. */
  async start(options: StartOptions = {}, timeoutMs = 20_000): Promise<Server> {
    const server = await this.launch(options);
    await server.ready(timeoutMs);
    return server;
  }

  /** Runs a start that is expected to end by itself: how, and what it said. */
  async refused(options: StartOptions = {}, timeoutMs = 15_000): Promise<ExitStatus & { log: string }> {
    const server = await this.launch(options);
    const before = performance.now();
    const timer = setTimeout(() => server.signal("SIGKILL"), timeoutMs);
    const status = await server.exit();
    clearTimeout(timer);
    if (performance.now() - before >= timeoutMs) {
      throw new Error(`${this.name} should have ended, but ran on:\n${server.log().slice(-4_000)}`);
    }
    return { ...status, log: server.log() };
  }

  async kill(): Promise<void> {
    await this.server?.kill();
  }
  async stop(patienceMs = 12_000): Promise<ExitStatus | undefined> {
    return this.server?.stop(patienceMs);
  }
}

/** Members side by side on this machine. */
export class Cluster {
  readonly kind: ServerKind;
  readonly token: string;
  readonly members: ClusterMember[] = [];
  /** Those of --initial-cluster. */
  founders: readonly ClusterMember[] = [];
  readonly #directory: string;

  constructor(readonly options: ClusterOptions) {
    const subject = process.env["KEELSON_TEST_SUBJECT"] === "etcd" ? "etcd" : "keelson";
    this.kind = options.kind ?? subject;
    this.token = options.token ?? "etcd-cluster";
    this.#directory = options.directory ?? scratchDir(`cluster-${this.kind}`);
  }

  /** Makes room for one more member, which is not started. */
  async newMember(): Promise<ClusterMember> {
    const position = this.members.length;
    const [clientPort = 0, peerPort = 0] = await freePorts(2);
    const name = this.options.name?.(position) ?? `m${position + 1}`;
    const listenUrl = `http://127.0.0.1:${peerPort}`;
    const peerUrl = this.options.advertisePeerUrl?.(position, listenUrl) ?? listenUrl;
    const dataDir = join(this.#directory, name);
    mkdirSync(this.#directory, { recursive: true });
    const member = new ClusterMember(this, position, name, clientPort, peerPort, dataDir, peerUrl);
    this.members.push(member);
    return member;
  }

  get running(): readonly ClusterMember[] {
    return this.members.filter((member) => member.running);
  }
  /** Client URLs of the members that run, for a client that may ask any. */
  get endpoints(): string {
    return this.running.map(({ clientUrl }) => clientUrl).join(",");
  }

  /** etcdctl over all members that run, or over the given ones. */
  etcdctl(members: readonly ClusterMember[] = this.running): Promise<Etcdctl> {
    return Etcdctl.for(members.map(({ clientPort }) => `127.0.0.1:${clientPort}`).join(","));
  }

  /** Waits until every running member serves. */
  async ready(timeoutMs = 20_000): Promise<void> {
    await Promise.all(this.running.map((member) => member.server!.ready(timeoutMs)));
  }

  /** The member that leads, asked of a member's metrics (both kinds have etcd's series). */
  async leader(timeoutMs = 10_000): Promise<ClusterMember> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      for (const member of this.running) {
        try {
          const answer = await fetch(`${member.clientUrl}/metrics`, { signal: AbortSignal.timeout(2_000) });
          if (/^etcd_server_is_leader 1$/m.test(await answer.text())) return member;
        } catch {
          // Not up, or gone meanwhile.
        }
      }
      if (performance.now() > deadline) throw new Error(`no member leads within ${timeoutMs} ms`);
      await Bun.sleep(30);
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.running.map((member) => member.stop()));
  }
  async kill(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
  }
}

/** Starts a cluster of `size` founders and waits until all of them serve. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const cluster = new Cluster(options);
  for (let position = 0; position < options.size; position++) await cluster.newMember();
  cluster.founders = [...cluster.members];
  try {
    await Promise.all(cluster.founders.map((member) => member.launch()));
    await cluster.ready();
  } catch (error) {
    await cluster.kill();
    throw error;
  }
  return cluster;
}
