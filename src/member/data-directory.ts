/**
 * A member's directory: `lock`, `log/` with the Raft log, `state-N/` with the database of generation N. A snapshot
 * from the leader becomes a new generation; one database's write-ahead log is never met by another database.
 */
import { join } from "node:path";
import type { Database } from "bun:sqlite";
import { assert } from "../assert";
import type { Entry } from "../consensus/types";
import { type ClusterId, hexId, type LogIndex, type MemberId } from "../ids";
import { logTailBytesMax } from "../limits";
import { StateMachine } from "../state/state-machine";
import { createLog, logExists, openLog } from "../storage/wal/log";
import type { DurableLog, LogIdentity, LogObserver, RecoveredLog } from "../storage/wal/types";
import { foundCluster, type InitialMember, standAlone } from "./bootstrap";
import { type LogFindings, openGeneration, removeOtherGenerations } from "./generations";
import { type JoinPlan, readJoinPlan, writeJoinPlan } from "./join-plan";
import type { Disk, Ports } from "./ports";

export type { InitialMember };

export interface DataDirectoryOptions {
  readonly dataDirectory: string;
  /** Where the log lies when it is not inside the data directory. */
  readonly logDirectory?: string;
  /** "existing": a cluster that runs already is to be joined, which must not become a new one by mistake. */
  readonly initialClusterState: "new" | "existing";
  /** For a member without data: how it begins in a cluster that runs already. Absent: it founds one. */
  readonly joining?: JoinPlan;
  /** Rewrite the membership to this member alone, once, whatever the others say. */
  readonly forceNewCluster?: boolean;
  /** Only looked at by a new member: afterwards the log knows. */
  readonly name: string;
  readonly initialCluster: readonly InitialMember[];
  readonly clusterToken: string;
  /** Receives how long the index took to rebuild, and what was repaired. */
  readonly report: (message: string, fields: Record<string, unknown>) => void;
  readonly logObserver?: LogObserver;
  /** The size at which a segment of the log ends; absent: the log's own default. */
  readonly logSegmentBytes?: number;
}

export interface OpenedData {
  readonly log: DurableLog;
  readonly recovered: RecoveredLog;
  readonly database: Database;
  readonly databasePath: string;
  readonly state: StateMachine;
  readonly clusterId: ClusterId;
  readonly memberId: MemberId;
  /** How this member began, as long as it has not become a full member: its state may not know the others yet. */
  readonly joining: JoinPlan | undefined;
}

/** Whether a member has lived in these directories: then they say who it is, and flags about its beginning do not count. */
export function hasMember(options: Pick<DataDirectoryOptions, "dataDirectory" | "logDirectory">, disk: Disk) {
  return logExists(logDirectoryOf(options), disk);
}

function logDirectoryOf({
  dataDirectory,
  logDirectory,
}: Pick<DataDirectoryOptions, "dataDirectory" | "logDirectory">): string {
  return logDirectory ?? join(dataDirectory, "log");
}

/** The name of a file in the data directory that does not outlive its use. */
export function scratchName(number: number): string {
  return `snapshot-${number}.tmp`;
}

/** Such files, and what SQLite puts beside them. */
const scratchPattern = /^snapshot-\d+\.tmp(-wal|-shm|-journal)?$/;

/** Opens what is there, or begins a new member of the initial cluster. Throws when anything is damaged. */
export async function openDataDirectory(options: DataDirectoryOptions, ports: Ports): Promise<OpenedData> {
  const { disk } = ports;
  const logDirectory = logDirectoryOf(options);
  disk.makeDirectory(options.dataDirectory);
  for (const name of disk.list(options.dataDirectory)) {
    if (scratchPattern.test(name)) disk.remove(join(options.dataDirectory, name));
  }

  if (!logExists(logDirectory, disk)) {
    if (options.forceNewCluster === true) {
      throw new Error(
        `--force-new-cluster goes on with the data of a member that is left, but ${options.dataDirectory} holds none; ` +
          "name the right --data-dir, or take the flag away to begin a new member",
      );
    }
    const identity = await beginIdentity(options, disk);
    const log = await createLog({
      directory: logDirectory,
      disk,
      identity,
      segmentBytes: options.logSegmentBytes,
    });
    await log.close();
  }
  let found = undefined as ReturnType<typeof openState> | undefined;
  const opened = await openLog({
    directory: logDirectory,
    disk,
    segmentBytes: options.logSegmentBytes,
    tailBytesMax: logTailBytesMax,
    appliedIndex(findings) {
      const opening = openState(options, findings, ports);
      found = opening;
      return opening.state.appliedIndex;
    },
    observer: options.logObserver,
  });
  assert(found !== undefined, "the log was opened without asking for its state");
  const { database, path: databasePath, state } = found;
  await removeOtherGenerations(options.dataDirectory, databasePath, disk);
  const { log } = opened;
  let { recovered } = opened;
  if (recovered.repaired !== undefined) {
    options.report("cut an unsynced tail off the log", { ...recovered.repaired });
  }
  const joining = readJoinPlan(options.dataDirectory, disk);
  if (recovered.lastIndex === 0 && joining === undefined) {
    const { identity, first } = foundCluster(options.name, options.initialCluster, options.clusterToken);
    if (identity.memberId !== recovered.identity.memberId) {
      throw new Error(
        `the data directory ${options.dataDirectory} was begun by member ${hexId(recovered.identity.memberId)}, ` +
          `but --initial-cluster makes this ${hexId(identity.memberId)}; start with the former flags, or with an empty --data-dir`,
      );
    }
    await log.append(first);
    recovered = {
      ...recovered,
      hardState: first.hardState,
      tail: first.entries,
      lastIndex: first.entries.length,
    };
    options.report("began a new member", {
      clusterId: hexId(identity.clusterId),
      memberId: hexId(identity.memberId),
    });
  }
  if (state.isRemovedMember(recovered.identity.memberId)) {
    throw new Error(
      `this member (${hexId(recovered.identity.memberId)}) was removed from the cluster, and its id is never used again; ` +
        `to make this machine a member once more, empty ${options.dataDirectory} and start with --join`,
    );
  }
  if (options.forceNewCluster === true)
    recovered = await forceNewCluster(options, disk, log, recovered, state);
  recovered = { ...recovered, tail: tailForConsensus(log, recovered, state.appliedIndex) };
  return { log, recovered, database, databasePath, state, joining, ...recovered.identity };
}

