/** The disk of the operating system, as the Disk port wants it. */
import {
  closeSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { open, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Disk, DiskFile } from "../member/ports";
import { libc, systemError } from "./libc";

/** What is written at a time where the system cannot reserve space for us. */
const zeroChunkBytes = 1024 ** 2;
const fileMode = 0o600;
const directoryMode = 0o700;

class SystemFile implements DiskFile {
  readonly #descriptor: number;
  readonly #path: string;

  constructor(descriptor: number, path: string) {
    this.#descriptor = descriptor;
    this.#path = path;
  }

  write(offset: number, bytes: Uint8Array): void {
    let written = 0;
    while (written < bytes.length) {
      written += writeSync(this.#descriptor, bytes, written, bytes.length - written, offset + written);
    }
  }

  read(offset: number, length: number): Uint8Array {
    const buffer = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const count = readSync(this.#descriptor, buffer, filled, length - filled, offset + filled);
      if (count === 0) break;
      filled += count;
    }
    return filled === length ? buffer : buffer.subarray(0, filled);
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#descriptor, (error) => (error ? reject(error) : resolve()));
    });
  }

  truncate(size: number): void {
    ftruncateSync(this.#descriptor, size);
  }

  allocate(size: number): void {
    const present = this.size();
    if (size <= present) return;
    const library = libc();
    if (library !== undefined) {
      const number = library.posix_fallocate(this.#descriptor, 0, size);
      if (number !== 0) throw systemError(number, "posix_fallocate", this.#path);
      return;
    }
    const zeros = new Uint8Array(Math.min(zeroChunkBytes, size - present));
    for (let offset = present; offset < size; offset += zeros.length) {
      this.write(offset, zeros.subarray(0, Math.min(zeros.length, size - offset)));
    }
  }

  size(): number {
    return fstatSync(this.#descriptor).size;
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

const openFlags = { create: "wx+", open: "r+", read: "r" } as const;

function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Builds the real disk. Errors are those of node:fs, with `code` ("ENOSPC", "EIO", ...). */
export function systemDisk(): Disk {
  return {
    open: (path, mode) => new SystemFile(openSync(path, openFlags[mode], fileMode), path),
    list: (directory) => {
      try {
        return readdirSync(directory).sort();
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
        throw error;
      }
    },
    makeDirectory: (path) => {
      const first = mkdirSync(path, { recursive: true, mode: directoryMode });
      if (first === undefined) return;
      // Each new name stands in its parent, and a power cut must not take the whole branch away.
      for (let made = resolve(path); ; made = dirname(made)) {
        syncDirectory(dirname(made));
        if (made === resolve(first) || made === dirname(made)) return;
      }
    },
    removeDirectory: rmdirSync,
    rename: renameSync,
    remove: unlinkSync,
    removeLater: (path) => unlink(path),
    syncDirectory,
    syncDirectoryLater: async (directory) => {
      const handle = await open(directory, "r");
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    },
    freeBytes: (directory) => {
      const { bavail, bsize } = statfsSync(directory);
      return bavail * bsize;
    },
  };
}
