/** Load of single calls: put, range and txn-put. */
import type { CallHandler, Connection } from "./http2/connection";
import type { Measurement, Pace } from "./measurement";
import type { RequestTemplate } from "./requests";

export interface UnaryLoad {
  readonly connections: readonly Connection[];
  readonly clients: number;
  readonly inFlight: number;
  readonly template: RequestTemplate;
  readonly chooseKey: () => number;
  /** An answer below this many bytes cannot hold what was asked for and counts as a failure. */
  readonly answerBytesMin: number;
  readonly pace: Pace;
  readonly measurement: Measurement;
}

const shortAnswerCode = 15;

/** One of a client's places for an open call. */
class Slot implements CallHandler {
  #dueAtMs = 0;
  #answerBytes = 0;

  constructor(
    private readonly load: UnaryLoad,
    private readonly connection: Connection,
    private readonly done: () => void,
  ) {}

  next(): void {
    const nowMs = performance.now();
    const dueAtMs = this.load.pace.next(nowMs);
    if (dueAtMs === undefined) {
      this.done();
      return;
    }
    this.#dueAtMs = dueAtMs;
    if (dueAtMs > nowMs) setTimeout(() => this.#sendDue(), dueAtMs - nowMs);
    else this.#send();
  }

  /** A timer may come a fraction of a millisecond early, which must not look like a quicker answer. */
  #sendDue(): void {
    this.#dueAtMs = Math.min(this.#dueAtMs, performance.now());
    this.#send();
  }

  #send(): void {
    const { template, chooseKey } = this.load;
    this.#answerBytes = 0;
    this.connection.call(template.path, template.at(chooseKey()), this);
  }

  message(bytes: Uint8Array): void {
    this.#answerBytes += bytes.length;
  }

  end(code: number, text: string): void {
    const { measurement, answerBytesMin } = this.load;
    if (code !== 0) {
      measurement.failure(code, text);
      // A broken connection answers at once: going on immediately would count failures by the million.
      setTimeout(() => this.next(), 10);
      return;
    }
    if (this.#answerBytes < answerBytesMin) {
      measurement.failure(shortAnswerCode, `an answer holds less than ${answerBytesMin} bytes`);
    } else measurement.success(performance.now() - this.#dueAtMs);
    this.next();
  }
}

/** Runs until the pace ends and every call has its answer. */
export function runUnaryLoad(load: UnaryLoad): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let running = load.clients * load.inFlight;
  const done = (): void => {
    if (--running > 0) return;
    load.pace.end();
    resolve();
  };
  for (let client = 0; client < load.clients; client++) {
    const connection = load.connections[client % load.connections.length]!;
    for (let i = 0; i < load.inFlight; i++) new Slot(load, connection, done).next();
  }
  return promise;
}
