/** Automatic compaction: keeps a number of revisions, or those of a period (reference etcd-operations 13). */
import { refusals, StoreError } from "../errors";
import type { Revision } from "../ids";
import type { CancelTimer, Clock } from "./ports";

export type AutoCompaction =
  | { readonly mode: "periodic"; readonly periodMs: number }
  | { readonly mode: "revision"; readonly retainedRevisions: number };

/** What the compactor sees of its member. */
export interface CompactionTarget {
  isLeader(): boolean;
  readonly revision: Revision;
  /** Proposes a compaction; rejects when it is refused. */
  compact(revision: Revision): Promise<void>;
  /** Tells the log what was done, or why not. */
  report(message: string, fields: Record<string, unknown>): void;
}

const revisionModeIntervalMs = 5 * 60_000;
const hourMs = 3_600_000;

/** Starts the schedule; the returned function ends it. Only a leader compacts, so members take over silently. */
export function startAutoCompaction(
  options: AutoCompaction,
  clock: Clock,
  target: CompactionTarget,
): CancelTimer {
  return options.mode === "revision"
    ? startByRevision(options.retainedRevisions, clock, target)
    : startByPeriod(options.periodMs, clock, target);
}

function startByRevision(retained: number, clock: Clock, target: CompactionTarget): CancelTimer {
  let last = 0;
  return every(clock, revisionModeIntervalMs, async () => {
    const revision = target.revision - retained;
    if (revision <= last || !target.isLeader()) return;
    if (await attempt(target, revision, "revision")) last = revision;
  });
}

/**
 * Samples the revision ten times a period and compacts to the one seen a period ago: once a period, or once an
 * hour when the period is longer. A failed attempt is repeated at the next sample.
 */
function startByPeriod(periodMs: number, clock: Clock, target: CompactionTarget): CancelTimer {
  const intervalMs = Math.min(periodMs, hourMs);
  const sampleMs = intervalMs / 10;
  const retained = Math.ceil(periodMs / sampleMs);
  const seen: Revision[] = [target.revision];
  let samplesSinceCompaction = 0;
  let last = 0;
  return every(clock, sampleMs, async () => {
    seen.push(target.revision);
    if (seen.length > retained + 1) seen.shift();
    samplesSinceCompaction++;
    if (seen.length <= retained || samplesSinceCompaction < 10) return;
    const revision = seen[0]!;
    if (revision <= last || !target.isLeader()) return;
    if (await attempt(target, revision, "periodic")) {
      last = revision;
      samplesSinceCompaction = 0;
    }
  });
}

async function attempt(target: CompactionTarget, revision: Revision, mode: string): Promise<boolean> {
  try {
    await target.compact(revision);
    target.report("completed auto compaction", { mode, revision });
    return true;
  } catch (error) {
    // Somebody else went as far or further: nothing is left to do.
    if (error instanceof StoreError && error.message === refusals.compacted.text) return true;
    target.report("auto compaction was refused", { mode, revision, error: String(error) });
    return false;
  }
}

function every(clock: Clock, intervalMs: number, work: () => Promise<void>): CancelTimer {
  let cancel: CancelTimer = () => {};
  let stopped = false;
  const next = (): void => {
    cancel = clock.after(intervalMs, () => {
      void work().then(() => {
        if (!stopped) next();
      });
    });
  };
  next();
  return () => {
    stopped = true;
    cancel();
  };
}
