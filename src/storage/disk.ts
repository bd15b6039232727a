/** The disk of the operating system, as the Disk port wants it. */
import type { Disk } from "../member/ports";

/** Builds the real disk. Errors are those of node:fs, with `code` ("ENOSPC", "EIO", ...). */
export function systemDisk(): Disk {
  throw new Error("the disk is not there yet");
}
