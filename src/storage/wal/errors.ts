/** What can go wrong with a log, by what the member has to do about it. */

/**
 * Bytes that were on disk are gone or changed, or the log does not reach as far as something that it must
 * cover. The member refuses to start: with fewer entries than it once acknowledged it could vote a leader
 * into office that never had them.
 */
export class LogDamagedError extends Error {
  override readonly name = "LogDamagedError";

  constructor(
    /** The file that the damage was found in. */
    readonly file: string,
    /** Where in the file, in bytes. */
    readonly offset: number,
    readonly reason: string,
    readonly advice: string = replaceAdvice,
  ) {
    super(`the log is damaged: ${file} at byte ${offset}: ${reason}. ${advice}`);
  }
}

/** What an operator can do about a damaged log. */
export const replaceAdvice =
  "Do not delete single files: acknowledged writes would be forgotten. " +
  "In a cluster, remove this member and add it again with an empty data directory; " +
  "a single member is restored from its latest snapshot";

/** The log was written by a newer format than this build reads. */
export class LogVersionError extends Error {
  override readonly name = "LogVersionError";
}

/**
 * There was no room on disk. Nothing of the batch counts as written and the log stays usable: offer the same
 * batch again, before any later one, when there is room.
 */
export class LogFullError extends Error {
  override readonly name = "LogFullError";
}

/**
 * A write or a sync failed in a way that leaves unknown what is on disk. The log refuses everything from then
 * on, and the process has to end; the next start finds out what is there.
 */
export class LogFailedError extends Error {
  override readonly name = "LogFailedError";
}

/** The log was closed before the batch was written. */
export class LogClosedError extends Error {
  override readonly name = "LogClosedError";
}

/** Error codes of a disk, or a share of it, that is full. */
const fullCodes: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);

/** Whether an error says that there is no room. */
export function isFull(error: unknown): boolean {
  return error instanceof LogFullError || fullCodes.has((error as NodeJS.ErrnoException | undefined)?.code);
}

/** The error of a batch that found no room. */
export function fullError(cause: unknown): LogFullError {
  return cause instanceof LogFullError
    ? cause
    : new LogFullError("there is no room on disk for the log; free space, writes go on by themselves then", {
        cause,
      });
}
