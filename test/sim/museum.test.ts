/**
 * Real bugs of others, as stories of whole clusters with every check of the simulator on. README.md lists where each
 * exhibit is; those that need no cluster are tested beside the part that could have them.
 */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { fromBinaryString } from "../../src/bytes";
import {
  CompactionRequestSchema,
  type RangeRequest,
  LeaseGrantRequestSchema,
  LeaseRevokeRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  RequestOpSchema,
  TxnRequestSchema,
  WatchRequestSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { Call } from "../../src/transport/call";
import { createRequest } from "../../src/watch/test-support";
import { renewOnce, WatchClient } from "./client-streams";
import type { SimulatedHost } from "./host";
import { drawOptions } from "./options";
import { Fields, fieldsOf, latin1, revisionOf } from "./replies";
import { Simulation } from "./simulation";

const call: Call = {
  method: {} as Call["method"],
  door: "internal",
  metadata: () => undefined,
  deadlineAtMs: undefined,
  canceled: false,
  onCancel() {},
};

/** Three members on a good network, and nothing by chance but delays. */
function play(story: (simulation: Simulation, leader: SimulatedHost, others: SimulatedHost[]) => void): void {
  const options = drawOptions(1, 60, { only: [] });
  const simulation = new Simulation({
    ...options,
    voters: 3,
    heartbeatIntervalMs: 100,
    electionTimeoutMs: 1_000,
    clockRateSpreadPercent: 0,
    preVote: true,
    link: {
      ...options.link,
      lossPermille: 0,
      repeatPermille: 0,
      overtakePermille: 0,
      delayMeanMs: 1,
      capacity: 5_000,
    },
    syncMeanMs: 1,
  });
  simulation.play(() => {
    const leader = simulation.referee.leader()!;
    story(
      simulation,
      leader,
      simulation.hosts.filter((host) => host !== leader),
    );
  });
}

const put = (key: string, value: string) => (host: SimulatedHost) =>
  host.services!.kv.put(
    create(PutRequestSchema, { key: fromBinaryString(key), value: fromBinaryString(value) }),
  );

/** The value of a key, linearizable unless said otherwise. */
const get =
  (key: string, serializable = false) =>
  async (host: SimulatedHost): Promise<string | undefined> => {
    const request = create(RangeRequestSchema, { key: fromBinaryString(key), serializable });
    const record = fieldsOf(await host.services!.kv.range(request, call)).pieces(2)[0];
    return record === undefined ? undefined : latin1(new Fields(record).pieces(5)[0]!);
  };

function isolate({ links, hosts }: Simulation, host: SimulatedHost): void {
  for (const other of hosts) {
    if (other === host) continue;
    links.cut(host.id!, other.id!);
    links.cut(other.id!, host.id!);
  }
}

test("[#20418] a leader that stood still answers no read from before the others went on", () => {
  play((simulation, leader, others) => {
    simulation.settle(leader, put("k", "old"));
    // Reads are under way when it stops, and more come while it stands.
    const early = Array.from({ length: 5 }, () => simulation.begin(leader, get("k")));
    simulation.pass(0.3);
    leader.pause();
    expect(simulation.pass(20_000, () => simulation.referee.leader() !== leader)).toBeTrue();
    const next = others.find((host) => host === simulation.referee.leader())!;
    simulation.settle(next, put("k", "new"));
    const late = Array.from({ length: 5 }, () => simulation.begin(leader, get("k")));
    simulation.pass(100);
    leader.resume();
    simulation.pass(10_000, () => [...early, ...late].every(({ outcome }) => outcome !== undefined));
    for (const { outcome } of late) {
      expect(outcome).toBeDefined();
      if (outcome !== undefined && "answer" in outcome) expect(outcome.answer).toBe("new");
    }
    for (const host of simulation.hosts) expect(simulation.settle(host, get("k"))).toBe("new");
  });
});

test("[#741] a leader that is cut off serves no read as consistent", () => {
  play((simulation, leader, others) => {
    simulation.settle(leader, put("k", "old"));
    isolate(simulation, leader);
    // At once, while it still believes that it leads.
    const reads = Array.from({ length: 3 }, () => simulation.begin(leader, get("k")));
    expect(simulation.settle(leader, get("k", true))).toBe("old");
    simulation.pass(20_000, () => others.includes(simulation.referee.leader()!));
    simulation.settle(others[0]!, put("k", "new"));
    expect(reads.map(({ outcome }) => outcome !== undefined && "answer" in outcome)).not.toContain(true);
    simulation.links.heal();
    expect(simulation.settle(leader, get("k"))).toBe("new");
  });
});

test("[#12528] [#15247] a leader that stood still past a lease's time does not end what the next one renewed", () => {
  play((simulation, leader) => {
    const id = 7n;
    simulation.leases.newId();
    const grant = create(LeaseGrantRequestSchema, { ID: id, TTL: 4n });
    simulation.settle(leader, (host) => host.services!.lease.leaseGrant(grant));
    leader.pause();
    simulation.pass(20_000, () => simulation.referee.leader() !== leader);
    const next = simulation.referee.leader()!;
    for (let i = 0; i < 5; i++) {
      expect(simulation.settle(next, (host) => renewOnce(host.services!.lease, id, call))).toBe(4);
      simulation.pass(1_500);
    }
    leader.resume();
    for (let i = 0; i < 4; i++) {
      simulation.pass(1_500);
      expect(simulation.settle(leader, (host) => renewOnce(host.services!.lease, id, call))).toBe(4);
    }
    const revoke = create(LeaseRevokeRequestSchema, { ID: id });
    simulation.settle(next, (host) => host.services!.lease.leaseRevoke(revoke));
  });
});

test("[#14098] [#14140] [#14143] [#20271] what was acknowledged survives when power fails at every member, again and again", () => {
  play((simulation) => {
    for (let round = 0; round < 12; round++) {
      const [host] = simulation.hosts;
      simulation.settle(host!, put(`k${round}`, `v${round}`));
      // More is under way when it happens.
      for (const other of simulation.hosts) simulation.begin(other, put("busy", `${round}`));
      simulation.pass(round / 4);
      for (const other of simulation.hosts) simulation.crash(other, true);
      for (const other of simulation.hosts) simulation.startHost(other);
      simulation.pass(30_000, () => simulation.referee.leader() !== undefined);
      for (let before = 0; before <= round; before++) {
        expect(simulation.settle(simulation.hosts[before % 3]!, get(`k${before}`))).toBe(`v${before}`);
      }
    }
  });
});

test("[#14685] a defragmentation that a crash cuts off does not apply anything twice", () => {
  play((simulation, leader) => {
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < 10; i++) simulation.settle(leader, put(`k${i}`, "x".repeat(3_000)));
      const { revision } = leader.member!;
      const compact = create(CompactionRequestSchema, { revision: BigInt(revision) });
      simulation.settle(leader, (host) => host.services!.kv.compact(compact));
      const victim = simulation.hosts[round % 3]!;
      simulation.begin(victim, (host) => host.services!.maintenance.defragment());
      for (let i = 0; i < 5; i++) simulation.begin(leader, put("busy", `${round}-${i}`));
      simulation.pass(round * 2);
      simulation.crash(victim, round % 2 === 0);
      simulation.startHost(victim);
      expect(simulation.pass(30_000, () => simulation.referee.leader()?.services !== undefined)).toBeTrue();
      simulation.pass(3_000);
      leader = simulation.referee.leader()!;
    }
  });
});

