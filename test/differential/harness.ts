/**
 * Drives a reference and a subject in lock-step: each step goes to both at the same time, and both answers have to
 * be the same. What watchers were told is compared whenever everything has settled.
 */
import { fromBinary, toBinary, toJsonString, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { KV, Lease, Watch, type WatchResponse } from "../../src/proto/gen/etcd/rpc_pb";
import { frame, GrpcClient, methodPath, type StreamCall } from "../tools/grpc-client";
import { canonical, withoutLeaseTimes } from "./canonical";
import { futureStream, Generator, watchStreams, type Seen } from "./generator";
import { knownDifferences, type Difference } from "./known-differences";
import { describeStep, type CancelStep, type Step, type WatchStep } from "./steps";

const answerTimeoutMs = 15_000;
const settleTimeoutMs = 15_000;

/** The watcher that keeps every stream's progress answers coming. */
const sentinelId = 1_000_000n;
/** A watcher that is created and cancelled at once, to see that requests before it were taken. */
const passerbyId = 1_000_001n;
const sentinelKey = Buffer.from("\xfe-sentinel", "latin1");

type WatchInput = typeof Watch.method.watch.input;
type WatchOutput = typeof Watch.method.watch.output;

/** What one watcher was told since the last comparison. */
interface WatcherLog {
  readonly events: unknown[];
  readonly notices: unknown[];
}

/** One watch stream and what came out of it. */
class ObservedStream {
  readonly call: StreamCall<WatchInput, WatchOutput>;
  /** Answers to create requests, in order. */
  readonly created: WatchResponse[] = [];
  readonly #watchers = new Map<string, WatcherLog>();
  /** Revision of the newest progress answer. */
  progress = 0n;
  /** The last event revision of each watcher, against splits, repeats and steps back. */
  readonly #lastRevision = new Map<string, bigint>();
  /** What each living watcher had been promised by progress answers. */
  readonly #bookmark = new Map<string, bigint>();
  readonly violations: string[] = [];
  /** The newest revision that the sentinel was told of. */
  #sentinelAt = 0n;
  #passersby = 0;
  /**
   * Watchers that a compaction ended. etcd still counts them as not caught up, and so withholds progress from the
   * whole stream, until the client cancels them once more; that second cancel may or may not be answered.
   */
  readonly #leaving = new Set<string>();

  constructor(client: GrpcClient) {
    this.call = client.stream(Watch.method.watch);
  }

  #log(id: bigint): WatcherLog {
    const name = String(id);
    let log = this.#watchers.get(name);
    if (log === undefined) {
      log = { events: [], notices: [] };
      this.#watchers.set(name, log);
    }
    return log;
  }

  #take(response: WatchResponse): void {
    const id = String(response.watchId);
    if (response.created) {
      this.created.push(response);
      this.#lastRevision.delete(id);
      this.#leaving.delete(id);
      this.#bookmark.delete(id);
      if (!response.canceled) this.#bookmark.set(id, 0n);
      return;
    }
    if (response.watchId === passerbyId) {
      if (response.canceled) this.#passersby++;
      return;
    }
    if (response.canceled) {
      if (this.#leaving.delete(id)) return;
      if (response.compactRevision > 0n) {
        this.#leaving.add(id);
        this.call.send({
          requestUnion: { case: "cancelRequest", value: { watchId: response.watchId } },
        });
      }
      this.#log(response.watchId).notices.push({
        canceled: true,
        compactRevision: response.compactRevision,
        reason: response.cancelReason,
      });
      this.#bookmark.delete(id);
      return;
    }
    if (response.events.length === 0) {
      const revision = response.header?.revision ?? 0n;
      if (response.watchId === -1n) {
        if (revision < this.progress) this.violations.push(`progress ${revision} after ${this.progress}`);
        this.progress = revision;
        for (const [name, promised] of this.#bookmark) {
          if (revision > promised) this.#bookmark.set(name, revision);
        }
      } else this.#log(response.watchId).notices.push("empty response");
      return;
    }
    this.#takeEvents(id, response);
  }

  #takeEvents(id: string, response: WatchResponse): void {
    const header = response.header?.revision ?? 0n;
    const log = this.#log(response.watchId);
    const before = this.#lastRevision.get(id) ?? 0n;
    let newest = before;
    for (const event of response.events) {
      const revision = event.kv?.modRevision ?? 0n;
      if (revision < newest) this.violations.push(`watcher ${id}: revision ${revision} after ${newest}`);
      if (revision === before) this.violations.push(`watcher ${id}: revision ${revision} split or repeated`);
      if (revision > header) this.violations.push(`watcher ${id}: event ${revision} above header ${header}`);
      const promised = this.#bookmark.get(id) ?? 0n;
      if (revision <= promised) {
        this.violations.push(`watcher ${id}: event ${revision} after progress said ${promised}`);
      }
      newest = revision;
      // Watchers are told of one revision in any order: whether the sentinel's own put has reached the others
      // when it has reached the sentinel says nothing.
      const settling = event.type === 0 && sentinelKey.equals(event.kv?.key ?? new Uint8Array(0));
      if (!settling) log.events.push(canonical(event));
    }
    if (response.watchId === sentinelId) this.#sentinelAt = newest;
    if (!response.fragment) this.#lastRevision.set(id, newest);
  }

  /** Sorts what has arrived. */
  drain(): void {
    for (const response of this.call.received.splice(0)) this.#take(response);
  }

  /** Waits for the answer to a create request. */
  async nextCreated(): Promise<WatchResponse> {
    const deadline = performance.now() + answerTimeoutMs;
    for (;;) {
      this.drain();
      const response = this.created.shift();
      if (response !== undefined) return response;
      if (this.call.closed) throw new Error(`watch stream ended: ${JSON.stringify(this.call.status)}`);
      if (performance.now() > deadline) throw new Error("no answer to a watch create request");
      await this.call.activity(200);
    }
  }

  async #until(done: () => boolean, what: string): Promise<void> {
    const deadline = performance.now() + settleTimeoutMs;
    for (;;) {
      this.drain();
      if (done()) return;
      if (this.call.closed) throw new Error(`watch stream ended: ${JSON.stringify(this.call.status)}`);
      if (performance.now() > deadline) throw new Error(`nothing came: ${what}`);
      await this.call.activity(200);
    }
  }

  /**
   * Waits until everything up to `revision`, at which the sentinel's key was put, has come. Live watchers have
   * it when the sentinel has; for watchers that read history, progress has to be asked for until it is answered.
   */
  async settle(revision: bigint, readsHistory: boolean): Promise<void> {
    await this.#until(() => this.#sentinelAt >= revision, `the put at ${revision} for the sentinel`);
    if (!readsHistory) return;
    const deadline = performance.now() + settleTimeoutMs;
    while (this.progress < revision) {
      if (performance.now() > deadline) {
        throw new Error(`no progress answer at ${revision}; the last was at ${this.progress}`);
      }
      this.call.send({ requestUnion: { case: "progressRequest", value: {} } });
      const retryAt = performance.now() + 20;
      while (this.progress < revision && performance.now() < retryAt) {
        if (this.call.closed) throw new Error(`watch stream ended: ${JSON.stringify(this.call.status)}`);
        await this.call.activity(Math.max(1, retryAt - performance.now()));
        this.drain();
      }
    }
  }

  /** Cancels a watcher; an unknown id is met with silence, so a second watcher that comes and goes tells the end. */
  async cancel(watchId: bigint): Promise<void> {
    this.call.send({ requestUnion: { case: "cancelRequest", value: { watchId } } });
    this.call.send({
      requestUnion: { case: "createRequest", value: { key: sentinelKey, watchId: passerbyId } },
    });
    this.call.send({ requestUnion: { case: "cancelRequest", value: { watchId: passerbyId } } });
    const before = this.#passersby;
    await this.#until(() => this.#passersby > before, "the end of a watcher that was cancelled");
    this.created.shift();
  }

  /** Hands over what watchers were told, sorted by watcher, and forgets it. */
  takeLogs(): unknown {
    const logs = [...this.#watchers]
      .filter(([, log]) => log.events.length + log.notices.length > 0)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, log]) => ({
        id,
        events: log.events,
        notices: log.notices.map((notice) => canonical(notice)),
      }));
    this.#watchers.clear();
    return logs;
  }
}

