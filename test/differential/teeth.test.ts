/** The comparison itself: it must see what it is there to see. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "bun:test";
import { RangeResponseSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { canonical, withoutLeaseTimes } from "./canonical";
import { Generator } from "./generator";
import { differences } from "./harness";
import { describeStep } from "./steps";

const answer = (revision: bigint, value: string): unknown =>
  canonical(
    create(RangeResponseSchema, {
      header: { clusterId: 7n, memberId: 9n, revision, raftTerm: 2n },
      kvs: [{ key: Buffer.from("a"), value: Buffer.from(value), modRevision: 3n }],
      count: 1n,
    }),
  );

test("answers that differ only in ids and term are equal", () => {
  const other = canonical(
    create(RangeResponseSchema, {
      header: { clusterId: 1n, memberId: 2n, revision: 5n, raftTerm: 40n },
      kvs: [{ key: Buffer.from("a"), value: Buffer.from("x"), modRevision: 3n }],
      count: 1n,
    }),
  );
  expect(differences(answer(5n, "x"), other)).toEqual([]);
});

test("another revision, another value, a missing header and a missing id are seen", () => {
  expect(differences(answer(5n, "x"), answer(6n, "x"))).toEqual(['header.revision: "5" | "6"']);
  expect(differences(answer(5n, "x"), answer(5n, "y"))).toEqual(['kvs.0.value: "x" | "y"']);
  const headless = canonical(create(RangeResponseSchema, { count: 1n }));
  expect(differences(answer(5n, "x"), headless)).not.toEqual([]);
  const noMember = canonical(create(RangeResponseSchema, { header: { clusterId: 1n, raftTerm: 1n } }));
  expect(JSON.stringify(noMember)).toContain('"memberId":"unset"');
});

test("large values that differ in one byte are seen", () => {
  const [a, b] = [new Uint8Array(5000).fill(1), new Uint8Array(5000).fill(1)];
  b[2500] = 2;
  expect(differences(canonical(a), canonical(b))).toHaveLength(1);
});

test("a lease's remaining time may differ, but not whether it lives, nor what it was granted", () => {
  const lease = (ttl: string, granted: string): unknown =>
    withoutLeaseTimes({ TTL: ttl, grantedTTL: granted, keys: ["b", "a"] });
  expect(differences(lease("300", "301"), lease("299", "301"))).toEqual([]);
  expect(differences(lease("300", "301"), lease("-1", "301"))).not.toEqual([]);
  expect(differences(lease("300", "301"), lease("300", "300"))).not.toEqual([]);
});

test("a seed draws the same steps each time, and covers every kind of step", () => {
  const draw = (seed: number): string[] => {
    const generator = new Generator(seed, { revision: 50n, compacted: 10n });
    return Array.from({ length: 3000 }, () => describeStep(generator.next()));
  };
  const steps = draw(1);
  expect(draw(1)).toEqual(steps);
  expect(draw(2)).not.toEqual(steps);
  const words = [
    "grpc Put",
    "gateway Put",
    "grpc Range",
    "gateway Txn",
    "DeleteRange",
    "Compact",
    "LeaseGrant",
  ];
  words.push(
    "LeaseRevoke",
    "LeaseTimeToLive",
    "LeaseLeases",
    "HashKV",
    "Alarm",
    '"watch"',
    '"cancel"',
    '"reopen"',
  );
  words.push('"keep-alive"', '"settle"', '"http"', '"raw-grpc"', "requestTxn", "rangeEnd");
  for (const word of words) expect(steps.some((step) => step.includes(word))).toBe(true);
});
