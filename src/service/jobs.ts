/** Long work that a client starts and looks after: its progress, its end, and a way to give it up. */
import { GrpcCode, StoreError } from "../errors";

/** Jobs that may run at the same time. */
const runningMax = 4;
/** Ended jobs that are remembered, oldest forgotten first. */
const rememberedMax = 256;

export type JobState = "running" | "done" | "failed" | "canceled";

/** What a client sees of a job. */
export interface JobView {
  readonly id: string;
  readonly kind: string;
  readonly state: JobState;
  readonly startedAtMs: number;
  readonly endedAtMs: number | undefined;
  /** Work done, of `total` in the same unit; total 0 when nobody knows it. */
  readonly done: number;
  readonly total: number;
  readonly result: unknown;
  readonly error: string | undefined;
}

/** What running work is given. */
export interface JobContext {
  progress(done: number, total: number): void;
  /** True once the job is to be given up; then the work throws or returns. */
  readonly canceled: boolean;
  /** Calls back, once, when that happens; at once when it has. */
  onCancel(listener: () => void): void;
}

interface Job extends JobContext {
  view: JobView;
  canceled: boolean;
  readonly listeners: (() => void)[];
}

/** The jobs of one member; they do not outlive its process. */
export class Jobs {
  readonly #jobs = new Map<string, Job>();
  #sequence = 0;

  constructor(
    /** Tells jobs of this process from those of others. */
    readonly prefix: string,
    readonly wallMs: () => number,
  ) {}

  /** Starts work. Throws a StoreError when too much is under way. */
  start(kind: string, work: (context: JobContext) => Promise<unknown>): JobView {
    const running = [...this.#jobs.values()].filter(({ view }) => view.state === "running").length;
    if (running >= runningMax) {
      throw new StoreError(GrpcCode.resourceExhausted, `${running} jobs are running already`);
    }
    const id = `${this.prefix}-${(++this.#sequence).toString(36)}`;
    const job: Job = {
      view: {
        id,
        kind,
        state: "running",
        startedAtMs: this.wallMs(),
        endedAtMs: undefined,
        done: 0,
        total: 0,
        result: undefined,
        error: undefined,
      },
      canceled: false,
      listeners: [],
      onCancel(listener) {
        if (job.canceled) listener();
        else job.listeners.push(listener);
      },
      progress(done, total) {
        if (job.view.state === "running") job.view = { ...job.view, done, total };
      },
    };
    this.#jobs.set(id, job);
    work(job).then(
      // Work that came to its end in spite of a cancel is done: nobody is told that it did not happen.
      (result) => this.#end(job, "done", result, undefined),
      (error: unknown) =>
        this.#end(
          job,
          job.canceled ? "canceled" : "failed",
          undefined,
          error instanceof Error ? error.message : String(error),
        ),
    );
    return job.view;
  }

  #end(job: Job, state: JobState, result: unknown, error: string | undefined): void {
    job.listeners.length = 0;
    job.view = { ...job.view, state, result, error, endedAtMs: this.wallMs() };
    for (const [id, { view }] of this.#jobs) {
      if (this.#jobs.size <= rememberedMax) return;
      if (view.state !== "running") this.#jobs.delete(id);
    }
  }

  get(id: string): JobView | undefined {
    return this.#jobs.get(id)?.view;
  }

  /** Newest first. */
  list(): JobView[] {
    return [...this.#jobs.values()].map(({ view }) => view).toReversed();
  }

  /** Asks a job to give up; one that has ended stays as it is. */
  cancel(id: string): JobView | undefined {
    const job = this.#jobs.get(id);
    if (job === undefined) return undefined;
    if (job.view.state === "running" && !job.canceled) {
      job.canceled = true;
      for (const listener of job.listeners.splice(0)) listener();
    }
    return job.view;
  }
}