/** One of the two servers with its connections. */
class Side {
  readonly client: GrpcClient;
  readonly streams: ObservedStream[] = [];
  readonly keepAlive: StreamCall<
    typeof Lease.method.leaseKeepAlive.input,
    typeof Lease.method.leaseKeepAlive.output
  >;

  constructor(readonly url: string) {
    this.client = new GrpcClient(url);
    this.keepAlive = this.client.stream(Lease.method.leaseKeepAlive);
  }

  async open(index: number): Promise<unknown> {
    const stream = new ObservedStream(this.client);
    this.streams[index] = stream;
    stream.call.send({
      requestUnion: { case: "createRequest", value: { key: sentinelKey, watchId: sentinelId } },
    });
    return canonical(await stream.nextCreated());
  }

  stream(index: number): ObservedStream {
    const stream = this.streams[index];
    if (stream === undefined) throw new Error(`no watch stream ${index}`);
    return stream;
  }

  close(): void {
    this.client.close();
  }
}

/** Two servers that should behave the same. */
export interface Pair {
  readonly referenceUrl: string;
  readonly subjectUrl: string;
}

export interface Mismatch {
  readonly seed: number;
  /** Index of the step in the run. */
  readonly at: number;
  readonly step: Step;
  readonly reference: unknown;
  readonly subject: unknown;
}

