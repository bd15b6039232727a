/** Keeps a second process off a data directory. */

/** The data directory is in use; the message names it and the process that holds it. */
export class DirectoryLockedError extends Error {
  override readonly name = "DirectoryLockedError";

  constructor(
    readonly directory: string,
    /** Process id of the holder as it wrote it down, when it could be read. */
    readonly holderPid: number | undefined,
  ) {
    super(
      `the data directory ${directory} is in use by ${holderPid === undefined ? "another process" : `process ${holderPid}`}; ` +
        "stop that process first, or give this one another --data-dir",
    );
  }
}

export interface DirectoryLock {
  /** Lets the next process in. The operating system does the same when the process ends in any way. */
  release(): void;
}

/**
 * Locks an existing directory for this process.
 * @throws {DirectoryLockedError} when another process (or another caller in this one) holds it.
 */
export function lockDirectory(_directory: string): DirectoryLock {
  throw new Error("the directory lock is not there yet");
}
