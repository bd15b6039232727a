/**
 * What a seed chooses: the shape of the cluster, of its network and disks, of the load, and which families of faults
 * occur at all. Each family is off for the whole run in about half of the runs, so that quiet combinations are
 * explored too.
 */
import { SeededRng } from "../../src/rng";
import type { MemberBounds } from "../../src/member/options";
import type { LinkOptions } from "./links";

/** Families of faults, with what one of them is. */
export const faultFamilies = [
  /** A process is killed and started again. */
  "crash",
  /** Power fails at one member, at several, or at all. */
  "powerCut",
  /** A process stands still while time goes on. */
  "pause",
  /** Members cannot reach each other, in some shape. */
  "partition",
  /** Single links fail for moments. */
  "flap",
  /** Links hold everything back and then release it. */
  "clog",
  /** Syncs take long. */
  "slowDisk",
  /** The log's disk is full for a while. */
  "fullDisk",
  /** Members come and go. */
  "membership",
  /** Leadership is handed over on purpose. */
  "transfer",
  /** Wall clocks jump. */
  "wallClock",
  /** Processes stop in good order and are started again. */
  "stop",
] as const;
export type FaultFamily = (typeof faultFamilies)[number];

export interface WorkloadOptions {
  /** Requests that arrive per virtual second. */
  readonly operationsPerSecond: number;
  readonly clients: number;
  /** Clients stay with one member, as opposed to asking another one each time. */
  readonly fixedMembers: boolean;
  readonly keys: number;
  /** Of 1,000 requests: how many go to the first three keys. */
  readonly hotPermille: number;
  /** How often each kind is drawn, in proportion. */
  readonly weights: Readonly<Record<OperationKind, number>>;
  readonly watchStreams: number;
  readonly watchersPerStream: number;
  /** Messages that a slow reader takes before it pauses; Infinity: none is slow. */
  readonly watchCapacity: number;
  readonly leases: number;
  readonly leaseTtlSecondsMax: number;
}

export const operationKinds = [
  "put",
  "get",
  "getSerializable",
  "range",
  "rangePast",
  "delete",
  "deleteRange",
  "compareAndSet",
  "txn",
  "txnRead",
  "compact",
  "leaseGrant",
  "leaseRevoke",
  "leaseKeepAlive",
  "leaseTimeToLive",
] as const;
export type OperationKind = (typeof operationKinds)[number];

export interface SimulationOptions {
  readonly seed: number;
  /** Virtual seconds under faults, the beginning included. */
  readonly seconds: number;
  readonly voters: number;
  readonly heartbeatIntervalMs: number;
  readonly electionTimeoutMs: number;
  readonly preVote: boolean;
  /** By how many per cent monotonic clocks may differ from virtual time. */
  readonly clockRateSpreadPercent: number;
  readonly link: LinkOptions;
  readonly syncMeanMs: number;
  /** Of an event loop: what comes within it is handled together. */
  readonly turnMs: number;
  readonly logSegmentBytes: number;
  readonly bounds: MemberBounds;
  readonly checkpointEntries: number;
  readonly catchupEntries: number;
  readonly compactionBatchRows: number;
  readonly applyCommitIntervalMs: number;
  readonly watchProgressIntervalMs: number;
  readonly leaseCheckpoints: boolean;
  /** Mean time between two faults of a family, in milliseconds; absent: the family is off. */
  readonly faults: Partial<Readonly<Record<FaultFamily, number>>>;
  readonly workload: WorkloadOptions;
}

/** What may be given on the command line in place of what the seed says. */
export interface Overrides {
  readonly without?: readonly FaultFamily[];
  readonly only?: readonly FaultFamily[];
}