export interface RunResult {
  readonly steps: readonly Step[];
  readonly mismatch: Mismatch | undefined;
  /** How often each known difference was met. */
  readonly known: ReadonlyMap<string, number>;
  /** Requests by the code they were answered with, to see that a run was not all refusals. */
  readonly codes: ReadonlyMap<number, number>;
}

type Decoded = { code: number; text: string; message: unknown };

class Run {
  readonly seen: Seen = { revision: 1n, compacted: 0n };
  readonly known = new Map<string, number>();
  readonly codes = new Map<number, number>();
  #lastRevision = 1n;

  constructor(
    readonly reference: Side,
    readonly subject: Side,
  ) {}

  async #both<T>(ask: (side: Side) => Promise<T>): Promise<[T, T]> {
    const [reference, subject] = await Promise.allSettled([ask(this.reference), ask(this.subject)]);
    if (reference.status === "rejected") throw new Error("the reference failed", { cause: reference.reason });
    if (subject.status === "rejected") throw new SubjectFailed(String(subject.reason));
    return [reference.value, subject.value];
  }

  async open(): Promise<[unknown, unknown]> {
    const answers = await this.#both(async (side) => {
      const opened: unknown[] = [];
      for (let index = 0; index < watchStreams; index++) opened.push(await side.open(index));
      return opened;
    });
    return answers;
  }

  /** Does one step on both sides; the two canonical answers. */
  async do(step: Step): Promise<[unknown, unknown]> {
    switch (step.kind) {
      case "unary":
        return step.door === "grpc" ? this.#unary(step) : this.#gateway(step);
      case "raw-grpc": {
        const { path, bytes, headers } = step;
        return this.#both(async (side) => {
          const reply = await side.client.raw(path, bytes, { headers, timeoutMs: answerTimeoutMs });
          return {
            httpStatus: reply.httpStatus,
            code: reply.status?.code,
            text: reply.status?.text,
            frames: reply.frames.length,
            reset: reply.reset !== undefined && reply.status === undefined,
          };
        });
      }
      case "http":
        return this.#both(async (side) => httpAnswer(side, step.verb, step.path, step.body));
      case "watch":
        return this.#watch(step);
      case "cancel":
        return this.#cancel(step);
      case "reopen":
        return this.#both(async (side) => {
          side.stream(step.stream).call.cancel();
          return side.open(step.stream);
        });
      case "keep-alive":
        return this.#both(async (side) => {
          side.keepAlive.send({ ID: step.id });
          return canonical(await side.keepAlive.next(answerTimeoutMs));
        });
      case "settle":
        return this.#settle();
    }
  }

  #observe(
    method: string,
    request: MessageShape<DescMessage>,
    code: number,
    revision: bigint | undefined,
  ): void {
    this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
    if (revision !== undefined && revision > this.#lastRevision) this.#lastRevision = revision;
    this.seen.revision = this.#lastRevision;
    if (method === "Compact" && code === 0) {
      this.seen.compacted = (request as unknown as { revision: bigint }).revision;
    }
  }

  async #unary(step: Extract<Step, { kind: "unary" }>): Promise<[unknown, unknown]> {
    const { method, request } = step;
    const bytes = frame(toBinary(method.input, request));
    const [reference, subject] = await this.#both(async (side): Promise<Decoded & { revision?: bigint }> => {
      const reply = await side.client.raw(methodPath(method), bytes, { timeoutMs: answerTimeoutMs });
      const [body] = reply.frames;
      const code = reply.status?.code ?? -1;
      const message = body === undefined ? undefined : fromBinary(method.output, body);
      const header = (message as { header?: { revision?: bigint } } | undefined)?.header;
      const answer = {
        code,
        text: reply.status?.text ?? `reset ${reply.reset}`,
        message: canonical(message),
      };
      return header?.revision === undefined ? answer : { ...answer, revision: header.revision };
    });
    this.#observe(method.name, request, reference.code, reference.revision);
    const leases = method.parent.name === "Lease";
    const shown = (answer: Decoded): unknown => ({
      code: answer.code,
      text: answer.text,
      message: leases ? withoutLeaseTimes(answer.message) : answer.message,
    });
    return [shown(reference), shown(subject)];
  }

  async #gateway(step: Extract<Step, { kind: "unary" }>): Promise<[unknown, unknown]> {
    const { method, request } = step;
    const path = gatewayPaths[method.name];
    if (path === undefined) throw new Error(`${method.name} has no gateway path here`);
    const body = toJsonString(method.input, request, { useProtoFieldName: !step.camel });
    const [reference, subject] = await this.#both((side) => httpAnswer(side, "POST", path, body));
    const answer = reference.body as { header?: { revision?: string }; code?: number } | undefined;
    const revision = answer?.header?.revision;
    this.#observe(
      method.name,
      request,
      reference.status === 200 ? 0 : (answer?.code ?? -1),
      revision === undefined ? undefined : BigInt(revision),
    );
    const leases = method.parent.name === "Lease";
    const shown = (given: HttpAnswer): unknown =>
      leases ? { ...given, body: withoutLeaseTimes(given.body) } : given;
    return [shown(reference), shown(subject)];
  }

  #watch(step: WatchStep): Promise<[unknown, unknown]> {
    const { stream, kind: _kind, ...request } = step;
    return this.#both(async (side) => {
      const observed = side.stream(stream);
      observed.drain();
      observed.call.send({
        requestUnion: { case: "createRequest", value: { ...request, filters: [...request.filters] } },
      });
      return canonical(await observed.nextCreated());
    });
  }

  #cancel(step: CancelStep): Promise<[unknown, unknown]> {
    return this.#both(async (side) => {
      const observed = side.stream(step.stream);
      await observed.cancel(step.watchId);
      return { logs: observed.takeLogs(), violations: observed.violations };
    });
  }

  async #settle(): Promise<[unknown, unknown]> {
    const put = await this.#both((side) =>
      side.client.unary(
        KV.method.put,
        { key: sentinelKey, value: sentinelKey },
        { timeoutMs: answerTimeoutMs },
      ),
    );
    const [reference, subject] = put;
    const revisions = put.map((reply) => (reply.ok ? reply.message.header?.revision : undefined));
    if (reference.ok !== subject.ok || revisions[0] !== revisions[1])
      return [canonical(reference), canonical(subject)];
    const [revision] = revisions;
    // An alarm forbids the put: nothing to settle now.
    if (revision === undefined) return [canonical(reference), canonical(subject)];
    this.#lastRevision = revision;
    this.seen.revision = revision;
    return this.#both(async (side) => {
      await Promise.all(side.streams.map((stream, index) => stream.settle(revision, index !== futureStream)));
      return {
        logs: side.streams.map((stream) => stream.takeLogs()),
        violations: side.streams.flatMap((stream) => stream.violations),
      };
    });
  }
}

