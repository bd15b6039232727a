/**
 * Lets the runtime's own threads give way to those that serve. One that compiles hot code or gives memory back runs for
 * milliseconds, and what wakes on its processor, the event loop or a sync of the log, would wait that long, also with
 * another processor idle. It keeps a share of the time, since a collection of garbage waits for compilers.
 */
import { readdirSync, readFileSync } from "node:fs";
import { getPriority } from "node:os";
import { scheduleThread, type ThreadSchedule } from "./storage/libc";

/** What is needed of the system. */
export interface ThreadPorts {
  /** The ids of this process' threads. */
  list(): readonly number[];
  /** The id of the thread that runs the event loop. */
  readonly own: number;
  /** The priority with which the process was started. */
  nice(): number;
  /** A thread's name; throws when it has ended. */
  name(thread: number): string;
  schedule(thread: number, schedule: ThreadSchedule): void;
  /** Calls back again and again; the answer ends that. */
  every(intervalMs: number, work: () => void): () => void;
}

/** The runtime starts such threads when it needs them, and ends them after ten idle seconds. */
const lookMs = 500;
const backgroundNames: ReadonlySet<string> = new Set(["JITWorker", "JSCWarmUp", "mi-scavenger"]);
/** A tenth of what others get, in long slices: whoever asks for shorter ones goes first. */
const background: ThreadSchedule = { nice: 10, sliceNs: 50_000_000 };
/** Threads of the runtime's pool, which sync files. The event loop's is the process' first. */
const servingName = /^Bun Pool/;
/** A third of what Linux gives unasked. As much time, but soon. */
const servingSliceNs = 500_000;

/** Looks after the threads from now on; the answer ends it. Does nothing where threads have no priority of their own. */
export function startBackgroundThreads(ports: ThreadPorts = systemPorts): () => void {
  let known: ReadonlyMap<number, string> = new Map();
  const look = (): void => {
    const present = new Map<number, string>();
    const serving = { nice: ports.nice(), sliceNs: servingSliceNs };
    for (const thread of ports.list()) {
      try {
        // A thread bears its parent's name until it has given itself its own.
        const name = ports.name(thread);
        present.set(thread, name);
        if (known.get(thread) === name) continue;
        if (backgroundNames.has(name)) ports.schedule(thread, background);
        else if (thread === ports.own || servingName.test(name)) ports.schedule(thread, serving);
      } catch {
        // It has ended meanwhile.
        continue;
      }
    }
    known = present;
  };
  look();
  return ports.every(lookMs, look);
}

const systemPorts: ThreadPorts = {
  list: () => (process.platform === "linux" ? readdirSync("/proc/self/task").map(Number) : []),
  own: process.pid,
  nice: () => getPriority(),
  name: (thread) => readFileSync(`/proc/self/task/${thread}/comm`, "utf8").trim(),
  schedule: scheduleThread,
  every: (intervalMs, work) => {
    const timer = setInterval(work, intervalMs);
    timer.unref();
    return () => clearInterval(timer);
  },
};
