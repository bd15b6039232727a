/** A disk whose syncs go through a function: for --unsafe-no-fsync, and for tests that hold or fail them. */
import type { Disk, DiskFile } from "../member/ports";

/** The same disk, with every sync handed to `around`, which decides whether and when the real one runs. */
export function wrapSyncs(disk: Disk, around: (sync: () => Promise<void>) => Promise<void>): Disk {
  const wrapFile = (file: DiskFile): DiskFile => ({
    write: (offset, bytes) => file.write(offset, bytes),
    read: (offset, length) => file.read(offset, length),
    sync: () => around(() => file.sync()),
    truncate: (size) => file.truncate(size),
    allocate: (size) => file.allocate(size),
    size: () => file.size(),
    close: () => file.close(),
  });
  return {
    open: (path, mode) => wrapFile(disk.open(path, mode)),
    list: (directory) => disk.list(directory),
    makeDirectory: (path) => disk.makeDirectory(path),
    removeDirectory: (path) => disk.removeDirectory(path),
    rename: (from, to) => disk.rename(from, to),
    remove: (path) => disk.remove(path),
    removeLater: (path) => disk.removeLater(path),
    syncDirectory: (directory) => disk.syncDirectory(directory),
    syncDirectoryLater: (directory) => disk.syncDirectoryLater(directory),
    freeBytes: (directory) => disk.freeBytes(directory),
  };
}
