/**
 * Collects garbage once a load is over. The collector of the runtime waits until more has been allocated, so what a
 * load leaves, up to as much again as all that lives, would stay until the next one. Done in the background by the
 * runtime: with a million keys it holds the event loop for a few milliseconds at a time.
 */

/** What the collector needs of the world. */
export interface IdleCollectorPorts {
  /** Processor time that the event loop's thread has used, in milliseconds. */
  cpuMs(): number;
  /** Begins a full collection that runs beside other work. */
  collect(): void;
  /** Calls back again and again; the answer ends that. */
  every(intervalMs: number, work: () => void): () => void;
}

const lookMs = 100;
/** Below this share of a core the event loop counts as idle. */
const idleShare = 0.2;
/** So many looks in a row have to find it idle. */
const idleLooks = 3;
/**
 * So many idle looks later it is done again: a collection spares what was allocated while it ran, and one that began
 * under load may still be under way when the first is asked for.
 */
const againLooks = 8;
/**
 * Collecting pays when the event loop has worked so long since the last time: a second of puts leaves 250 MB, which
 * stayed when a pause in a load had been taken for its end.
 */
const workMs = 300;

/** Starts looking; the answer ends it. */
export function startIdleCollector(ports: IdleCollectorPorts = systemPorts): () => void {
  let lastMs = ports.cpuMs();
  let collectedAtMs = lastMs;
  let idle = 0;
  let againIn = 0;
  return ports.every(lookMs, () => {
    const nowMs = ports.cpuMs();
    idle = nowMs - lastMs < idleShare * lookMs ? idle + 1 : 0;
    lastMs = nowMs;
    if (idle < idleLooks) againIn = 0;
    else if (nowMs - collectedAtMs >= workMs) {
      collectedAtMs = nowMs;
      againIn = againLooks;
      ports.collect();
    } else if (againIn > 0 && --againIn === 0) ports.collect();
  });
}

const systemPorts: IdleCollectorPorts = {
  cpuMs: () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1_000;
  },
  collect: () => Bun.gc(false),
  every: (intervalMs, work) => {
    const timer = setInterval(work, intervalMs);
    timer.unref();
    return () => clearInterval(timer);
  },
};
