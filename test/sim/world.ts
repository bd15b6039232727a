/** One whole member on a virtual clock, a simulated disk and a database in memory. */
import { Member, type MemberEvents, type MemberOptions } from "../../src/member/member";
import type { Clock, Disk, Peers, Ports } from "../../src/member/ports";
import { SeededRng } from "../../src/rng";
import { wrapSyncs } from "../../src/storage/disk-wrap";
import { VirtualClock } from "./clock";
import { SimulatedDatabases } from "./databases";
import { PowerCutError, SimulatedDisk, type SimulatedDiskOptions } from "./disk";

export const memberDefaults: MemberOptions = {
  name: "default",
  dataDirectory: "/data",
  initialClusterState: "new",
  clientUrls: ["http://127.0.0.1:2379"],
  initialCluster: [{ name: "default", peerUrls: ["http://localhost:2380"] }],
  clusterToken: "etcd-cluster",
  heartbeatIntervalMs: 100,
  electionTimeoutMs: 1_000,
  preVote: true,
  requestBytesMax: 1_572_864,
  quotaBytes: 2 * 1024 ** 3,
  autoCompaction: undefined,
  compactionBatchRows: 1_000,
  compactionPauseMs: 10,
  applyCommitIntervalMs: 20,
  checkpointEntries: 10_000,
  catchupEntries: 5,
  watchProgressIntervalMs: 600_000,
  leaseCheckpoints: false,
  warningApplyMs: 100,
  logSegmentBytes: 256 * 1024,
};

/** How long a job on the database takes. */
const jobMs = 5;

/** A member that is alone. */
const noPeers: Peers = {
  start() {},
  setMembers() {},
  send: () => false,
  fetchPiece: () => Promise.reject(new Error("there are no other members")),
  activeSinceMs: () => undefined,
  close: () => Promise.resolve(),
};

interface LoggedLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

/** What a world shares with others; absent parts are its own. */
export interface Surroundings {
  readonly clock?: VirtualClock;
  /** The connections of one life of the member. */
  readonly peers?: () => Peers;
  /** Told when the member learns that it was removed. */
  readonly removed?: () => void;
}

/** The world around one member; it outlives the member's crashes. */
export class World {
  readonly clock: VirtualClock;
  readonly disk: SimulatedDisk;
  readonly fatal: unknown[] = [];
  readonly logged: LoggedLine[] = [];
  readonly #rng: SeededRng;
  readonly #databases: SimulatedDatabases;
  /** Counts lives: what an earlier one had scheduled does not happen. */
  #life = 0;
  #heldSyncs: PromiseWithResolvers<void> | undefined;
  #muteSyncs = false;
  #applyHeld = false;

  readonly #surroundings: Surroundings;

  constructor(seed = 1, disk: SimulatedDiskOptions = {}, surroundings: Surroundings = {}) {
    this.clock = surroundings.clock ?? new VirtualClock();
    this.#surroundings = surroundings;
    this.#rng = new SeededRng(seed);
    this.disk = new SimulatedDisk(this.#rng.fork(1), disk);
    this.disk.makeDirectory("/data");
    this.#databases = new SimulatedDatabases(this.disk, this.#rng.fork(3));
  }

  /** Starts the member, and waits until it can serve. */
  start(options: Partial<MemberOptions> = {}): Member {
    const member = this.open(options);
    this.clock.settle(member.ready());
    return member;
  }

  /** Starts the member, which is not ready to serve yet. */
  open(options: Partial<MemberOptions> = {}): Member {
    const clock = this.#clockOfLife(++this.#life);
    const ports: Ports = {
      clock,
      // Another in each life: the incarnation comes from it.
      rng: this.#rng.fork(1_000 + this.#life),
      disk: this.#diskThatHolds(),
      peers: this.#surroundings.peers?.() ?? noPeers,
      openDatabase: (path) => this.#databases.openDatabase(path),
      startDatabaseJobs: (path, state) =>
        this.#databases.startDatabaseJobs(path, state, {
          holding: () => this.#applyHeld,
          pause: () => new Promise((resolve) => void clock.after(jobMs, resolve)),
        }),
    };
    const events: MemberEvents = {
      log: (level, message, fields = {}) => this.logged.push({ level, message, fields }),
      fatal: (error) => this.fatal.push(error),
      removed: () => this.#surroundings.removed?.(),
    };
    return this.clock.settle(Member.start({ ...memberDefaults, ...options }, ports, events));
  }

  #clockOfLife(life: number): Clock {
    const alive = (callback: () => void) => () => {
      if (this.#life === life) callback();
    };
    return {
      monotonicMs: () => this.clock.monotonicMs(),
      wallMs: () => this.clock.wallMs(),
      after: (delayMs, callback) => this.clock.after(delayMs, alive(callback)),
      soon: (callback) => this.clock.soon(alive(callback)),
    };
  }

  /** What an earlier life still tries, as an answer from elsewhere reaches it, does not touch the disk. */
  #diskOfLife(life: number): Disk {
    return new Proxy<Disk>(this.disk, {
      get: (disk, name: keyof Disk) => {
        if (this.#life !== life) throw new PowerCutError("this life of the member has ended");
        const method = disk[name] as (...given: unknown[]) => unknown;
        return method.bind(disk);
      },
    });
  }

  #diskThatHolds(): Disk {
    return wrapSyncs(this.#diskOfLife(this.#life), async (sync) => {
      await this.#heldSyncs?.promise;
      await sync();
      if (this.#muteSyncs) await new Promise(() => {});
    });
  }

  /** From now on no sync completes, until the returned function is called. */
  holdSyncs(): () => void {
    const held = Promise.withResolvers<void>();
    this.#heldSyncs = held;
    return () => {
      this.#heldSyncs = undefined;
      held.resolve();
    };
  }

  /** From now on nothing is applied, as during a checkpoint, until the returned function is called. */
  holdApply(): () => void {
    this.#applyHeld = true;
    return () => {
      this.#applyHeld = false;
    };
  }

  /** From now on syncs take effect, but nobody hears of it: the moment before a crash. */
  muteSyncs(): void {
    this.#muteSyncs = true;
  }

  /** Power fails: what the database had not committed is gone, and what the log had not synced may be. */
  crash(): void {
    this.#life++;
    this.#heldSyncs = undefined;
    this.#muteSyncs = false;
    this.#applyHeld = false;
    this.disk.cutPower();
    this.disk.restart();
    this.#databases.crash();
  }
}