class SubjectFailed extends Error {}

const gatewayPaths: Readonly<Record<string, string>> = {
  Range: "/v3/kv/range",
  Put: "/v3/kv/put",
  DeleteRange: "/v3/kv/deleterange",
  Txn: "/v3/kv/txn",
  Compact: "/v3/kv/compaction",
  LeaseGrant: "/v3/lease/grant",
  LeaseRevoke: "/v3/lease/revoke",
  LeaseTimeToLive: "/v3/lease/timetolive",
  LeaseLeases: "/v3/lease/leases",
  HashKV: "/v3/maintenance/hashkv",
  Alarm: "/v3/maintenance/alarm",
};

interface HttpAnswer {
  readonly status: number;
  readonly type: string | null;
  readonly body: unknown;
}

async function httpAnswer(
  side: Side,
  verb: string,
  path: string,
  body: string | undefined,
): Promise<HttpAnswer> {
  const answer = await fetch(side.url + path, {
    method: verb,
    ...(body === undefined ? {} : { body, headers: { "content-type": "application/json" } }),
    signal: AbortSignal.timeout(answerTimeoutMs),
  });
  const received = await answer.text();
  let parsed: unknown;
  try {
    parsed = JSON.parse(received);
  } catch {
    parsed = received;
  }
  return { status: answer.status, type: answer.headers.get("content-type"), body: canonical(parsed) };
}

