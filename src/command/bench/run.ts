/** One run: connect, prepare, measure, check. */
import { openConnections, storeRevision } from "./client";
import type { Connection } from "./http2/connection";
import { runLeaseLoad } from "./lease-load";
import { Measurement, Pace } from "./measurement";
import type { BenchOptions } from "./options";
import { type ProbeReport, startProbe } from "./probe";
import { keyChooser, requestTemplate, RequestTemplate } from "./requests";
import { runUnaryLoad } from "./unary-load";
import { timeBytes, Watchers, writeTime } from "./watch-load";

/** How long nothing may be answered before a run is given up. */
const patienceMs = 30_000;

export interface RevisionCheck {
  readonly before: bigint;
  readonly after: bigint;
  /** What the revision must have advanced by: between these two, which differ by what failed indefinitely. */
  readonly expectedMin: number;
  readonly expectedMax: number;
  readonly passed: boolean;
}

export interface BenchResult {
  readonly options: BenchOptions;
  readonly measurement: Measurement;
  readonly elapsedMs: number;
  /** Operations that succeeded before it was measured. */
  readonly warmUpOperations: number;
  /** User and system time of this process while it measured. */
  readonly generatorCpuMs: number;
  readonly probe: ProbeReport | undefined;
  readonly revision: RevisionCheck | undefined;
  readonly watch: WatchResult | undefined;
  /** Nothing was answered for so long that the run was given up. */
  readonly gaveUp: boolean;
}

export interface WatchResult {
  /** What the successful puts must have delivered, and what those that failed indefinitely may add. */
  readonly expectedMin: number;
  readonly expectedMax: number;
  readonly passed: boolean;
  readonly delivered: number;
  readonly deliveryMs: number;
  readonly latency: Watchers["latency"];
  readonly failure: string | undefined;
}

/** The phase in which the load is not measured. */
export const warmingUp = "warming up";

/** Hears how far the run is. */
export type Progress = (
  phase: string,
  finished: number,
  total: number | undefined,
  perSecond: number,
) => void;

/** Runs the benchmark; rejects with a plain Error when it cannot begin. `interrupted` ends it early but orderly. */
export async function runBenchmark(
  options: BenchOptions,
  progress: Progress,
  interrupted: AbortSignal,
): Promise<BenchResult> {
  const connections = await openConnections(options.targets, options.connections);
  try {
    return await measure(options, connections, progress, interrupted);
  } finally {
    for (const connection of connections) connection.close();
  }
}

async function measure(
  options: BenchOptions,
  connections: readonly Connection[],
  progress: Progress,
  interrupted: AbortSignal,
): Promise<BenchResult> {
  const first = connections[0]!;
  if (options.workload === "range" && options.prepare) await prepareKeys(options, connections, progress);
  const watchers = options.workload === "watch" ? new Watchers() : undefined;
  const watchConnections =
    watchers === undefined ? [] : await openConnections(options.targets, options.connections);
  try {
    await watchers?.open(watchConnections, options);
    const warm = await warmUp(options, connections, progress, interrupted);
    const writes = options.workload !== "range" && options.workload !== "lease-keepalive";
    const before = options.revisionCheck ? await storeRevision(first) : undefined;
    const probe = options.probe ? await startProbe(options.targets[0]!) : undefined;

    const measurement = new Measurement();
    const cpuBefore = process.cpuUsage();
    const beginMs = performance.now();
    const guard = new Guard(measurement, options, "measuring", progress, interrupted);
    const gaveUp = await guard.run(load(options, connections, measurement, guard));
    const elapsedMs = guard.pace?.elapsedMs ?? performance.now() - beginMs;

    const watch = watchers && (await watchResult(options, watchers, measurement, beginMs));
    const cpu = process.cpuUsage(cpuBefore);
    const probeReport = await probe?.stop();
    const revision =
      before === undefined || gaveUp
        ? undefined
        : revisionCheck(before, await storeRevision(first), writes ? { measurement, warm } : undefined);
    const generatorCpuMs = (cpu.user + cpu.system) / 1000;
    return {
      options,
      measurement,
      elapsedMs,
      warmUpOperations: warm.succeeded,
      generatorCpuMs,
      probe: probeReport,
      revision,
      watch,
      gaveUp,
    };
  } finally {
    watchers?.close();
    for (const connection of watchConnections) connection.close();
  }
}

/** Writes every key once, so that ranges find what they ask for. */
async function prepareKeys(
  options: BenchOptions,
  connections: readonly Connection[],
  progress: Progress,
): Promise<void> {
  const measurement = new Measurement();
  const pace = new Pace({ total: options.keySpace, durationMs: undefined, ratePerSecond: undefined });
  const timer = setInterval(() => progress("writing keys", measurement.finished, options.keySpace, 0), 100);
  try {
    await runUnaryLoad({
      connections,
      clients: connections.length,
      inFlight: Math.max(1, Math.ceil(256 / connections.length)),
      template: requestTemplate("put", options),
      chooseKey: keyChooser({ ...options, order: "sequential" }, options.keySpace),
      answerBytesMin: 0,
      pace,
      measurement,
    });
  } finally {
    clearInterval(timer);
  }
  const [error] = measurement.errors.values();
  if (error !== undefined) throw new Error(`the keys could not be written: ${error.text}`);
}

