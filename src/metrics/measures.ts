/** What the console shows of a member beyond what the member knows itself: read from the series, the system, the flags. */
import type { ServerOptions } from "../command/options";
import { quotaBytesDefault } from "../limits";
import type { Disk } from "../member/ports";
import type { Measures, Posture } from "../service/member-status";
import type { Buckets } from "../service/series";
import { Histogram } from "./instruments";
import type { Metrics } from "./metrics";

const diskLookMs = 5_000;
const memoryLookMs = 1_000;

/** Answers with what was read last while that is younger than `ageMsMax`. */
function seldom<Value>(ageMsMax: number, read: () => Value): () => Value {
  let readAtMs = Number.NEGATIVE_INFINITY;
  let value: Value;
  return () => {
    const nowMs = performance.now();
    if (nowMs - readAtMs >= ageMsMax) {
      readAtMs = nowMs;
      value = read();
    }
    return value;
  };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

function postureOf(options: ServerOptions): Posture {
  const endpoints = [...options.listenClientEndpoints, ...options.listenClientHttpEndpoints];
  return {
    clientTls: endpoints.every(({ scheme }) => scheme === "https"),
    peerTls: options.listenPeerEndpoints.every(({ scheme }) => scheme === "https"),
    adminToken: options.adminTokenFile !== undefined,
    loopbackOnly: endpoints.every(({ host }) => isLoopback(host)),
  };
}

/** Flags whose default does what its text, which is etcd's, does not say. */
const defaultsInWords: Readonly<Record<string, string>> = {
  cors: "this server's own pages",
  "host-whitelist": "addresses, private names and own names",
  "quota-backend-bytes": `${quotaBytesDefault}`,
};

/** The measures of one process. `requests` takes the duration of each unary call, in seconds. */
export function consoleMeasures(
  options: ServerOptions,
  metrics: Metrics,
  disk: Disk,
  requests: Histogram,
  roundTripMs: Measures["roundTripMs"],
): Measures {
  const settings = Object.entries(options.effectiveFlags).map(([name, value]) => ({
    name,
    value: options.settingOrigins[name] === undefined ? (defaultsInWords[name] ?? value) : value,
    from: options.settingOrigins[name],
  }));
  return {
    settings,
    posture: postureOf(options),
    requests: () => requests,
    fsyncs: () => metrics.wal.fsync,
    applies: () => summed(metrics),
    longestStallMs: () => metrics.keelson.longestStall.value * 1_000,
    memoryBytes: seldom(memoryLookMs, () => process.memoryUsage.rss()),
    diskFreeBytes: seldom(diskLookMs, () => {
      try {
        return disk.freeBytes(options.dataDirectory);
      } catch {
        return undefined;
      }
    }),
    roundTripMs,
    wallMs: () => Date.now(),
  };
}

/** All operations together. */
function summed(metrics: Metrics): Buckets {
  let total: Histogram | undefined;
  for (const [, { bounds, counts }] of metrics.server.applyDuration.entries()) {
    total ??= new Histogram(bounds);
    for (let bucket = 0; bucket < counts.length; bucket++) total.counts[bucket]! += counts[bucket]!;
  }
  return total ?? new Histogram(new Float64Array(0));
}