/** Differences that a known one explains are counted and let pass. */
function unexplained(difference: Difference, counts: Map<string, number>): boolean {
  if (JSON.stringify(difference.reference) === JSON.stringify(difference.subject)) return false;
  const explained = knownDifferences.find((known) => known.fits(difference));
  if (explained === undefined) return true;
  counts.set(explained.name, (counts.get(explained.name) ?? 0) + 1);
  return false;
}

/** Runs given steps, or as many as asked for from a seed, against two fresh servers. Stops at the first
 * mismatch, unless `alsoAfter` wants to see what comes after it. */
export async function runSteps(
  pair: Pair,
  seed: number,
  source: { readonly requests: number } | { readonly steps: readonly Step[] },
  alsoAfter: (mismatch: Mismatch) => boolean = () => false,
): Promise<RunResult> {
  const run = new Run(new Side(pair.referenceUrl), new Side(pair.subjectUrl));
  const generator = new Generator(seed, run.seen);
  const steps: Step[] = [];
  const total = "steps" in source ? source.steps.length : source.requests;
  let mismatch: Mismatch | undefined;
  const judge = (step: Step, [reference, subject]: [unknown, unknown]): boolean => {
    if (!unexplained({ step, reference, subject }, run.known)) return true;
    mismatch = { seed, at: steps.length - 1, step, reference, subject };
    return alsoAfter(mismatch);
  };
  try {
    const settle: Step = { kind: "settle" };
    if (!judge(settle, await run.open())) return { steps, mismatch, known: run.known, codes: run.codes };
    for (let index = 0; index <= total; index++) {
      const step = index === total ? settle : "steps" in source ? source.steps[index] : generator.next();
      if (step === undefined) break;
      steps.push(step);
      let answers: [unknown, unknown];
      try {
        answers = await run.do(step);
      } catch (error) {
        if (!(error instanceof SubjectFailed)) throw error;
        answers = ["an answer", error.message];
      }
      if (!judge(step, answers)) break;
    }
  } catch (error) {
    const last = steps.at(-1);
    throw new Error(
      `seed ${seed}, step ${steps.length - 1}${last === undefined ? "" : `, ${describeStep(last)}`}: ${String(error)}`,
      { cause: error },
    );
  } finally {
    run.reference.close();
    run.subject.close();
  }
  return { steps, mismatch, known: run.known, codes: run.codes };
}

/** The places at which two plain values differ, at most `limit` of them. */
export function differences(reference: unknown, subject: unknown, path = "", limit = 6): string[] {
  if (JSON.stringify(reference) === JSON.stringify(subject)) return [];
  const bothObjects =
    typeof reference === "object" && typeof subject === "object" && reference !== null && subject !== null;
  if (!bothObjects || Array.isArray(reference) !== Array.isArray(subject)) {
    return [`${path || "answer"}: ${brief(reference)} | ${brief(subject)}`];
  }
  const found: string[] = [];
  for (const name of new Set([...Object.keys(reference), ...Object.keys(subject)])) {
    const [theirs, ours] = [reference, subject].map((value) => (value as Record<string, unknown>)[name]);
    found.push(...differences(theirs, ours, path === "" ? name : `${path}.${name}`, limit - found.length));
    if (found.length >= limit) break;
  }
  return found;
}

function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** What a person needs to see first: each place as "reference | subject". */
export function describeMismatch(mismatch: Mismatch): string {
  const places = differences(mismatch.reference, mismatch.subject);
  return [
    `seed ${mismatch.seed}, step ${mismatch.at}: ${describeStep(mismatch.step)}`,
    ...places.map((place) => `  ${place}`),
  ].join("\n");
}
