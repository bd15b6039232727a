import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import { WatchCreateRequestSchema, WatchResponseSchema } from "../../src/proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../src/rng";
import type { RevisionChanges } from "../../src/state/types";
import { randomHistory } from "./random-history";
import { checkWatchStream, RecordedTruth, type WatchMessage } from "./watches";

const { log } = randomHistory(new SeededRng(3), { operations: 300, clients: 3, keys: 4, unknownOneIn: 10 });
const truth = new RecordedTruth(log, 0);
const request = create(WatchCreateRequestSchema, {
  key: Buffer.from("\0"),
  rangeEnd: Buffer.from("\0"),
  startRevision: 2n,
  prevKv: true,
});

function eventsOf({ changes }: RevisionChanges) {
  return changes.map(({ type, key, revision, record }) => {
    const before = truth.recordBefore(key, revision);
    return {
      type: type === "put" ? 0 : 1,
      kv: fromBinary(KeyValueSchema, record),
      ...(before === undefined ? {} : { prevKv: fromBinary(KeyValueSchema, before) }),
    };
  });
}

function stream(revisions: readonly RevisionChanges[], live = true) {
  const header = { revision: BigInt(truth.revision) };
  const messages: WatchMessage[] = [
    { kind: "asked", request, at: 0 },
    { kind: "received", at: 1, response: create(WatchResponseSchema, { header, created: true }) },
    ...revisions.map((entry, index) => ({
      kind: "received" as const,
      at: index + 2,
      response: create(WatchResponseSchema, { header, events: eventsOf(entry) }),
    })),
  ];
  return checkWatchStream({ client: 1, member: "m1", live, messages }, truth).problems.join();
}

test("a complete stream passes; one that lost, repeated, reordered or cut something does not", () => {
  expect(stream(log)).toBe("");
  expect(stream(log.toSpliced(7, 1))).toMatch(/watch of client 1 at m1/);
  expect(stream([...log.slice(0, 5), log[4]!, ...log.slice(5)])).not.toBe("");
  expect(stream([...log.slice(0, 5), log[6]!, log[5]!, ...log.slice(7)])).not.toBe("");
  const several = log.findIndex(({ changes }) => changes.length > 1);
  const cut = { ...log[several]!, changes: log[several]!.changes.slice(1) };
  expect(stream(log.with(several, cut))).not.toBe("");
});

test("the tail counts only while the stream is open", () => {
  expect(stream(log.slice(0, -1))).toMatch(/never saw revision/);
  expect(stream(log.slice(0, -1), false)).toBe("");
});
