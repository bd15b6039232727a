/** What `keelson bench` is told. */
import type { Target } from "./http2/connection";

export const workloads = ["put", "range", "txn-put", "watch", "lease-keepalive"] as const;
export type Workload = (typeof workloads)[number];

export interface BenchOptions {
  readonly workload: Workload;
  readonly targets: readonly Target[];
  /** Concurrent callers, spread over the connections. */
  readonly clients: number;
  readonly connections: number;
  /** Calls that each client has open at once. */
  readonly inFlight: number;
  readonly keyPrefix: string;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Different keys; 1 is always the same key. */
  readonly keySpace: number;
  readonly order: "sequential" | "random";
  readonly seed: number;
  /** Stop after so many operations ... */
  readonly total: number | undefined;
  /** ... or after this time. Exactly one of both is given. */
  readonly durationMs: number | undefined;
  /** The same load for this long first, none of which is measured. */
  readonly warmUpMs: number | undefined;
  /** Operations per second in all; undefined is as fast as it goes. */
  readonly ratePerSecond: number | undefined;
  /** Keys in one range. */
  readonly rangeKeys: number;
  readonly serializable: boolean;
  /** Write the key space before measuring ranges; else it is there already. */
  readonly prepare: boolean;
  readonly watchers: number;
  readonly leaseTtlSeconds: number;
  readonly probe: boolean;
  readonly revisionCheck: boolean;
  readonly json: boolean;
  readonly progress: boolean;
}
