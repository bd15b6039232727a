/** --force-new-cluster on whole members: what a survivor keeps, whenever the power goes. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster, type Node } from "../../test/sim/cluster";
import { PutRequestSchema, RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

function put(key: string) {
  const value = create(PutRequestSchema, { key: new TextEncoder().encode(key), value: new Uint8Array(9) });
  return { case: "put", value } as const;
}

function keys(member: Member): number {
  const all = { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) };
  return member.state.range(create(RangeRequestSchema, all)).count;
}

/** Three members with ten acknowledged writes, of which one is left. */
function disaster(seed: number): { cluster: Cluster; survivor: Node } {
  const cluster = new Cluster(3, seed).start();
  const leader = cluster.leader();
  for (let count = 1; count <= 10; count++) cluster.clock.settle(leader.write(put(`k${count}`)));
  cluster.until(() => cluster.running().every((member) => keys(member) === 10));
  for (const node of cluster.nodes) cluster.crash(node);
  return { cluster, survivor: cluster.nodes[seed % 3]! };
}

function force({ world, options }: Node, forceNewCluster = true): Member {
  return world.open({ ...options, forceNewCluster });
}

/** From now on the `limit`th sync of this member's disk is the last: it takes effect or not, but nobody hears of it. */
function stopAtSync({ world: { disk } }: Node, limit: number, effective: boolean): () => void {
  const open = disk.open.bind(disk);
  let syncs = 0;
  disk.open = (path, mode) => {
    const file = open(path, mode);
    const sync = file.sync.bind(file);
    file.sync = async () => {
      if (++syncs < limit) return sync();
      if (syncs === limit && effective) await sync();
      return new Promise(() => {});
    };
    return file;
  };
  return () => {
    disk.open = open;
  };
}

const alone = (member: Member) => member.state.members().map(({ ID }) => ID);

for (const seed of [1, 2, 3, 4, 5, 6]) {
  test(`a survivor goes on alone with everything, also after a restart without the flag (seed ${seed})`, () => {
    const { cluster, survivor } = disaster(seed);
    let member = force(survivor);
    cluster.clock.settle(member.ready());
    expect(keys(member)).toBe(10);
    expect(alone(member)).toEqual([member.id]);
    cluster.clock.settle(member.write(put("after")));
    survivor.world.crash();
    member = force(survivor, false);
    cluster.clock.settle(member.ready());
    expect(keys(member)).toBe(11);
    expect(alone(member)).toEqual([member.id]);
    expect(survivor.world.fatal).toEqual([]);
  });

  test(`the power may go at any sync of it, before or after it took effect (seed ${seed})`, () => {
    /** What second starts found: the rewriting still to be done, or done. */
    const found = new Set<string>();
    for (const effective of [true, false]) {
      for (let limit = 1; ; limit++) {
        const { cluster, survivor } = disaster(seed);
        const { world } = survivor;
        const restore = stopAtSync(survivor, limit, effective);
        let over = true;
        try {
          force(survivor);
        } catch {
          over = false;
        }
        restore();
        if (over) break;
        world.crash();
        const member = force(survivor);
        cluster.clock.settle(member.ready());
        expect(keys(member)).toBe(10);
        expect(alone(member)).toEqual([member.id]);
        // It is noted as done whenever it is.
        expect(world.disk.list("/data")).toContain("forced-new-cluster");
        found.add(world.logged.findLast(({ message }) => message.startsWith("--force-new-cluster"))!.message);
      }
    }
    expect([...found].sort().map((message) => message.slice(21, 40))).toEqual([
      "this is the only me",
      "this member is alon",
    ]);
  });
}
