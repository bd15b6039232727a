/**
 * Keeps a second process off a data directory. The guard is the kernel's: `flock` on a file in the directory,
 * which ends with its process however that dies, needs no guess whether a written-down process id is still
 * meant, and also holds between containers that share a volume. The process id in the file is only for people.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { errorNumber, libc, systemError } from "./libc";

export const lockFileName = "LOCK";

/** From sys/file.h; the same on every Linux. */
const lockExclusive = 2;
const lockNonBlocking = 4;

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
export function lockDirectory(directory: string): DirectoryLock {
  const library = libc();
  if (library === undefined) throw new Error(`no C library found, so ${directory} cannot be locked`);
  const path = join(directory, lockFileName);
  // "a+" creates the file, and leaves the holder's process id alone until the lock is ours.
  const descriptor = openSync(path, "a+", 0o600);
  if (library.flock(descriptor, lockExclusive | lockNonBlocking) !== 0) {
    const number = errorNumber(library);
    closeSync(descriptor);
    if (number === constants.errno.EWOULDBLOCK) throw new DirectoryLockedError(directory, holder(path));
    throw systemError(number, "flock", path);
  }
  ftruncateSync(descriptor, 0);
  writeSync(descriptor, `${process.pid}\n`);
  let held = true;
  return {
    release() {
      if (held) closeSync(descriptor);
      held = false;
    },
  };
}

function holder(path: string): number | undefined {
  const pid = Number.parseInt(readFileSync(path, "utf8"), 10);
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}
