/** The durable log: where a member's entries and hard state live. See README.md beside this file. */
import type { LogIndex } from "../../ids";
import type { Disk } from "../../member/ports";
import type { DurableLog, LogIdentity, LogObserver, RecoveredLog } from "./types";

export { LogClosedError, LogDamagedError, LogFailedError, LogFullError, LogVersionError } from "./errors";

/** The size at which a segment ends and the next one begins, in bytes. */
export const segmentBytesDefault = 64 * 1024 ** 2;

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
  /** The applied index that the state database holds durably; the log has to reach that far. */
  readonly appliedIndex: LogIndex;
  readonly observer?: LogObserver | undefined;
}

/** Whether the directory holds a log that was begun and not merely prepared: then open it, do not create. */
export function logExists(_directory: string, _disk: Disk): boolean {
  throw new Error("the log is not there yet");
}

/** Begins an empty log; resolves when it would survive a power cut. Refuses a directory that holds one. */
export function createLog(_options: CreateLogOptions): Promise<DurableLog> {
  return Promise.reject(new Error("the log is not there yet"));
}

/**
 * Opens an existing log, cutting off a tail that was never synced. Whatever it returns is on disk.
 * @throws LogDamagedError, LogVersionError
 */
export function openLog(
  _options: OpenLogOptions,
): Promise<{ readonly log: DurableLog; readonly recovered: RecoveredLog }> {
  return Promise.reject(new Error("the log is not there yet"));
}
