import { expect, test } from "bun:test";
import type { Raft } from "../consensus/raft";
import type { Entry, Ready } from "../consensus/types";
import type { DurableLog } from "../storage/wal/types";
import { ConsensusLoop, type LoopHost } from "./loop";
import type { Clock, Peers } from "./ports";

const nothing: Ready = {
  hardState: undefined,
  mustSync: false,
  entries: [],
  persist: undefined,
  sendNow: [],
  sendAfterPersist: [],
  committed: [],
  reads: [],
  abandonedReads: [],
  wanted: [],
  snapshotWanted: false,
  install: undefined,
  stateChanged: false,
};

test("entries that each take long to apply let other work in after a few", () => {
  const committed = Array.from({ length: 40 }, (_, i): Entry => {
    return { term: 1, index: i + 1, kind: "command", data: new Uint8Array(1) };
  });
  const readies: Ready[] = [{ ...nothing, committed }];
  const raft = {
    hasReady: () => readies.length > 0,
    ready: () => readies.shift()!,
    appliedTo: () => {},
  } as unknown as Raft;
  let nowMs = 0;
  const turns: (() => void)[] = [];
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => 0,
    after: () => () => {},
    soon: (callback) => void turns.push(callback),
  };
  const applied: number[] = [];
  const host = {
    handIn() {},
    apply: () => {
      nowMs += 2;
      return "done";
    },
    applied: (index: number) => applied.push(index),
    fatal: (error: unknown) => expect(error).toBeUndefined(),
  } as unknown as LoopHost;
  const loop = new ConsensusLoop(raft, {} as DurableLog, clock, {} as Peers, host);
  loop.wake();
  for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) turn();
  expect(applied).toEqual(Array.from({ length: 20 }, (_, i) => 2 * (i + 1)));
  expect(loop.backlog).toBe(0);
});
