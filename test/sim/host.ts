/** The place of one member: its disk and databases, and one life after the other of the process that runs there. */
import { assert } from "../../src/assert";
import type { MemberId } from "../../src/ids";
import type { JoinPlan } from "../../src/member/join-plan";
import { Member, type MemberEvents, type MemberOptions } from "../../src/member/member";
import type { Clock, Disk, Ports } from "../../src/member/ports";
import type { SeededRng } from "../../src/rng";
import { ClusterService } from "../../src/service/cluster";
import { KvService } from "../../src/service/kv";
import { LeaseService } from "../../src/service/lease";
import { MaintenanceService } from "../../src/service/maintenance";
import { WatchService } from "../../src/service/watch";
import type { VirtualClock } from "./clock";
import { SimulatedDatabases } from "./databases";
import { SimulatedDisk } from "./disk";
import type { Links } from "./links";

/** What clients call, for one life. */
export interface Services {
  readonly kv: KvService;
  readonly lease: LeaseService;
  readonly watch: WatchService;
  readonly cluster: ClusterService;
  readonly maintenance: MaintenanceService;
}

export interface HostSurroundings {
  readonly clock: VirtualClock;
  readonly network: Links;
  /** Runs one event of a host; whatever the taps hear meanwhile is its doing. */
  run(host: SimulatedHost, work: () => void): void;
  /** The member called its process to an end. */
  fatal(host: SimulatedHost, error: unknown): void;
  /** A start did not succeed. */
  startFailed(host: SimulatedHost, error: unknown): void;
  /** A member object exists; it may not be ready yet. */
  started(host: SimulatedHost, member: Member): void;
  trace(host: SimulatedHost, what: string): void;
}

export interface HostOptions {
  readonly number: number;
  readonly member: MemberOptions;
  readonly joining?: JoinPlan;
  /** Of a disk's sync: how long it takes now. */
  readonly syncMs: () => number;
  /** How long what is to be done soon waits: what comes meanwhile is handled in the same turn. */
  readonly turnMs: number;
  /** How fast its monotonic clock runs against virtual time. */
  readonly clockRate: number;
  readonly kv: { readonly txnOpsMax: number; readonly requestBytesMax: number };
}

export class SimulatedHost {
  readonly number: number;
  readonly name: string;
  readonly disk: SimulatedDisk;
  readonly databases: SimulatedDatabases;
  readonly options: HostOptions;
  readonly #surroundings: HostSurroundings;
  readonly #rng: SeededRng;
  /** Known once the first member object exists. */
  id: MemberId | undefined;
  member: Member | undefined;
  services: Services | undefined;
  /** Counts the starts; 0: never started. */
  life = 0;
  state: "down" | "starting" | "up" = "down";
  paused = false;
  /** Said by the member: it was removed from the cluster for good. */
  removed = false;
  wallSkewMs = 0;
  /** Of this life, as its handshakes tell it. */
  incarnation = 0n;
  /** Only as many bytes as this may be in the log's files. */
  #held: (() => void)[] = [];
  readonly #monotonicStartMs: number;

  constructor(options: HostOptions, surroundings: HostSurroundings, rng: SeededRng) {
    this.options = options;
    this.number = options.number;
    this.name = options.member.name;
    this.#surroundings = surroundings;
    this.#rng = rng;
    this.#monotonicStartMs = rng.below(1_000_000);
    this.disk = new SimulatedDisk(rng.fork(1), {
      scheduleSync: (complete) => {
        const { life } = this;
        surroundings.clock.after(options.syncMs(), () => this.enter(life, complete));
      },
    });
    this.disk.makeDirectory(options.member.dataDirectory);
    this.disk.syncDirectory("/");
    this.databases = new SimulatedDatabases(this.disk, rng.fork(2));
  }

  /** Milliseconds on this host's own monotonic clock. */
  monotonicMs(): number {
    return this.#monotonicStartMs + this.#surroundings.clock.monotonicMs() * this.options.clockRate;
  }

  /** Runs work that belongs to a life: later while it is paused, never once it has ended. */
  enter(life: number, work: () => void): void {
    if (life !== this.life || this.state === "down") return;
    if (this.paused) this.#held.push(work);
    else this.#surroundings.run(this, work);
  }

