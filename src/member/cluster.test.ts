/** Several members and what a client is told, on a network that loses, repeats, delays and parts. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { Cluster } from "../../test/sim/cluster";
import { PutRequestSchema, RangeRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Member } from "./member";

const encoder = new TextEncoder();

function put(key: string, value = "value", lease = 0n) {
  const request = create(PutRequestSchema, { key: encoder.encode(key), value: encoder.encode(value), lease });
  return { case: "put", value: request } as const;
}

function keys(member: Member): number {
  return member.state.range(
    create(RangeRequestSchema, { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) }),
  ).count;
}

test("three members elect one leader, and each of them takes writes and linearizable reads", () => {
  const cluster = new Cluster(3).start();
  cluster.leader();
  let written = 0;
  for (const member of cluster.running()) {
    const { revision } = cluster.clock.settle(member.write(put(`key-${written}`), "put"));
    written++;
    expect(revision).toBe(1 + written);
    for (const reader of cluster.running()) {
      cluster.clock.settle(reader.linearizable());
      expect(keys(reader)).toBe(written);
    }
  }
  expect(cluster.fatal()).toEqual([]);
});
