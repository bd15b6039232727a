import { expect, spyOn, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { World } from "../../test/sim/world";
import type { Member } from "../member/member";
import {
  LeaseLeasesResponseSchema,
  LeaseTimeToLiveRequestSchema,
  LeaseTimeToLiveResponseSchema,
  PutRequestSchema,
} from "../proto/gen/etcd/rpc_pb";
import { EncodedMessage } from "../transport/call";
import { decodeAnswer } from "./backend";
import { FakeCall } from "./fake-backend";
import { LeaseService } from "./lease";

function granted(ttls: readonly [id: bigint, ttlSeconds: number][]): {
  world: World;
  member: Member;
  service: LeaseService;
} {
  const world = new World(1);
  const member = world.start();
  for (const [ID, ttlSeconds] of ttls) {
    const value = { $typeName: "etcdserverpb.LeaseGrantRequest", ID, TTL: BigInt(ttlSeconds) } as const;
    member.write({ case: "leaseGrant", value }).catch(() => {});
  }
  world.clock.run(1_000);
  return { world, member, service: new LeaseService(member) };
}

test("a few leases are listed at once, many with pauses: each once, the ones that end first in front", () => {
  for (const count of [3, 7_001]) {
    const { world, member, service } = granted(
      Array.from({ length: count }, (_, i) => [BigInt(i + 1), 10_000 - ((i * 31) % count)]),
    );
    const expected = Array.from({ length: count }, (_, i) => i + 1).sort(
      (a, b) => (((b - 1) * 31) % count) - (((a - 1) * 31) % count),
    );
    const breath = spyOn(member, "soon");
    const answer = world.clock.settle(service.leaseLeases(undefined, new FakeCall()));
    const { header, leases } = decodeAnswer(LeaseLeasesResponseSchema, answer);
    expect(leases.map(({ ID }) => Number(ID))).toEqual(expected);
    expect(header?.memberId).toBe(member.id);
    expect(breath.mock.calls.length).toBe(count === 3 ? 0 : 10);
    expect(answer instanceof EncodedMessage).toBe(count !== 3);
    breath.mockRestore();
    world.clock.settle(member.stop());
  }
});

test("the keys of a lease are told, also when there are very many", () => {
  for (const count of [3, 5_000]) {
    const { world, member, service } = granted([[7n, 600]]);
    const keys = Array.from({ length: count }, (_, i) => `key-${String(i).padStart(5, "0")}`);
    for (const key of keys) {
      const value = create(PutRequestSchema, { key: Buffer.from(key), lease: 7n });
      member.write({ case: "put", value }).catch(() => {});
    }
    world.clock.run(1_000);
    const request = create(LeaseTimeToLiveRequestSchema, { ID: 7n, keys: true });
    const answer = decodeAnswer(
      LeaseTimeToLiveResponseSchema,
      world.clock.settle(service.leaseTimeToLive(request, new FakeCall())),
    );
    expect(answer).toMatchObject({ ID: 7n, grantedTTL: 600n, TTL: 597n });
    expect(answer.keys.map((key) => Buffer.from(key).toString()).sort()).toEqual(keys);
    const described = world.clock.settle(service.describe(7n, 2));
    expect(described).toMatchObject({ grantedTtlSeconds: 600, moreKeys: true });
    expect(described?.keys).toHaveLength(2);
    world.clock.settle(member.stop());
  }
});