test("[#18667] a txn that reads a compacted revision has the same outcome on every member", () => {
  play((simulation, leader) => {
    for (let i = 0; i < 10; i++) simulation.settle(leader, put("k", `v${i}`));
    const compact = create(CompactionRequestSchema, { revision: 6n });
    simulation.settle(leader, (host) => host.services!.kv.compact(compact));
    const read = (revision: bigint): RangeRequest =>
      create(RangeRequestSchema, { key: fromBinaryString("k"), revision });
    const txn = (revision: bigint) =>
      create(TxnRequestSchema, {
        success: [
          create(RequestOpSchema, {
            request: {
              case: "requestPut",
              value: create(PutRequestSchema, {
                key: fromBinaryString("other"),
                value: fromBinaryString("1"),
              }),
            },
          }),
          create(RequestOpSchema, { request: { case: "requestRange", value: read(revision) } }),
        ],
      });
    for (const host of simulation.hosts) {
      const before = simulation.truth.revision;
      expect(() => simulation.settle(host, (at) => at.services!.kv.txn(txn(3n), call))).toThrow("compacted");
      expect(simulation.truth.revision).toBe(before);
      simulation.settle(host, (at) => at.services!.kv.txn(txn(7n), call));
      expect(simulation.truth.revision).toBe(before + 1);
    }
  });
});

test("[#20221] [3.4.3] a watch of a future revision is silent until then at every member, one from 0 begins now", () => {
  play((simulation, leader, others) => {
    for (let i = 0; i < 5; i++) simulation.settle(leader, put("k", `v${i}`));
    const behind = others[0]!;
    isolate(simulation, behind);
    for (let i = 5; i < 10; i++) simulation.settle(leader, put("k", `v${i}`));
    const future = simulation.truth.revision + 4;
    const seen = new Map<string, number[]>();
    const watch = (host: SimulatedHost, start: number): void => {
      const name = `${host.name} from ${start}`;
      seen.set(name, []);
      simulation.begin(host, async () => {
        const client = new WatchClient(host.services!.watch, {
          capacity: Number.POSITIVE_INFINITY,
          received: (message) => {
            const fields = fieldsOf(message);
            // The created answer may have any revision; what follows may not be early.
            if (fields.number(3) === 1) return;
            seen.get(name)!.push(...fields.pieces(11).map(() => revisionOf(fields)));
            if (start > 0) expect(revisionOf(fields)).toBeGreaterThanOrEqual(start);
          },
          full: () => {},
          ended: () => {},
        });
        const request = createRequest("k", { start });
        client.ask(create(WatchRequestSchema, { requestUnion: { case: "createRequest", value: request } }));
        client.ask(create(WatchRequestSchema, { requestUnion: { case: "progressRequest", value: {} } }));
      });
    };
    for (const host of simulation.hosts) for (const start of [future, 0]) watch(host, start);
    simulation.pass(500);
    simulation.links.heal();
    for (let i = 10; i < 20; i++) simulation.settle(leader, put("k", `v${i}`));
    const last = simulation.truth.revision;
    simulation.pass(3_000);
    for (const host of simulation.hosts) {
      const fromFuture = seen.get(`${host.name} from ${future}`)!;
      expect(fromFuture).toHaveLength(last - future + 1);
      // The member that was behind had not seen as much when it was asked.
      const fromNow = seen.get(`${host.name} from 0`)!;
      expect(fromNow).toHaveLength(host === behind ? 15 : 10);
    }
  });
});