/** The same load, measured for nobody: runtimes on both sides compile what is hot meanwhile. */
async function warmUp(
  options: BenchOptions,
  connections: readonly Connection[],
  progress: Progress,
  interrupted: AbortSignal,
): Promise<Measurement> {
  const measurement = new Measurement();
  if (options.warmUpMs === undefined) return measurement;
  const limits = { ...options, total: undefined, durationMs: options.warmUpMs };
  const guard = new Guard(measurement, limits, warmingUp, progress, interrupted);
  if (await guard.run(load(limits, connections, measurement, guard))) {
    throw new Error("nothing was answered while warming up");
  }
  return measurement;
}

function load(
  options: BenchOptions,
  connections: readonly Connection[],
  measurement: Measurement,
  guard: Guard,
): Promise<void> {
  const { clients, inFlight, workload } = options;
  if (workload === "lease-keepalive") {
    return runLeaseLoad({
      connections,
      clients,
      inFlight,
      ttlSeconds: options.leaseTtlSeconds,
      pace: () => guard.start(),
      measurement,
    });
  }
  const watching = workload === "watch";
  const template = watching ? timedPuts(options) : requestTemplate(workload, options);
  const keys = workload === "range" ? options.keySpace - options.rangeKeys + 1 : options.keySpace;
  const answerBytesMin = workload === "range" ? options.rangeKeys * options.valueBytes : 1;
  return runUnaryLoad({
    connections,
    clients,
    inFlight,
    template,
    chooseKey: keyChooser(options, keys),
    answerBytesMin,
    pace: guard.start(),
    measurement,
  });
}

/** Puts whose values carry the time at which they were sent. */
function timedPuts(options: BenchOptions): RequestTemplate {
  const template = requestTemplate("put", options);
  return new TimedTemplate(template, options.valueBytes);
}

class TimedTemplate extends RequestTemplate {
  constructor(
    private readonly inner: RequestTemplate,
    private readonly valueBytes: number,
  ) {
    super(inner.path, new Uint8Array(0), [], 0);
  }

  override at(index: number): Uint8Array {
    const bytes = this.inner.at(index) as Buffer;
    if (this.valueBytes >= timeBytes) writeTime(bytes, bytes.length - this.valueBytes);
    return bytes;
  }
}

/** Shows progress, and ends a run that is interrupted or gets no answers any more. */
class Guard {
  pace: Pace | undefined;
  #timer: Timer | undefined;

  constructor(
    private readonly measurement: Measurement,
    private readonly options: BenchOptions,
    private readonly phase: string,
    private readonly progress: Progress,
    private readonly interrupted: AbortSignal,
  ) {}

  /** The pace, whose time begins now. */
  start(): Pace {
    const { total, durationMs, ratePerSecond } = this.options;
    this.pace = new Pace({ total, durationMs, ratePerSecond });
    if (this.interrupted.aborted) this.pace.stop();
    return this.pace;
  }

  /** True when the run was given up. */
  async run(load: Promise<void>): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    let seen = 0;
    let quietSinceMs = performance.now();
    let lastMs = quietSinceMs;
    let lastFinished = 0;
    this.#timer = setInterval(() => {
      const nowMs = performance.now();
      const { finished } = this.measurement;
      if (this.interrupted.aborted) this.pace?.stop();
      const due = this.options.ratePerSecond === undefined ? 0 : 1000 / this.options.ratePerSecond;
      if (finished !== seen) {
        seen = finished;
        quietSinceMs = nowMs;
      } else if (nowMs - quietSinceMs > patienceMs + due) {
        this.pace?.stop();
        resolve(true);
      }
      const perSecond = ((finished - lastFinished) / (nowMs - lastMs)) * 1000;
      lastFinished = finished;
      lastMs = nowMs;
      this.progress(this.phase, finished, this.options.total, perSecond);
    }, 200);
    try {
      return await Promise.race([load.then(() => false), promise]);
    } finally {
      clearInterval(this.#timer);
    }
  }
}

async function watchResult(
  options: BenchOptions,
  watchers: Watchers,
  measurement: Measurement,
  beginMs: number,
): Promise<WatchResult> {
  const perKey = options.watchers / options.keySpace;
  const expectedMin = measurement.succeeded * perKey;
  const expectedMax = expectedMin + measurement.indefinite * perKey;
  await watchers.settle(expectedMin, 5000);
  return {
    expectedMin,
    expectedMax,
    passed:
      watchers.failure === undefined &&
      watchers.delivered >= expectedMin &&
      watchers.delivered <= expectedMax,
    delivered: watchers.delivered,
    deliveryMs: Math.max(0, watchers.lastDeliveryAtMs - beginMs),
    latency: watchers.latency,
    failure: watchers.failure,
  };
}

function revisionCheck(
  before: bigint,
  after: bigint,
  writes: { readonly measurement: Measurement; readonly warm: Measurement } | undefined,
): RevisionCheck {
  const expectedMin = writes?.measurement.succeeded ?? 0;
  // What failed indefinitely while warming up may have taken effect since.
  const expectedMax =
    expectedMin + (writes === undefined ? 0 : writes.measurement.indefinite + writes.warm.indefinite);
  const advanced = Number(after - before);
  return {
    before,
    after,
    expectedMin,
    expectedMax,
    passed: advanced >= expectedMin && advanced <= expectedMax,
  };
}
