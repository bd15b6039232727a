/**
 * A member's directory: `lock`, `log/` with the Raft log, `state-N/` with the database of generation N. A snapshot
 * from the leader becomes a new generation; one database's write-ahead log is never met by another database.
 */
import { join } from "node:path";
import type { Database } from "bun:sqlite";
import { create, toBinary } from "@bufbuild/protobuf";
import { assert } from "../assert";
import { encodeConfigurationChange } from "../consensus/configuration-change";
import type { Entry } from "../consensus/types";
import { type ClusterId, hexId, type LogIndex, type MemberId, noMember } from "../ids";
import { logTailBytesMax } from "../limits";
import { MemberSchema } from "../proto/gen/etcd/rpc_pb";
import { StateMachine } from "../state/state-machine";
import { createLog, logExists, openLog } from "../storage/wal/log";
import type { DurableLog, LogObserver, RecoveredLog } from "../storage/wal/types";
import { clusterIdOf, memberIdOf } from "./identity";
import type { Ports } from "./ports";

/** A member of the configuration that a cluster starts with. */
export interface InitialMember {
  readonly name: string;
  readonly peerUrls: readonly string[];
}

export interface DataDirectoryOptions {
  readonly dataDirectory: string;
  /** Where the log lies when it is not inside the data directory. */
  readonly logDirectory?: string;
  /** "existing": a cluster that runs already is to be joined, which must not become a new one by mistake. */
  readonly initialClusterState: "new" | "existing";
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
}

/** The name of a file in the data directory that does not outlive its use. */
export function scratchName(number: number): string {
  return `snapshot-${number}.tmp`;
}

/** Such files, and what SQLite puts beside them. */
const scratchPattern = /^snapshot-\d+\.tmp(-wal|-shm|-journal)?$/;

/** The generation that a member starts with. */
const firstGeneration = 1;

/** Opens what is there, or begins a new member of the initial cluster. Throws when anything is damaged. */
export async function openDataDirectory(options: DataDirectoryOptions, ports: Ports): Promise<OpenedData> {
  const { disk } = ports;
  const logDirectory = options.logDirectory ?? join(options.dataDirectory, "log");
  const stateDirectory = join(options.dataDirectory, `state-${firstGeneration}`);
  const databasePath = join(stateDirectory, "state.db");
  disk.makeDirectory(stateDirectory);
  // The log is cut behind what the database holds, so the database must be found again after a power cut.
  disk.syncDirectory(options.dataDirectory);
  for (const name of disk.list(options.dataDirectory)) {
    if (scratchPattern.test(name)) disk.remove(join(options.dataDirectory, name));
  }

  if (!logExists(logDirectory, disk)) {
    if (options.initialClusterState === "existing") {
      throw new Error(
        `the data directory ${options.dataDirectory} is empty and --initial-cluster-state is "existing", but this release ` +
          'cannot join a running cluster; use "new" for a new member, or name the data directory of a former one',
      );
    }
    const { identity } = bootstrap(options);
    const log = await createLog({
      directory: logDirectory,
      disk,
      identity,
      segmentBytes: options.logSegmentBytes,
    });
    await log.close();
  }
  const database = ports.openDatabase(databasePath);
  const startedAtMs = ports.clock.monotonicMs();
  const state = StateMachine.open(database);
  options.report("opened the state database", {
    keys: state.sizes().keys,
    revision: state.revision,
    tookMs: Math.round(ports.clock.monotonicMs() - startedAtMs),
  });
  const opened = await openLog({
    directory: logDirectory,
    disk,
    segmentBytes: options.logSegmentBytes,
    tailBytesMax: logTailBytesMax,
    appliedIndex: state.appliedIndex,
    observer: options.logObserver,
  });
  const { log } = opened;
  let { recovered } = opened;
  if (recovered.repaired !== undefined) {
    options.report("cut an unsynced tail off the log", { ...recovered.repaired });
  }
  if (recovered.lastIndex === 0) {
    const { identity, first } = bootstrap(options);
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
  recovered = { ...recovered, tail: tailForConsensus(log, recovered, state.appliedIndex) };
  return { log, recovered, database, databasePath, state, ...recovered.identity };
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

/**
 * The identity of a new member and the first entries of its log: one configuration change per initial member, all
 * committed in term 1, the same on every member (as etcd does it).
 */
function bootstrap(options: DataDirectoryOptions) {
  const members = options.initialCluster
    .map((member) => ({ ...member, id: memberIdOf(member.peerUrls, options.clusterToken) }))
    .sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const own = members.find((member) => member.name === options.name);
  if (own === undefined) {
    throw new Error(
      `--initial-cluster has no member with this member's name, ${JSON.stringify(options.name)}`,
    );
  }
  const entries = members.map((member, position): Entry => ({
    term: 1,
    index: position + 1,
    kind: "configuration",
    data: encodeConfigurationChange({
      type: "add-voter",
      memberId: member.id,
      context: toBinary(
        MemberSchema,
        create(MemberSchema, { ID: member.id, peerURLs: [...member.peerUrls] }),
      ),
    }),
  }));
  return {
    identity: { clusterId: clusterIdOf(members.map((member) => member.id)), memberId: own.id },
    first: { entries, hardState: { term: 1, vote: noMember, commit: entries.length } },
  };
}
