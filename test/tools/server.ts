/**
 * Real server processes for the tests: a Keelson or a reference etcd, each on ports of its own and in a folder of
 * its own. Only processes started here are ever ended.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server as NetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureEtcd } from "./etcd";
import { repositoryDir } from "./install";

export type ServerKind = "etcd" | "keelson";

export interface ServerOptions {
  /** Where the data lies; a new folder by default, removed at the end of a test run that passed. */
  readonly dataDir?: string;
  /** Where its output goes; beside the data by default. */
  readonly logFile?: string;
  /** Client port; a free one by default. */
  readonly port?: number;
  /** Further flags. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Put in front of the command, such as strace with its options. */
  readonly wrapper?: readonly string[];
  /** How long the start may take. */
  readonly readyTimeoutMs?: number;
  /** "serving": as soon as it reads its own state, healthy or not. By default it has to be healthy. */
  readonly readyWhen?: "healthy" | "serving";
}

export interface ExitStatus {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const scratchDirs = new Set<string>();
const running = new Set<Server>();

/** A new folder under the system's temporary folder; removed when the process ends well. */
export function scratchDir(purpose: string): string {
  const dir = mkdtempSync(join(tmpdir(), `keelson-${purpose}-`));
  scratchDirs.add(dir);
  return dir;
}

process.on("exit", (code) => {
  for (const server of running) server.signal("SIGKILL");
  if (code === 0 && process.env["KEELSON_TEST_KEEP"] === undefined) {
    for (const dir of scratchDirs) rmSync(dir, { recursive: true, force: true });
  } else if (scratchDirs.size > 0) {
    console.error(`kept for inspection: ${[...scratchDirs].join(" ")}`);
  }
});

/** Ports that nothing listens on at the moment; this process is given each of them once before any comes again. */
export async function freePorts(count: number): Promise<number[]> {
  const listeners: NetServer[] = [];
  while (listeners.length < count) {
    nextPort = (nextPort + 1) % freePortCount;
    const listener = await listenOn(lowestFreePort + nextPort);
    if (listener !== undefined) listeners.push(listener);
  }
  const ports = listeners.map((listener) => (listener.address() as AddressInfo).port);
  await Promise.all(listeners.map((listener) => new Promise((resolve) => listener.close(resolve))));
  return ports;
}

/** Below the range from which the system takes the ports of outgoing connections: those would get in between. */
const lowestFreePort = 12_000;
const freePortCount = 20_000;
/** Processes that test at the same time begin at different places. */
let nextPort = Math.floor(Math.random() * freePortCount);

async function listenOn(port: number): Promise<NetServer | undefined> {
  const listener = createServer();
  const { promise, resolve } = Promise.withResolvers<NetServer | undefined>();
  listener.once("error", () => resolve(undefined));
  listener.listen(port, "127.0.0.1", () => resolve(listener));
  return promise;
}

/** The environment without what configures a server: variables that steer the tests are not for it. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(KEELSON|ETCD)_/.test(name)));
}

/** One server process. */
export class Server {
  readonly #child: ChildProcess;
  readonly #exit: Promise<ExitStatus>;
  #exited: ExitStatus | undefined;

  constructor(
    readonly kind: ServerKind,
    readonly command: readonly string[],
    readonly port: number,
    readonly dataDir: string,
    readonly logFile: string,
    env: Readonly<Record<string, string>>,
  ) {
    const [program, ...rest] = command;
    if (program === undefined) throw new Error("no program given");
    this.#child = spawn(program, rest, {
      cwd: repositoryDir,
      env: { ...environment(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk: Buffer) => appendFileSync(logFile, chunk));
    }
    const { promise, resolve } = Promise.withResolvers<ExitStatus>();
    this.#exit = promise;
    const over = (status: ExitStatus): void => {
      this.#exited = status;
      running.delete(this);
      resolve(status);
    };
    this.#child.once("error", (error) => {
      appendFileSync(logFile, `${String(error)}\n`);
      over({ code: -1, signal: null });
    });
    this.#child.once("close", (code, signal) => over({ code, signal }));
    running.add(this);
  }

  /** Such as http://127.0.0.1:34567. */
  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    const pid = this.#child.pid;
    if (pid === undefined) throw new Error(`${this.kind} was never started: ${this.log()}`);
    return pid;
  }

  /** How it ended, or undefined while it runs. */
  get exited(): ExitStatus | undefined {
    return this.#exited;
  }

  /** Resolves when the process is gone and all it said is in the log. */
  exit(): Promise<ExitStatus> {
    return this.#exit;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#exited === undefined) this.#child.kill(signal);
  }

  /** Everything that the process printed so far. */
  log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, "utf8") : "";
  }

  /** Ends it by force, as a power cut would, except that the page cache survives. */
  async kill(): Promise<ExitStatus> {
    this.signal("SIGKILL");
    return this.#exit;
  }

  /** Asks it to stop, and insists after `patienceMs`. */
  async stop(patienceMs = 10_000): Promise<ExitStatus> {
    this.signal("SIGTERM");
    const timer = setTimeout(() => this.signal("SIGKILL"), patienceMs);
    const status = await this.#exit;
    clearTimeout(timer);
    return status;
  }

  /** Resident memory in bytes, from the kernel. */
  residentBytes(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const kib = /VmRSS:\s+(\d+) kB/.exec(status)?.[1];
    if (kib === undefined) throw new Error(`no VmRSS for ${this.kind}, process ${this.pid}`);
    return Number(kib) * 1024;
  }

  /** Waits until its health check is good, or it reads its own state at least; throws with the log when it ends before or takes too long. */
  async ready(timeoutMs: number, when: "healthy" | "serving" = "healthy"): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      if (this.#exited !== undefined) {
        throw new ServerEndedEarly(this.kind, this.#exited, this.log());
      }
      try {
        const page = when === "serving" ? "/livez" : "/health";
        const answer = await fetch(this.url + page, { signal: AbortSignal.timeout(1_000) });
        if (when === "serving" && answer.ok) return;
        const body = (await answer.json()) as { health?: string; reason?: string };
        // An alarm makes a server unhealthy, but it serves.
        if (body.health === "true" || /alarm/i.test(body.reason ?? "")) return;
      } catch {
        // Not listening yet.
      }
      if (performance.now() > deadline) {
        throw new Error(`${this.kind} is not ready after ${timeoutMs} ms; its log:\n${tail(this.log())}`);
      }
      await Bun.sleep(15);
    }
  }
}

