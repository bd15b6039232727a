/** Everything that one run showed, before every judge there is. */
import { checkByRevision } from "../check/by-revision";
import { registerKey, registerModel, searchOrder } from "../check/by-search";
import { checkLeases } from "../check/leases";
import type { History, Operation } from "../check/history";
import { compareMembers, type MemberState } from "../check/members";
import { checkWatchStream, RecordedTruth, type WatchStreamRecord } from "../check/watches";
import type { Auditor } from "./auditor";
import type { Network } from "./network";
import type { Recorder } from "./recorder";

export interface Judgement {
  readonly problems: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
  /** Too little happened for the run to show anything. */
  readonly uninformative: boolean;
}

export interface Evidence {
  readonly recorder: Recorder;
  readonly auditor: Auditor;
  readonly streams: readonly WatchStreamRecord[];
  readonly states: readonly MemberState[];
  readonly endAt: number;
  /** When members were left alone again. */
  readonly disturbedUntil: number;
  /** What was already found on the way. */
  readonly problems: readonly string[];
  readonly network: Network;
}

/** The register workload's keys, one by one, without trust in revisions. */
function checkRegisters(operations: readonly Operation[]): {
  problems: string[];
  undecided: number;
  keys: number;
} {
  const problems: string[] = [];
  let undecided = 0;
  const byKey = Map.groupBy(operations, (operation) => registerKey(operation));
  let keys = 0;
  for (const [key, own] of byKey) {
    if (key === undefined || !key.startsWith("r/")) continue;
    keys++;
    const result = searchOrder(own, registerModel, 400_000);
    if (result.kind === "violated") problems.push(`register ${key}: ${result.explained}`);
    if (result.kind === "undecided") undecided++;
  }
  return { problems, undecided, keys };
}

export function judge(evidence: Evidence): Judgement {
  const { recorder, auditor, streams, states } = evidence;
  const problems = [...evidence.problems, ...auditor.problems.slice(0, 5)];
  const history: History = { operations: recorder.operations, log: auditor.log };
  const byRevision = checkByRevision(history);
  const registers = checkRegisters(recorder.operations);
  const compacted = recorder.operations.reduce(
    (newest, operation) =>
      operation.kind === "compaction" ? Math.max(newest, Number(operation.request.revision)) : newest,
    0,
  );
  const truth = new RecordedTruth(history.log, compacted);
  const watched = { streams: 0, events: 0, compacted: 0, progresses: 0 };
  const watchProblems: string[] = [];
  for (const stream of streams) {
    const verdict = checkWatchStream(stream, truth);
    watchProblems.push(...verdict.problems);
    for (const name of ["streams", "events", "compacted", "progresses"] as const)
      watched[name] += verdict.counts[name] ?? 0;
  }
  const leases = checkLeases(history, {
    unitsPerSecond: 1_000,
    lateSeconds: 4,
    disturbedUntil: evidence.disturbedUntil,
    endAt: evidence.endAt,
    sightings: auditor.sightings,
  });
  const members = compareMembers(states);
  problems.push(
    ...byRevision.problems,
    ...registers.problems,
    ...watchProblems.slice(0, 10),
    ...leases.problems.slice(0, 10),
    ...members.problems,
  );
  const strangers = [...evidence.network.strangers.values()].reduce((sum, count) => sum + count, 0);
  return {
    problems,
    uninformative: false,
    counts: {
      ...byRevision.counts,
      registers: registers.keys,
      undecided: registers.undecided,
      watchStreams: watched.streams,
      watchEvents: watched.events,
      watchesCompacted: watched.compacted,
      progresses: watched.progresses,
      ...leases.counts,
      members: states.length,
      strangers,
    },
  };
}
