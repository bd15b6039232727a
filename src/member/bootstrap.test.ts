import { describe, expect, test } from "bun:test";
import { World } from "../../test/sim/world";
import { changed } from "../consensus/configuration";
import { decodeConfigurationChange, encodeConfigurationChange } from "../consensus/configuration-change";
import type { Configuration, Entry } from "../consensus/types";
import { foundCluster, standAlone } from "./bootstrap";
import { type JoinPlan, readJoinPlan, writeJoinPlan } from "./join-plan";

const founders = [
  { name: "infra0", peerUrls: ["http://10.0.1.10:2380"] },
  { name: "infra1", peerUrls: ["http://10.0.1.11:2380"] },
  { name: "infra2", peerUrls: ["http://10.0.1.12:2380"] },
];

test("founders begin with the same entries, whichever of them begins", () => {
  const logs = founders.map(({ name }) => foundCluster(name, founders, "etcd-cluster-1"));
  for (const { first, identity } of logs) {
    expect(first).toEqual(logs[0]!.first);
    expect(identity.clusterId).toBe(logs[0]!.identity.clusterId);
  }
  expect(new Set(logs.map(({ identity }) => identity.memberId)).size).toBe(3);
  expect(logs[0]!.first.hardState).toEqual({ term: 1, vote: 0n, commit: 3 });
  expect(() => foundCluster("infra3", founders, "t")).toThrow(`this member's name, "infra3"`);
});

describe("a member that is left stands alone", () => {
  const hardState = { term: 4, vote: 0n, commit: 7 };
  const change = (index: number, type: "add-voter" | "add-learner" | "remove", memberId: bigint): Entry => ({
    term: 4,
    index,
    kind: "configuration",
    data: encodeConfigurationChange({ type, memberId, context: new Uint8Array(0) }),
  });
  const after = (configuration: Configuration, entries: readonly Entry[]): Configuration =>
    entries.reduce((now, { data }) => {
      const next = changed(now, decodeConfigurationChange(data));
      if (next === undefined) throw new Error("not a legal single step");
      return next;
    }, configuration);
  const alone = { voters: [2n], learners: [] };

  test("as a voter of three with a learner", () => {
    const applied = { voters: [1n, 2n, 3n], learners: [9n] };
    const { entries, hardState: written } = standAlone(2n, applied, {
      hardState,
      lastIndex: 10,
      unapplied: [],
    })!;
    expect(after(applied, entries)).toEqual(alone);
    expect(entries.map(({ term, index }) => [term, index])).toEqual([
      [5, 11],
      [5, 12],
      [5, 13],
    ]);
    expect(written).toEqual({ term: 5, vote: 2n, commit: 13 });
  });

  test("as a learner, which becomes the voter first", () => {
    const applied = { voters: [1n], learners: [2n] };
    const { entries } = standAlone(2n, applied, { hardState, lastIndex: 10, unapplied: [] })!;
    expect(after(applied, entries)).toEqual(alone);
  });

  test("with changes in the log that were not applied, committed or not", () => {
    const applied = { voters: [1n], learners: [] };
    const unapplied = [change(9, "add-voter", 2n), change(10, "add-learner", 3n)];
    const { entries } = standAlone(2n, applied, { hardState, lastIndex: 10, unapplied })!;
    expect(after(after(applied, unapplied), entries)).toEqual(alone);
  });

  test("not again when it is alone", () => {
    expect(standAlone(2n, alone, { hardState, lastIndex: 10, unapplied: [] })).toBeUndefined();
  });
});

describe("the plan of a joiner", () => {
  const plan: JoinPlan = {
    clusterId: 0xcdf818194e3a8c32n,
    memberId: 0xffffffffffffffffn,
    name: "new",
    members: [{ id: 1n, peerUrls: ["http://a:2380", "http://b:2380"] }],
    promote: true,
  };

  test("survives a power cut once it is written, and is never half there", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { disk } = new World(seed);
      await writeJoinPlan("/data", disk, plan);
      disk.cutPower();
      disk.restart();
      expect(readJoinPlan("/data", disk)).toEqual(plan);
      const second = writeJoinPlan("/data", disk, { ...plan, promote: false });
      // The power goes before anything of the second was awaited.
      disk.cutPower();
      disk.restart();
      await second.catch(() => {});
      expect(readJoinPlan("/data", disk)?.memberId).toBe(plan.memberId);
    }
  });

  test("that cannot be read stops the start, with what to do", () => {
    const { disk } = new World();
    const file = disk.open("/data/join.json", "create");
    file.write(0, new TextEncoder().encode('{"format":2}'));
    file.close();
    expect(() => readJoinPlan("/data", disk)).toThrow(
      "/data/join.json cannot be read (its format 2 is unknown); remove this member from the cluster",
    );
  });
});
