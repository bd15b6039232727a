/** Measures how late the event loop is: a timer asks to be called at a fixed pace and looks at the clock. */
import type { Gauge, Histogram } from "./instruments";

const paceMs = 5;
/** Timers are this late on an idle machine; less is no stall. */
const noiseMs = 2;

export interface StallMonitor {
  /** The longest stall since the start or since {@link reset}, in milliseconds. */
  longestMs(): number;
  reset(): void;
  stop(): void;
}

/**
 * Starts to measure. A stall of d is seen as at least d minus one pace. The timer keeps no process alive.
 * `onStall` hears of stalls of at least `reportMs`.
 */
export function startStallMonitor(options: {
  readonly histogram?: Histogram;
  readonly longest?: Gauge;
  readonly reportMs?: number;
  readonly onStall?: (stallMs: number) => void;
}): StallMonitor {
  let longestMs = 0;
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const stallMs = nowMs - lastMs - paceMs;
    lastMs = nowMs;
    if (stallMs < noiseMs) return;
    options.histogram?.observe(stallMs / 1000);
    if (stallMs > longestMs) {
      longestMs = stallMs;
      options.longest?.set(Math.max(options.longest.value, stallMs / 1000));
    }
    if (stallMs >= (options.reportMs ?? Infinity)) options.onStall?.(stallMs);
  }, paceMs);
  timer.unref();
  return {
    longestMs: () => longestMs,
    reset: () => {
      longestMs = 0;
    },
    stop: () => clearInterval(timer),
  };
}