export function drawOptions(seed: number, seconds: number, overrides: Overrides = {}): SimulationOptions {
  const rng = new SeededRng(seed).fork(77);
  const pick = <Item>(items: readonly Item[]): Item => items[rng.below(items.length)]!;
  const electionTicks = pick([5, 8, 10, 10, 15]);
  const heartbeatIntervalMs = pick([50, 100, 100, 100, 150]);
  const delayMeanMs = pick([0, 0.5, 1, 2, 5, 15]);
  const noisy = rng.below(2) === 0;
  const link: LinkOptions = {
    delayMinMs: pick([0.1, 0.2, 1, 3]),
    delayMeanMs,
    lossPermille: noisy ? pick([0, 1, 5, 20, 100]) : 0,
    repeatPermille: noisy ? pick([0, 1, 10, 100]) : 0,
    overtakePermille: noisy ? pick([0, 0, 10, 100, 300]) : 0,
    capacity: pick([20, 500, 5_000]),
    pieceBytes: pick([4_096, 30_000, 1_000_000]),
  };
  const faults: Partial<Record<FaultFamily, number>> = {};
  for (const family of faultFamilies) {
    // Drawn in any case, so that leaving a family out changes nothing else.
    const off = rng.below(2) === 0;
    const meanMs = pick([3_000, 6_000, 12_000, 24_000]);
    const wanted = overrides.only === undefined ? !off : overrides.only.includes(family);
    if (wanted && overrides.without?.includes(family) !== true) faults[family] = meanMs;
  }
  const often = (weight: number): number => (rng.below(3) === 0 ? 0 : 1 + rng.below(weight));
  const weights: Record<OperationKind, number> = {
    put: 20 + rng.below(30),
    get: 10 + rng.below(30),
    getSerializable: often(10),
    range: often(10),
    rangePast: often(5),
    delete: often(8),
    deleteRange: often(3),
    compareAndSet: often(20),
    txn: often(10),
    txnRead: often(5),
    compact: pick([0, 0, 1]),
    leaseGrant: often(2),
    leaseRevoke: often(1),
    leaseKeepAlive: often(8),
    leaseTimeToLive: often(2),
  };
  return {
    seed,
    seconds,
    voters: pick([1, 2, 3, 3, 3, 3, 3, 3, 4, 5]),
    heartbeatIntervalMs,
    electionTimeoutMs: heartbeatIntervalMs * electionTicks,
    preVote: rng.below(5) > 0,
    clockRateSpreadPercent: pick([0, 0, 1, 10, 20]),
    link,
    // Of its own generator, like whatever is added, so that the rest of a seed stays what it was.
    turnMs: [0.001, 0.1, 0.3, 0.5][new SeededRng(seed).fork(78).below(4)]!,
    syncMeanMs: pick([0.2, 0.5, 1, 3, 10]),
    logSegmentBytes: pick([8, 16, 64, 256]) * 1024,
    bounds: {
      checkpointPauseMs: pick([500, 2_000, 5_000]),
      logTailBytes: pick([1, 2_000, 100_000, 4_000_000]),
      appendBytes: pick([600, 5_000, 1_000_000]),
      inflightMessages: pick([2, 8, 256]),
    },
    checkpointEntries: pick([50, 200, 1_000, 10_000]),
    catchupEntries: pick([0, 5, 50, 500]),
    compactionBatchRows: pick([10, 100, 1_000]),
    applyCommitIntervalMs: pick([5, 20, 100, 200]),
    watchProgressIntervalMs: pick([500, 2_000, 600_000]),
    leaseCheckpoints: rng.below(3) === 0,
    faults,
    workload: {
      operationsPerSecond: 320 + rng.below(60),
      clients: pick([16, 32, 64, 128]),
      fixedMembers: rng.below(3) > 0,
      keys: pick([5, 10, 20, 40]),
      hotPermille: pick([0, 300, 700]),
      weights,
      watchStreams: pick([0, 1, 2, 4]),
      watchersPerStream: pick([1, 2, 5]),
      watchCapacity: pick([1, 3, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]),
      leases: pick([0, 3, 10]),
      leaseTtlSecondsMax: pick([2, 5, 10]),
    },
  };
}
