import { expect, test } from "bun:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import {
  LeaseGrantRequestSchema,
  LeaseGrantResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { RevisionChanges } from "../../src/state/types";
import type { History, Operation } from "./history";
import { checkLeases } from "./leases";
import { compareMembers } from "./members";

const common = { client: 1, member: "m1" };
const key = Buffer.from("held");
const put = toBinary(
  KeyValueSchema,
  create(KeyValueSchema, { key, modRevision: 2n, createRevision: 2n, version: 1n, lease: 7n }),
);
const gone = toBinary(KeyValueSchema, create(KeyValueSchema, { key, modRevision: 3n }));

function log(ended: boolean): RevisionChanges[] {
  const changes: RevisionChanges[] = [
    { revision: 2, changes: [{ type: "put", key: "held", revision: 2, sub: 0, created: true, record: put }] },
  ];
  if (ended) {
    changes.push({
      revision: 3,
      changes: [{ type: "delete", key: "held", revision: 3, sub: 0, created: false, record: gone }],
    });
  }
  return changes;
}

function renewal(id: number, callAt: number, ttl: bigint): Operation {
  const reply = create(LeaseKeepAliveResponseSchema, { ID: 7n, TTL: ttl, header: { revision: 2n } });
  const request = create(LeaseKeepAliveRequestSchema, { ID: 7n });
  return {
    ...common,
    id,
    kind: "leaseKeepAlive",
    request,
    callAt,
    returnAt: callAt + 1,
    outcome: { kind: "replied", reply },
  };
}

/** A lease of 2 s granted at 0, renewed at the given times, in milliseconds. */
function verdict(
  renewals: readonly (readonly [at: number, ttl: bigint])[],
  goneAt: number | undefined,
  endAt = 60_000,
  disturbedUntil = 0,
): string {
  const grant: Operation = {
    ...common,
    id: 0,
    kind: "leaseGrant",
    request: create(LeaseGrantRequestSchema, { ID: 7n, TTL: 2n }),
    callAt: 0,
    returnAt: 1,
    outcome: {
      kind: "replied",
      reply: create(LeaseGrantResponseSchema, { ID: 7n, TTL: 2n, header: { revision: 1n } }),
    },
  };
  const history: History = {
    operations: [grant, ...renewals.map(([at, ttl], index) => renewal(index + 1, at, ttl))],
    log: log(goneAt !== undefined),
  };
  const sightings = goneAt === undefined ? [] : [{ revision: 3, at: goneAt }];
  return checkLeases(history, {
    unitsPerSecond: 1_000,
    lateSeconds: 3,
    endAt,
    sightings,
    disturbedUntil,
  }).problems.join();
}

test("leases end neither early nor late, and do not rise again", () => {
  expect(verdict([], 2_100)).toBe("");
  expect(verdict([], 1_900)).toMatch(/too early/);
  expect(verdict([[1_500, 2n]], 3_600)).toBe("");
  expect(verdict([[1_500, 2n]], 2_500)).toMatch(/1.00 s too early/);
  expect(verdict([], 9_000)).toMatch(/should have been gone/);
  expect(verdict([], 9_000, 60_000, 5_000)).toBe("");
  expect(verdict([], undefined)).toMatch(/lived at the end/);
  expect(verdict([], undefined, 4_000)).toBe("");
  expect(verdict([[3_000, 0n]], 2_100)).toBe("");
  expect(verdict([[3_000, 2n]], 2_100)).toMatch(/renewed after that/);
});

test("members are compared by revision and hash", () => {
  const state = (member: string, revision: number, hash: number, compactRevision = 5) => ({
    member,
    revision,
    compactRevision,
    hash,
  });
  expect(compareMembers([state("a", 9, 1), state("b", 9, 1)]).problems).toEqual([]);
  expect(compareMembers([state("a", 9, 1), state("b", 9, 2)]).problems.join()).toMatch(/members differ/);
  expect(compareMembers([state("a", 9, 1), state("b", 8, 1)]).problems.join()).toMatch(/different revisions/);
  expect(compareMembers([state("a", 9, 1), state("b", 9, 2, 6)]).problems).toEqual([]);
});