  start(): void {
    assert(this.state === "down", "a host runs one process at a time");
    this.state = "starting";
    const life = ++this.life;
    const { member: options, joining } = this.options;
    const events: MemberEvents = {
      log: (level, message, fields) => {
        if (life !== this.life || level === "info") return;
        this.#surroundings.trace(this, `${level}: ${message} ${fields === undefined ? "" : plain(fields)}`);
      },
      fatal: (error) => {
        if (life === this.life && this.state !== "down") this.#surroundings.fatal(this, error);
      },
      removed: () => {
        if (life === this.life) this.removed = true;
      },
    };
    this.#surroundings.clock.after(0, () =>
      this.enter(life, () => {
        const startOptions: MemberOptions & { readonly joining?: JoinPlan } =
          joining === undefined ? options : { ...options, joining };
        const starting = Member.start(startOptions, this.#ports(life), events);
        starting.then(
          (member) => {
            if (life === this.life && this.state === "starting") this.#began(member);
          },
          (error: unknown) => {
            if (life === this.life && this.state === "starting") this.#surroundings.startFailed(this, error);
          },
        );
      }),
    );
  }

  #began(member: Member): void {
    this.state = "up";
    this.member = member;
    this.id = member.id;
    this.services = {
      kv: new KvService(member, this.options.kv),
      lease: new LeaseService(member),
      watch: new WatchService({
        hub: member.hub,
        monotonicMs: () => member.monotonicMs(),
        get stopping() {
          return member.stopping;
        },
        onStop: (listener) => member.onStop(listener),
      }),
      cluster: new ClusterService(member),
      maintenance: new MaintenanceService(member),
    };
    this.#surroundings.started(this, member);
    // As a server does it; whoever gives up is told by its own rejection.
    member.ready().catch(() => {});
  }

  #ports(life: number): Ports {
    const { clock, network } = this.#surroundings;
    const { clockRate } = this.options;
    const peers = network.peers({
      enter: (work) => this.enter(life, work),
      alive: () => life === this.life && this.state !== "down",
    });
    const memberClock: Clock = {
      monotonicMs: () => this.monotonicMs(),
      wallMs: () => clock.wallMs() + this.wallSkewMs,
      after: (delayMs, callback) => {
        let cancelled = false;
        const cancel = clock.after(delayMs / clockRate, () =>
          this.enter(life, () => {
            if (!cancelled) callback();
          }),
        );
        return () => {
          cancelled = true;
          cancel();
        };
      },
      soon: (callback) => clock.after(this.options.turnMs, () => this.enter(life, callback)),
    };
    return {
      clock: memberClock,
      rng: this.#rng.fork(1_000 + life),
      disk: this.#disk(),
      peers: {
        ...peers,
        start: (identity, handler) => {
          this.incarnation = identity.incarnation;
          peers.start(identity, handler);
        },
      },
      openDatabase: (path) => this.databases.openDatabase(path),
      startDatabaseJobs: (path, state) =>
        this.databases.startDatabaseJobs(path, state, {
          pause: () => new Promise((resolve) => memberClock.after(1 + this.#rng.below(20), resolve)),
          // Its pages are synced: as slow as the disk is now.
          hold: () =>
            this.#rng.below(2) === 0
              ? Promise.resolve()
              : new Promise((resolve) => memberClock.after(2 * this.options.syncMs(), resolve)),
        }),
    };
  }

  /** The log has a disk of its own: that it is full says nothing about room for data. */
  #disk(): Disk {
    const { disk } = this;
    return new Proxy(disk, {
      get: (target, name) => {
        if (name === "freeBytes") return () => Number.MAX_SAFE_INTEGER;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  /** The process ends at once. With `powerFails`, so does what was not synced. */
  crash(powerFails: boolean): void {
    this.state = "down";
    this.paused = false;
    this.#held = [];
    if (this.id !== undefined) this.#surroundings.network.drop(this.id);
    this.member = undefined;
    this.services = undefined;
    if (powerFails) this.disk.cutPower();
    this.disk.restart();
    this.databases.crash(powerFails);
  }

  /** Nothing happens here for a while, though time goes on: a long garbage collection, a stopped process. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    const { life } = this;
    const held = this.#held;
    this.#held = [];
    for (const work of held) this.#surroundings.clock.after(0, () => this.enter(life, work));
  }

  /** Frees what a finished run would keep. */
  dispose(): void {
    this.state = "down";
    this.databases.dispose();
  }
}

function plain(fields: Record<string, unknown>): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(" ");
}
