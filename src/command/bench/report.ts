/** What a run found, for people and for machines. */
import { codeName } from "./client";
import type { Histogram } from "./histogram";
import type { BenchResult } from "./run";

/** Above this share of a core the generator may be what limits the result. */
const saturatedShare = 0.9;
const barWidth = 40;

/** True when every check of the run passed. */
export function passed(result: BenchResult): boolean {
  const { measurement, revision, watch, gaveUp } = result;
  const allFailed = measurement.succeeded === 0 && measurement.failed > 0;
  return !gaveUp && !allFailed && revision?.passed !== false && watch?.passed !== false;
}

const milliseconds = (value: number): string => value.toFixed(value < 10 ? 3 : value < 1000 ? 1 : 0);
const perSecond = (count: number, elapsedMs: number): number =>
  elapsedMs > 0 ? (count / elapsedMs) * 1000 : 0;
const share = (result: BenchResult): number => {
  const spanMs = Math.max(result.elapsedMs, result.watch?.deliveryMs ?? 0);
  return spanMs > 0 ? result.generatorCpuMs / spanMs : 0;
};

function latencyNumbers(latency: Histogram): Record<string, number> {
  return {
    min: latency.minMs,
    mean: latency.meanMs,
    p50: latency.percentileMs(50),
    p90: latency.percentileMs(90),
    p99: latency.percentileMs(99),
    p99_9: latency.percentileMs(99.9),
    max: latency.maxMs,
  };
}

function latencyLines(title: string, latency: Histogram): string[] {
  if (latency.count === 0) return [];
  const numbers = Object.entries(latencyNumbers(latency))
    .map(([name, value]) => `${name.replace("_", ".")} ${milliseconds(value)}`)
    .join("   ");
  const rows = latency.byDoubling();
  const most = Math.max(...rows.map(({ count }) => count));
  const lines = rows.map(({ fromMs, toMs, count }) => {
    const bar = "#".repeat(count === 0 ? 0 : Math.max(1, Math.round((count / most) * barWidth)));
    return `  ${milliseconds(fromMs).padStart(9)} - ${milliseconds(toMs).padStart(8)} ms  ${bar.padEnd(barWidth)}  ${count}`;
  });
  return [`${title} in ms`, `  ${numbers}`, "", ...lines, ""];
}

/** The report for people; lines end with a newline. */
export function textReport(result: BenchResult): string {
  const { options, measurement, elapsedMs, probe, revision, watch } = result;
  const lines: string[] = [
    `${options.workload}: ${options.clients} clients on ${options.connections} connections, ` +
      `${options.inFlight} in flight each, ${options.valueBytes} B values, ` +
      (options.keySpace === 1 ? "one key" : `${options.keySpace} keys, ${options.order}`),
    `${measurement.succeeded} operations in ${(elapsedMs / 1000).toFixed(2)} s: ` +
      `${perSecond(measurement.succeeded, elapsedMs).toFixed(0)} /s, ${measurement.failed} failed`,
    "",
    ...latencyLines("latency", measurement.latency),
  ];
  if (watch !== undefined) {
    lines.push(
      `${watch.delivered} events to ${options.watchers} watchers in ${(watch.deliveryMs / 1000).toFixed(2)} s: ` +
        `${perSecond(watch.delivered, watch.deliveryMs).toFixed(0)} events/s`,
      "",
      ...latencyLines("put to event", watch.latency),
    );
  }
  for (const { code, text, count } of [...measurement.errors.values()].sort((a, b) => b.count - a.count)) {
    lines.push(`error: ${count} x ${codeName(code)}: ${text}`);
  }
  if (probe !== undefined) {
    lines.push(
      `longest stall  ${milliseconds(probe.longestStallMs)} ms, ${(probe.stalledAtMs / 1000).toFixed(1)} s after the start ` +
        `(the longest wait of ${probe.probes} small reads, one every 5 ms)`,
    );
  }
  lines.push(
    `generator CPU  ${(share(result) * 100).toFixed(0)} % of a core${saturated(result) ? "; it may be the limit" : ""}`,
  );
  if (watch !== undefined) {
    const wanted =
      watch.expectedMin === watch.expectedMax
        ? `${watch.expectedMin}`
        : `${watch.expectedMin} to ${watch.expectedMax}`;
    lines.push(
      watch.passed
        ? `events         ok: all ${watch.delivered} arrived`
        : `events         FAIL: ${watch.delivered} arrived instead of ${wanted}${watch.failure ? `; ${watch.failure}` : ""}`,
    );
  }
  if (revision !== undefined) {
    const advanced = revision.after - revision.before;
    const wanted =
      revision.expectedMin === revision.expectedMax
        ? `${revision.expectedMin}`
        : `${revision.expectedMin} to ${revision.expectedMax}`;
    lines.push(
      revision.passed
        ? `revision       ok: advanced by ${advanced}, to ${revision.after}`
        : `revision       FAIL: advanced by ${advanced} instead of ${wanted}; either a write was lost or invented, or somebody else wrote`,
    );
  }
  if (result.gaveUp) lines.push("FAIL: gave up, because nothing was answered any more");
  return `${lines.join("\n")}\n`;
}

function saturated(result: BenchResult): boolean {
  return share(result) >= saturatedShare;
}

/** The report for machines: one JSON object. */
export function jsonReport(result: BenchResult): Record<string, unknown> {
  const { options, measurement, elapsedMs, probe, revision, watch } = result;
  return {
    workload: options.workload,
    clients: options.clients,
    connections: options.connections,
    inFlight: options.inFlight,
    keySpace: options.keySpace,
    valueBytes: options.valueBytes,
    passed: passed(result),
    elapsedMs,
    warmUpOperations: result.warmUpOperations,
    succeeded: measurement.succeeded,
    failed: measurement.failed,
    indefinite: measurement.indefinite,
    perSecond: perSecond(measurement.succeeded, elapsedMs),
    latencyMs: latencyNumbers(measurement.latency),
    histogram: measurement.latency.byDoubling(),
    errors: [...measurement.errors.values()].map(({ code, text, count }) => ({
      code,
      name: codeName(code),
      text,
      count,
    })),
    ...(probe !== undefined && { probe }),
    generatorCpuShare: share(result),
    generatorSaturated: saturated(result),
    ...(watch !== undefined && {
      watch: {
        watchers: options.watchers,
        delivered: watch.delivered,
        expectedMin: watch.expectedMin,
        expectedMax: watch.expectedMax,
        passed: watch.passed,
        eventsPerSecond: perSecond(watch.delivered, watch.deliveryMs),
        latencyMs: latencyNumbers(watch.latency),
      },
    }),
    ...(revision !== undefined && {
      revision: {
        before: Number(revision.before),
        after: Number(revision.after),
        expectedMin: revision.expectedMin,
        expectedMax: revision.expectedMax,
        passed: revision.passed,
      },
    }),
    gaveUp: result.gaveUp,
  };
}
