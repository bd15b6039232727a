/** What goes wrong, when, and for how long: drawn from the seed, family by family. */
import { create } from "@bufbuild/protobuf";
import type { MemberId } from "../../src/ids";
import {
  MemberAddRequestSchema,
  MemberPromoteRequestSchema,
  MemberRemoveRequestSchema,
  MoveLeaderRequestSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { SeededRng } from "../../src/rng";
import type { VirtualClock } from "./clock";
import type { SimulatedHost } from "./host";
import type { Links } from "./links";
import type { FaultFamily, SimulationOptions } from "./options";

export interface FaultContext {
  readonly clock: VirtualClock;
  readonly rng: SeededRng;
  readonly links: Links;
  readonly options: SimulationOptions;
  /** Hosts that belong to the cluster or have belonged to it. */
  hosts(): readonly SimulatedHost[];
  leader(): SimulatedHost | undefined;
  /** Ids of those that the applied configuration names. */
  voters(): readonly MemberId[];
  learners(): readonly MemberId[];
  crash(host: SimulatedHost, powerFails: boolean): void;
  start(host: SimulatedHost): void;
  /** Runs work as an event of its own of a host. */
  at(host: SimulatedHost, work: () => void): void;
  trace(host: SimulatedHost | undefined, what: string): void;
  fail(error: unknown): void;
}

/** Members at a time, at most, and ever. */
const membersMax = 7;
const hostsMax = 14;

export class Faults {
  /** How often each family struck, and each shape of partition. */
  readonly counts = new Map<string, number>();
  readonly #context: FaultContext;
  /** While it stands still, syncs of a host take so much longer. */
  readonly #slow = new Map<SimulatedHost, number>();
  readonly #stopping = new WeakSet<object>();
  #stopped = false;
  #partitioned = false;

  constructor(context: FaultContext) {
    this.#context = context;
  }

  /** Extra milliseconds that a sync of this host takes. */
  syncPenaltyMs(host: SimulatedHost | undefined): number {
    return (host === undefined ? undefined : this.#slow.get(host)) ?? 0;
  }

  start(): void {
    for (const [family, meanMs] of Object.entries(this.#context.options.faults)) {
      this.#plan(family as FaultFamily, meanMs);
    }
  }

  /** No more faults, and those under way end. */
  stop(): void {
    this.#stopped = true;
    this.#slow.clear();
    this.#partitioned = false;
    this.#context.links.heal();
    for (const host of this.#context.hosts()) {
      host.disk.budgetBytes = Number.POSITIVE_INFINITY;
      host.resume();
    }
  }

  #plan(family: FaultFamily, meanMs: number): void {
    const { clock, rng } = this.#context;
    const delayMs = -Math.log(1 - rng.below(1_000_000) / 1_000_000) * meanMs;
    clock.after(delayMs, () => {
      if (this.#stopped) return;
      this.#strike(family);
      this.#plan(family, meanMs);
    });
  }

  #count(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  #pick<Item>(items: readonly Item[]): Item | undefined {
    return items.length === 0 ? undefined : items[this.#context.rng.below(items.length)];
  }

  #after(minMs: number, maxMs: number, work: () => void): void {
    const { clock, rng } = this.#context;
    clock.after(minMs + rng.below(Math.max(1, maxMs - minMs)), () => {
      if (!this.#stopped) work();
    });
  }

  #running(): SimulatedHost[] {
    return this.#context.hosts().filter((host) => host.state === "up");
  }

  /** A member, the leader more often than others. */
  #victim(): SimulatedHost | undefined {
    const { rng } = this.#context;
    return rng.below(3) === 0 ? this.#context.leader() : this.#pick(this.#running());
  }

  #strike(family: FaultFamily): void {
    const { rng, trace } = this.#context;
    const victim = this.#victim();
    if (victim === undefined) return;
    switch (family) {
      case "crash":
        return this.#crash([victim], false);
      case "powerCut": {
        const running = this.#running();
        const draw = rng.below(4);
        const hit = draw === 0 ? running : draw === 1 ? running.filter(() => rng.below(2) === 0) : [victim];
        this.#count(hit.length === running.length ? "powerCut of all" : "powerCut");
        if (rng.below(3) === 0) return this.#crash(hit, true);
        return this.#whileSyncing(victim, () => this.#crash(hit, true));
      }
      case "pause": {
        if (victim.paused) return;
        this.#count(family);
        const { electionTimeoutMs } = this.#context.options;
        trace(victim, "stands still");
        victim.pause();
        this.#after(50, (1 + rng.below(6)) * electionTimeoutMs, () => {
          trace(victim, "goes on");
          victim.resume();
        });
        return;
      }
      case "partition":
        return this.#partition();
      case "flap": {
        const { links } = this.#context;
        const other = this.#pick(this.#running());
        const [a, b] = [victim.id, other?.id];
        if (a === undefined || b === undefined || a === b || links.isCut(a, b)) return;
        this.#count(family);
        const both = rng.below(2) === 0;
        links.cut(a, b);
        if (both) links.cut(b, a);
        this.#after(10, 600, () => {
          if (this.#partitioned) return;
          links.cut(a, b, false);
          if (both) links.cut(b, a, false);
        });
        return;
      }
      case "clog": {
        const { links, clock } = this.#context;
        const { id } = victim;
        if (id === undefined) return;
        this.#count(family);
        for (const host of this.#running()) {
          if (host.id === undefined || host.id === id) continue;
          const untilMs = clock.monotonicMs() + rng.below(3_000);
          links.clog(id, host.id, untilMs);
          if (rng.below(2) === 0) links.clog(host.id, id, untilMs + rng.below(1_000));
        }
        return;
      }
      case "slowDisk": {
        this.#count(family);
        const penaltyMs = [20, 100, 500, 3_000][rng.below(4)]!;
        trace(victim, `syncs take ${penaltyMs} ms longer`);
        this.#slow.set(victim, penaltyMs);
        this.#after(200, 4_000, () => this.#slow.delete(victim));
        return;
      }
      case "fullDisk": {
        this.#count(family);
        trace(victim, "the disk of the log is full");
        victim.disk.budgetBytes = victim.disk.usedBytes + rng.below(4_096);
        this.#after(500, 6_000, () => {
          trace(victim, "the disk of the log has room");
          victim.disk.budgetBytes = Number.POSITIVE_INFINITY;
        });
        return;
      }
      case "membership":
        return this.#changeMembership();
      case "transfer": {
        const leader = this.#context.leader();
        const to = this.#pick(this.#context.voters());
        if (leader === undefined || to === undefined) return;
        this.#count(family);
        this.#ask(leader, (host) =>
          host.services!.maintenance.moveLeader(create(MoveLeaderRequestSchema, { targetID: to })),
        );
        return;
      }
      case "wallClock":
        this.#count(family);
        victim.wallSkewMs += (rng.below(2) === 0 ? -1 : 1) * rng.below(3_600_000);
        return;
      case "stop":
        this.#count(family);
        return this.#stop(victim);
    }
  }

  #crash(hosts: readonly SimulatedHost[], powerFails: boolean): void {
    const { rng } = this.#context;
    for (const host of hosts) {
      if (!powerFails) this.#count("crash");
      this.#context.crash(host, powerFails);
      const longMs = rng.below(4) === 0 ? 8_000 : 1_000;
      this.#after(10, longMs, () => this.#context.start(host));
    }
  }

  /** Power that fails at any moment mostly finds nothing half written: waits for a moment when something is. */
  #whileSyncing(host: SimulatedHost, work: () => void, triesLeft = 400): void {
    if (host.disk.runningSyncs > 0 || triesLeft === 0 || host.state !== "up") return work();
    this.#context.clock.after(0.5, () => {
      if (!this.#stopped) this.#whileSyncing(host, work, triesLeft - 1);
    });
  }

  #stop(host: SimulatedHost): void {
    const { member, life } = host;
    if (member === undefined || this.#stopping.has(member)) return;
    this.#stopping.add(member);
    this.#context.at(host, () => {
      this.#context.trace(host, "is told to stop");
      member.stop().then(
        () => {
          if (host.life !== life || host.state === "down") return;
          this.#context.crash(host, false);
          this.#after(10, 2_000, () => this.#context.start(host));
        },
        (error: unknown) => {
          if (host.life === life && host.state !== "down") this.#context.fail(error);
        },
      );
    });
  }

  #partition(): void {
    const { rng, links, trace } = this.#context;
    const ids = this.#context.hosts().flatMap(({ id }) => (id === undefined ? [] : [id]));
    if (ids.length < 2) return;
    links.heal();
    this.#partitioned = true;
    const leader = this.#context.leader()?.id ?? ids[0]!;
    const cut = (a: MemberId, b: MemberId, oneWay = false): void => {
      links.cut(a, b);
      if (!oneWay) links.cut(b, a);
    };
    const order = shuffled(ids, rng);
    const oneWay = rng.below(4) === 0;
    const shapes = [
      "isolate",
      "leader",
      "halves",
      "coins",
      "bridge",
      "ring",
      "one-way leader",
      "succession",
    ] as const;
    const shape = shapes[rng.below(shapes.length)]!;
    const separate = (group: ReadonlySet<MemberId>): void => {
      for (const a of group) for (const b of ids) if (!group.has(b)) cut(a, b, oneWay);
    };
    switch (shape) {
      case "isolate":
        separate(new Set([order[0]!]));
        break;
      case "leader":
        separate(new Set([leader]));
        break;
      case "halves":
        separate(new Set(order.slice(0, Math.ceil(order.length / 2))));
        break;
      case "coins":
        separate(new Set(ids.filter(() => rng.below(2) === 0)));
        break;
      case "bridge": {
        // Two halves that share one member.
        const [, ...rest] = order;
        const half = new Set(rest.slice(0, rest.length >> 1));
        for (const a of half) for (const b of rest) if (!half.has(b)) cut(a, b, oneWay);
        break;
      }
      case "ring":
        // Everybody reaches a majority, and each another one.
        order.forEach((a, i) =>
          order.forEach((b, j) => {
            const distance = Math.min(Math.abs(i - j), order.length - Math.abs(i - j));
            if (i < j && distance > Math.max(1, (order.length - 1) >> 2)) cut(a, b, oneWay);
          }),
        );
        break;
      case "one-way leader":
        for (const b of ids)
          if (b !== leader) cut(rng.below(2) === 0 ? leader : b, rng.below(2) === 0 ? b : leader, true);
        break;
      case "succession":
        separate(new Set([leader]));
        this.#succeed(leader);
    }
    this.#count(`partition: ${shape}`);
    trace(undefined, `partition: ${shape}${oneWay ? ", one way" : ""}`);
    this.#after(200, 6_000, () => {
      trace(undefined, "the partition ends");
      this.#partitioned = false;
      links.heal();
    });
  }

  /**
   * A leader that was cut off comes back with entries that nobody else has, just as its successor is lost with the
   * few that it had time for: the third leader's log is shorter than the first one's, and another (paper, figure 8).
   */
  #succeed(first: MemberId): void {
    const { links, rng, trace } = this.#context;
    this.#after(20, 21, () => {
      const second = this.#context.leader()?.id;
      if (!this.#partitioned) return;
      if (second === undefined || second === first) return this.#succeed(first);
      this.#after(0, [20, 100, 500][rng.below(3)]!, () => {
        if (!this.#partitioned) return;
        trace(undefined, "the first leader is back, the second one is cut off");
        this.#count("partition: succession, second leader");
        links.heal();
        this.#cutOff(second);
      });
    });
  }

  #cutOff(id: MemberId): void {
    const { links } = this.#context;
    for (const host of this.#context.hosts()) {
      if (host.id === undefined || host.id === id) continue;
      links.cut(id, host.id);
      links.cut(host.id, id);
    }
  }

  /** Some member learns of the change late, and the leader is lost before it does (R10). */
  #disturbChange(): void {
    const { links, rng, trace } = this.#context;
    const late = this.#pick(this.#running());
    if (late !== undefined && !this.#slow.has(late)) {
      this.#slow.set(late, [100, 500, 3_000][rng.below(3)]!);
      this.#after(500, 3_000, () => this.#slow.delete(late));
    }
    this.#after(1, 300, () => {
      const leader = this.#context.leader()?.id;
      if (leader === undefined || this.#partitioned) return;
      this.#count("membership: the leader is lost");
      trace(undefined, "the leader is cut off");
      this.#partitioned = true;
      this.#cutOff(leader);
      this.#after(200, 4_000, () => {
        if (!this.#partitioned) return;
        this.#partitioned = false;
        links.heal();
      });
    });
  }

  #changeMembership(): void {
    const { rng } = this.#context;
    const via = this.#pick(this.#running());
    if (via === undefined) return;
    if (rng.below(3) === 0) this.#disturbChange();
    const voters = this.#context.voters();
    const learners = this.#context.learners();
    const { length: known } = this.#context.hosts();
    const draw = rng.below(10);
    const learner = this.#pick(learners);
    if (learner !== undefined && draw < 6) {
      this.#count("promote");
      this.#ask(via, (host) =>
        host.services!.cluster.memberPromote(create(MemberPromoteRequestSchema, { ID: learner })),
      );
    } else if (draw < 6 && known < hostsMax && voters.length + learners.length < membersMax) {
      this.#count("add");
      const peerURLs = [`http://m${known + 1}-${rng.below(1_000)}:2380`];
      this.#ask(via, (host) =>
        host.services!.cluster.memberAdd(create(MemberAddRequestSchema, { peerURLs, isLearner: true })),
      );
    } else if (voters.length > 2 || (learners.length > 0 && draw === 9)) {
      const out = this.#pick(draw === 9 && learners.length > 0 ? learners : voters)!;
      this.#count("remove");
      this.#ask(via, (host) =>
        host.services!.cluster.memberRemove(create(MemberRemoveRequestSchema, { ID: out })),
      );
    }
  }

  /** Asks for something whose outcome shows in the log; refusals are expected. */
  #ask(host: SimulatedHost, request: (host: SimulatedHost) => Promise<unknown>): void {
    this.#context.at(host, () => {
      request(host).then(
        () => this.#count("accepted"),
        (error: unknown) => this.#count(`refused: ${error instanceof Error ? error.message : String(error)}`),
      );
    });
  }
}

function shuffled<Item>(items: readonly Item[], rng: SeededRng): Item[] {
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = rng.below(i + 1);
    [copy[i], copy[j]] = [copy[j]!, copy[i]!];
  }
  return copy;
}