/** The process ended although it should have served. */
export class ServerEndedEarly extends Error {
  constructor(
    kind: ServerKind,
    readonly status: ExitStatus,
    readonly log: string,
  ) {
    super(`${kind} ended with ${JSON.stringify(status)} instead of serving; its log:\n${tail(log)}`);
  }
}

function tail(log: string): string {
  return log.split("\n").slice(-30).join("\n");
}

/** The command line of a Keelson: the compiled file where KEELSON_BINARY names one, else the sources. */
export function keelsonCommand(): string[] {
  const binary = process.env["KEELSON_BINARY"];
  if (binary !== undefined && binary !== "") return [binary];
  return [process.execPath, join(repositoryDir, "src/main.ts")];
}

async function start(
  kind: ServerKind,
  options: ServerOptions,
  commandFor: (dataDir: string, port: number, peerPort: number) => string[],
): Promise<Server> {
  const dataDir = options.dataDir ?? join(scratchDir(kind), "data");
  const logFile = options.logFile ?? `${dataDir.replace(/\/$/, "")}.log`;
  for (let attempt = 1; ; attempt++) {
    const [freePort = 0, peerPort = 0] = await freePorts(2);
    const command = [
      ...(options.wrapper ?? []),
      ...commandFor(dataDir, options.port ?? freePort, peerPort),
      ...(options.flags ?? []),
    ];
    const server = new Server(kind, command, options.port ?? freePort, dataDir, logFile, options.env ?? {});
    try {
      await server.ready(options.readyTimeoutMs ?? 20_000, options.readyWhen);
      return server;
    } catch (error) {
      await server.kill();
      // Another process may take a free port before we do; nothing else is tried twice.
      const portTaken =
        error instanceof ServerEndedEarly && /address already in use|EADDRINUSE/.test(error.log);
      if (!portTaken || options.port !== undefined || attempt === 3) throw error;
    }
  }
}

/** Starts a reference etcd of one member and waits until it serves. It does not sync its files unless asked. */
export async function startEtcd(options: ServerOptions & { fsync?: boolean } = {}): Promise<Server> {
  const tools = await ensureEtcd();
  return start("etcd", options, (dataDir, port, peerPort) => {
    const client = `http://127.0.0.1:${port}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    const newer = !tools.version.startsWith("3.4.");
    return [
      tools.etcd,
      "--name=default",
      `--data-dir=${dataDir}`,
      "--log-level=warn",
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      ...(newer && options.fsync !== true ? ["--unsafe-no-fsync"] : []),
    ];
  });
}

/** The flags every Keelson of the tests gets; no other server of this machine may have the same ports. */
export function keelsonFlags(dataDir: string, port: number, peerPort: number): string[] {
  return [
    "--listen-client-urls",
    `http://127.0.0.1:${port}`,
    "--listen-peer-urls",
    `http://127.0.0.1:${peerPort}`,
    "--data-dir",
    dataDir,
    "--name",
    "default",
  ];
}

/**
 * Starts a Keelson and waits until it serves. KEELSON_TEST_SUBJECT=etcd puts a second real etcd in its place: that
 * is how the tests themselves are calibrated.
 */
export async function startKeelson(options: ServerOptions = {}): Promise<Server> {
  if (process.env["KEELSON_TEST_SUBJECT"] === "etcd") return startEtcd({ ...options, fsync: true });
  return start("keelson", options, (dataDir, port, peerPort) => [
    ...keelsonCommand(),
    ...keelsonFlags(dataDir, port, peerPort),
  ]);
}
