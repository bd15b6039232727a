// oxlint-disable unicorn/require-post-message-target-origin -- the other side is a thread, not a window
/**
 * Runs in a Worker with a connection of its own: one tiny serializable range every few milliseconds, one at a
 * time. The longest that one waited is how long the server stood still, whatever the load generator's own event
 * loop was doing.
 */
import { create, toBinary } from "@bufbuild/protobuf";

import { RangeRequestSchema } from "../../proto/gen/etcd/rpc_pb";
import { Connection, type Target } from "./http2/connection";
import type { ProbeReport } from "./probe";
import { methodPaths } from "./requests";

declare const self: Worker;

const intervalMs = 5;
const request = toBinary(
  RangeRequestSchema,
  create(RangeRequestSchema, { key: Buffer.from("\0keelson-bench"), serializable: true, countOnly: true }),
);

async function probe(target: Target): Promise<void> {
  const report: ProbeReport = { longestStallMs: 0, stalledAtMs: 0, probes: 0, failed: 0 };
  const connection = await Connection.open(target);
  const startMs = performance.now();
  let sentAtMs: number | undefined;
  const observe = (nowMs: number): void => {
    if (sentAtMs === undefined || nowMs - sentAtMs <= report.longestStallMs) return;
    report.longestStallMs = nowMs - sentAtMs;
    report.stalledAtMs = sentAtMs - startMs;
  };
  const handler = {
    message: () => {},
    end: (code: number) => {
      observe(performance.now());
      sentAtMs = undefined;
      report.probes++;
      if (code !== 0) report.failed++;
    },
  };
  const timer = setInterval(() => {
    if (sentAtMs !== undefined) return;
    sentAtMs = performance.now();
    connection.call(methodPaths.range, request, handler);
  }, intervalMs);
  self.addEventListener("message", () => {
    clearInterval(timer);
    observe(performance.now());
    self.postMessage({ kind: "report", report });
    connection.close();
  });
  self.postMessage({ kind: "ready" });
}

self.addEventListener(
  "message",
  (event: MessageEvent<Target>) => {
    probe(event.data).catch((error: unknown) => {
      self.postMessage({ kind: "failed", reason: error instanceof Error ? error.message : String(error) });
    });
  },
  { once: true },
);
