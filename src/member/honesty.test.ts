/**
 * What clients are told, on a network that loses, repeats, delays and parts while members crash: a result means that
 * the write is there, exactly once; a definite refusal that it is not and never will be; a read sees every write that
 * was acknowledged before it began.
 */
import { expect, test } from "bun:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { Cluster } from "../../test/sim/cluster";
import { fairWeather, type Weather } from "../../test/sim/network";
import { StoreError } from "../errors";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import { PutRequestSchema, RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import { SeededRng } from "../rng";
import type { Member } from "./member";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

interface Write {
  readonly key: string;
  /** Who was asked; nobody answers for a member that crashed. */
  readonly by: Member;
  outcome: "pending" | "done" | "never" | "unknown";
  /** Of the revision that the answer named. */
  revision: number;
}

function put(key: string) {
  const request = create(PutRequestSchema, { key: encoder.encode(key), value: encoder.encode(key) });
  return { case: "put", value: request } as const;
}

/** How often each key was written, as this member's state has it. */
function versions(member: Member): Map<string, { version: number; revision: number }> {
  const { records } = member.state.range(
    create(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) }),
  );
  return new Map(
    records.map((record) => {
      const { key, version, modRevision } = fromBinary(KeyValueSchema, record);
      return [decoder.decode(key), { version: Number(version), revision: Number(modRevision) }];
    }),
  );
}

class Run {
  readonly cluster: Cluster;
  readonly writes: Write[] = [];
  readonly rng: SeededRng;
  readonly stale: string[] = [];
  reads = 0;

  constructor(
    readonly seed: number,
    readonly size: number,
  ) {
    this.cluster = new Cluster(size, seed).start();
    this.rng = new SeededRng(seed);
  }

  write(member: Member): void {
    const write: Write = { key: `w${this.writes.length}`, by: member, outcome: "pending", revision: 0 };
    this.writes.push(write);
    const refused = (error: unknown) => {
      write.outcome = error instanceof StoreError && error.definite ? "never" : "unknown";
    };
    try {
      member.write(put(write.key), "put").then(({ revision }) => {
        write.outcome = "done";
        write.revision = revision;
      }, refused);
    } catch (error) {
      refused(error);
    }
  }

  read(member: Member): void {
    const expected = this.writes.filter(({ outcome }) => outcome === "done").map(({ key }) => key);
    const node = this.cluster.node(member.id);
    member.linearizable().then(
      () => {
        if (node.member !== member) return;
        this.reads++;
        const present = versions(member);
        this.stale.push(...expected.filter((key) => !present.has(key)));
      },
      () => {},
    );
  }

  trouble(): void {
    const { cluster, rng } = this;
    const ids = cluster.running().map(({ id }) => id);
    switch (rng.below(7)) {
      case 0: {
        const up = cluster.nodes.filter(({ member }) => member !== undefined);
        if (up.length > 1) cluster.crash(up[rng.below(up.length)]!);
        return;
      }
      case 1:
        for (const node of cluster.nodes) if (node.member === undefined) cluster.open(node);
        return;
      case 2:
      case 3: {
        const cut = rng.below(ids.length);
        cluster.network.part([ids[cut]!], ids.toSpliced(cut, 1));
        return;
      }
      case 4: {
        const from = ids[rng.below(ids.length)]!;
        for (const to of ids) if (to !== from && rng.below(2) === 0) cluster.network.cutOneWay(from, to);
        return;
      }
      case 5: {
        const leader = cluster.running().find(({ isLeader }) => isLeader);
        const to = ids[rng.below(ids.length)]!;
        if (leader !== undefined) void leader.transferLeader(to).catch(() => {});
        return;
      }
      default:
        return cluster.network.heal();
    }
  }

  /** Everybody is up and reachable again, and nothing is on its way. */
  heal(): void {
    const { cluster } = this;
    cluster.network.heal();
    cluster.network.weather = fairWeather;
    for (const node of cluster.nodes) if (node.member === undefined) cluster.open(node);
    cluster.leader();
    cluster.clock.run(10_000);
    cluster.clock.settle(Promise.all(cluster.running().map((member) => member.linearizable())));
    const alive = new Set(cluster.running());
    for (const write of this.writes) {
      if (write.outcome === "pending" && !alive.has(write.by)) write.outcome = "unknown";
    }
  }

  check(): void {
    const { cluster, writes } = this;
    expect(cluster.fatal()).toEqual([]);
    const [first, ...others] = cluster.running().map(versions);
    for (const other of others) expect(other).toEqual(first!);
    const found = { lost: [] as string[], twice: [] as string[], liesAboutNever: [] as string[], wrong: 0 };
    for (const { key, outcome, revision } of writes) {
      const there = first!.get(key);
      if (outcome === "done" && there === undefined) found.lost.push(key);
      if (outcome === "never" && there !== undefined) found.liesAboutNever.push(key);
      if (there !== undefined && there.version !== 1) found.twice.push(key);
      if (outcome === "done" && there !== undefined && there.revision !== revision) found.wrong++;
    }
    expect(found).toEqual({ lost: [], twice: [], liesAboutNever: [], wrong: 0 });
    expect(writes.filter(({ outcome }) => outcome === "pending").map(({ key }) => key)).toEqual([]);
    expect(this.stale).toEqual([]);
  }
}

const weathers: readonly Weather[] = [
  fairWeather,
  { delayMinMs: 0.2, delayMaxMs: 40, lostPerMille: 50, repeatedPerMille: 100, reordered: true },
  {
    delayMinMs: 0.5,
    delayMaxMs: 20,
    lostPerMille: 0,
    repeatedPerMille: 200,
    reordered: true,
    straggling: 100,
  },
  { delayMinMs: 5, delayMaxMs: 200, lostPerMille: 10, repeatedPerMille: 300, reordered: true },
];

function run(seed: number, size: number): Run {
  const run = new Run(seed, size);
  const { cluster, rng } = run;
  cluster.network.weather = weathers[seed % weathers.length]!;
  for (let step = 0; step < 150; step++) {
    const running = cluster.running();
    for (let i = rng.below(4); i > 0; i--) run.write(running[rng.below(running.length)]!);
    run.read(running[rng.below(running.length)]!);
    cluster.clock.run(rng.below(3) === 0 ? rng.below(400) : rng.below(20));
    if (rng.below(8) === 0) run.trouble();
  }
  run.heal();
  run.check();
  return run;
}

test.each([3, 5])(
  "[P1] [P18] %i members under faults tell the truth",
  (size) => {
    const told = { done: 0, never: 0, unknown: 0, pending: 0 };
    let reads = 0;
    const seeds = Number(process.env.KEELSON_SEEDS ?? 20);
    for (let seed = 1; seed <= seeds; seed++) {
      try {
        const finished = run(seed, size);
        reads += finished.reads;
        for (const { outcome } of finished.writes) told[outcome]++;
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, {
          cause: error,
        });
      }
    }
    if (process.env.KEELSON_VERBOSE !== undefined) console.log({ size, ...told, reads });
    // A check that sees only one kind of outcome shows nothing.
    expect(told.done).toBeGreaterThan(50 * seeds);
    expect(told.unknown).toBeGreaterThan(0);
    expect(reads).toBeGreaterThan(20 * seeds);
  },
  60_000,
);