/** Who a member without data is. A joiner's plan is on disk before its log is, so that a cut start goes on with it. */
async function beginIdentity(options: DataDirectoryOptions, disk: Disk): Promise<LogIdentity> {
  const before = readJoinPlan(options.dataDirectory, disk);
  if (before !== undefined) return before;
  const { joining } = options;
  if (joining !== undefined) {
    await writeJoinPlan(options.dataDirectory, disk, joining);
    return joining;
  }
  if (options.initialClusterState === "existing") {
    throw new Error(
      `the data directory ${options.dataDirectory} is empty, and --initial-cluster-state "existing" names no member of ` +
        "the cluster that could be asked; name the others in --initial-cluster, or use --join",
    );
  }
  return foundCluster(options.name, options.initialCluster, options.clusterToken).identity;
}

/** The file that tells that the membership was rewritten; while it lies there, it is not done again. */
const forcedFileName = "forced-new-cluster";

async function forceNewCluster(
  options: DataDirectoryOptions,
  disk: Disk,
  log: DurableLog,
  recovered: RecoveredLog,
  state: StateMachine,
): Promise<RecoveredLog> {
  const self = recovered.identity.memberId;
  const done = disk.list(options.dataDirectory).includes(forcedFileName);
  const marker = join(options.dataDirectory, forcedFileName);
  const rewritten = standAlone(self, state.configuration(), {
    hardState: recovered.hardState,
    lastIndex: recovered.lastIndex,
    unapplied: entriesBetween(log, state.appliedIndex + 1, recovered.lastIndex + 1),
  });
  if (rewritten === undefined) {
    options.report("--force-new-cluster: this member is alone already; take the flag away", {});
  } else if (done) {
    // The flag stayed in a unit file while the cluster grew again: obeying would split it.
    options.report(
      "--force-new-cluster is ignored: it was carried out before, and other members were added since; take the flag " +
        "away, or remove the file named here if it really has to happen again",
      { file: marker },
    );
    return recovered;
  } else {
    await log.append(rewritten);
    options.report("--force-new-cluster: this is the only member from now on; take the flag away", {
      memberId: hexId(self),
      lastIndex: recovered.lastIndex,
      changes: rewritten.entries.length,
    });
  }
  if (!done) {
    const file = disk.open(marker, "create");
    file.write(0, new TextEncoder().encode(`behind index ${recovered.lastIndex}\n`));
    await file.sync();
    file.close();
    disk.syncDirectory(options.dataDirectory);
  }
  if (rewritten === undefined) return recovered;
  return {
    ...recovered,
    hardState: rewritten.hardState,
    tail: [...recovered.tail, ...rewritten.entries],
    lastIndex: rewritten.entries.at(-1)!.index,
  };
}

/** Entries of the log in pieces, so that a long log never lies in memory as a whole. */
function* entriesBetween(log: DurableLog, low: LogIndex, high: LogIndex): Iterable<Entry> {
  for (let next = low; next < high;) {
    const piece = log.read(next, high, logTailBytesMax);
    assert(piece.length > 0, `the log has no entry ${next}`);
    yield* piece;
    next = piece.at(-1)!.index + 1;
  }
}

/** The state that belongs to the log. */
function openState(options: DataDirectoryOptions, findings: LogFindings, ports: Ports) {
  const opened = openGeneration(options.dataDirectory, findings, ports);
  const startedAtMs = ports.clock.monotonicMs();
  const state = StateMachine.open(opened.database);
  options.report("opened the state database", {
    keys: state.sizes().keys,
    revision: state.revision,
    tookMs: Math.round(ports.clock.monotonicMs() - startedAtMs),
  });
  return { ...opened, state };
}

/** The newest entries, reaching back to the first that is neither committed nor applied, as consensus needs them. */
function tailForConsensus(
  log: DurableLog,
  recovered: RecoveredLog,
  appliedIndex: LogIndex,
): readonly Entry[] {
  const from = Math.max(recovered.hardState.commit, appliedIndex, recovered.start.index) + 1;
  let tail = recovered.tail;
  for (;;) {
    const begin = tail[0]?.index ?? recovered.lastIndex + 1;
    if (begin <= from) return tail;
    const older = log.read(from, begin, Number.MAX_SAFE_INTEGER);
    assert(older.length > 0, `the log has no entry ${from}, but does not begin behind it`);
    tail = [...older, ...tail.filter(({ index }) => index > older.at(-1)!.index)];
  }
}
