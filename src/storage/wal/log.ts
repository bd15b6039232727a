/** The durable log: where a member's entries and hard state live. See README.md beside this file. */
import { dirname } from "node:path";
import { assert } from "../../assert";
import type { HardState } from "../../consensus/types";
import { noMember, type LogIndex } from "../../ids";
import type { Disk } from "../../member/ports";
import { EntryIndex } from "./entry-index";
import { fullError, isFull, LogDamagedError } from "./errors";
import { FrameBuilder, frameHeaderBytes, FrameType } from "./format";
import { type Scan, scanLog } from "./recovery";
import { clearFrom, moveUncertain, removeInOrder, scanAgain, unfinishedName } from "./repair";
import { segmentName, segmentSequence } from "./segment";
import { SegmentedLog } from "./segmented-log";
import type { DurableLog, LogIdentity, LogObserver, RecoveredLog } from "./types";

export { LogClosedError, LogDamagedError, LogFailedError, LogFullError, LogVersionError } from "./errors";

/** The size at which a segment ends and the next one begins, in bytes. */
export const segmentBytesDefault = 16 * 1024 ** 2;
const noHardState: HardState = { term: 0, vote: noMember, commit: 0 };

export interface CreateLogOptions {
  /** The log's own directory; made when absent. Its parent must exist. */
  readonly directory: string;
  readonly disk: Disk;
  readonly identity: LogIdentity;
  readonly segmentBytes?: number | undefined;
  readonly observer?: LogObserver | undefined;
}

export interface OpenLogOptions {
  readonly directory: string;
  readonly disk: Disk;
  readonly segmentBytes?: number | undefined;
  /** How many bytes of the newest entries `recovered.tail` may hold. */
  readonly tailBytesMax: number;
  /**
   * The applied index that the state database holds durably; the log has to reach that far. A function is asked once
   * it is known where the log begins, and before anything is changed.
   */
  readonly appliedIndex: LogIndex | ((found: Pick<RecoveredLog, "start" | "snapshot">) => LogIndex);
  readonly observer?: LogObserver | undefined;
}

/** Whether the directory holds a log, damaged or not: then open it, do not create one. */
export function logExists(directory: string, disk: Disk): boolean {
  return disk.list(directory).some((name) => segmentSequence(name) !== undefined);
}

/**
 * Begins an empty log; resolves when it would survive a power cut, and leaves no log when it is cut short.
 * @throws when the directory holds a log already; LogFullError when there is no room.
 */
export async function createLog(options: CreateLogOptions): Promise<DurableLog> {
  const { directory, disk, identity } = options;
  assert(!logExists(directory, disk), `there is a log in ${directory} already`);
  const segmentBytes = options.segmentBytes ?? segmentBytesDefault;
  disk.makeDirectory(directory);
  disk.syncDirectory(dirname(directory));
  const unfinished = `${directory}/${unfinishedName}`;
  const path = `${directory}/${segmentName(1)}`;
  if (disk.list(directory).includes(unfinishedName)) disk.remove(unfinished);
  const index = new EntryIndex({ index: 0, term: 0 });
  const builder = new FrameBuilder(1024);
  builder.start({ identity, sequence: 1, baseIndex: 0, baseTerm: 0, allocatedBytes: segmentBytes });
  builder.hardState(noHardState);
  const { frame, chain } = builder.finish({
    type: FrameType.start,
    life: 1,
    position: 0,
    synced: 0,
    previousChain: 0n,
  });
  const file = disk.open(unfinished, "create");
  try {
    file.allocate(segmentBytes);
    file.write(0, frame);
    await file.sync();
    disk.rename(unfinished, path);
    disk.syncDirectory(directory);
  } catch (error) {
    file.close();
    throw isFull(error) ? fullError(error) : error;
  }
  const used = frame.length + frameHeaderBytes;
  index.segments.push({
    sequence: 1,
    path,
    file,
    position: 0,
    baseIndex: 0,
    baseTerm: 0,
    lowestIndex: Number.POSITIVE_INFINITY,
    slotAt: frame.length,
    used,
    allocated: Math.max(segmentBytes, used),
    firstIndex: 0,
    offsets: [],
  });
  return new SegmentedLog(options, segmentBytes, {
    identity,
    index,
    hardState: noHardState,
    snapshot: undefined,
    chain,
    startChain: chain,
    life: 1,
    end: used,
    synced: used,
  });
}

/**
 * Opens an existing log, cutting off a tail that was never synced. Whatever it returns is on disk.
 * @throws LogDamagedError, LogVersionError
 */
export async function openLog(
  options: OpenLogOptions,
): Promise<{ readonly log: DurableLog; readonly recovered: RecoveredLog }> {
  const { directory, disk } = options;
  const segmentBytes = options.segmentBytes ?? segmentBytesDefault;
  let scan = scanLog(directory, disk);
  try {
    const { appliedIndex } = options;
    checkReach(
      scan,
      typeof appliedIndex === "number"
        ? appliedIndex
        : appliedIndex({ start: scan.index.start, snapshot: scan.snapshot }),
    );
    const repaired = leftoversOf(scan);
    await removeInOrder(
      directory,
      disk,
      scan.spare === undefined ? scan.obsolete : [...scan.obsolete, scan.spare.path],
    );
    if (scan.uncertain.some(({ frame }) => frame?.type !== FrameType.marker)) {
      await moveUncertain(directory, disk, scan, segmentBytes);
      scan = scanAgain(directory, disk, scan);
    } else {
      scan = await clearFrom(scan.certain, scan, disk, directory);
    }
    const log = new SegmentedLog(options, segmentBytes, {
      ...scan,
      life: scan.life + 1,
      synced: scan.end,
    });
    await log.claimSynced();
    const { index, hardState, snapshot, identity } = scan;
    const recovered: RecoveredLog = {
      identity,
      hardState,
      start: index.start,
      tail: log.tail(options.tailBytesMax),
      lastIndex: index.lastIndex,
      snapshot,
      repaired,
    };
    return { log, recovered };
  } catch (error) {
    for (const { file } of scan.index.segments) file.close();
    throw isFull(error) ? fullError(error) : error;
  }
}

function leftoversOf({ index, garbageBytes, spare }: Scan): RecoveredLog["repaired"] {
  const { path, used } = index.segments.at(-1)!;
  if (garbageBytes > 0) return { file: path, offset: used, bytes: garbageBytes };
  return spare !== undefined && spare.garbageBytes > 0
    ? { file: spare.path, offset: 0, bytes: spare.garbageBytes }
    : undefined;
}

/** Refuses a log that does not reach from what the state has applied to what is known to be committed. */
function checkReach({ index, hardState, snapshot }: Scan, appliedIndex: LogIndex): void {
  const segment = index.segments.at(-1)!;
  const damaged = (reason: string) => new LogDamagedError(segment.path, segment.used, reason);
  if (index.lastIndex < appliedIndex) {
    throw damaged(
      `the log ends at entry ${index.lastIndex}, but the state has applied entry ${appliedIndex}`,
    );
  }
  if (index.lastIndex < hardState.commit) {
    throw damaged(`the log ends at entry ${index.lastIndex}, but entry ${hardState.commit} was committed`);
  }
  const explained = snapshot !== undefined && snapshot.index >= index.start.index;
  if (index.start.index > appliedIndex && !explained) {
    throw new LogDamagedError(
      index.segments[0]!.path,
      0,
      `the log begins behind entry ${index.start.index}, but the state has only applied entry ${appliedIndex}`,
    );
  }
}
