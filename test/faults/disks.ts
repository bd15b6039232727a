/** Disks that are slow, fail, are full, or lie. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { SeededRng } from "../../src/rng";
import { ensureStrace, runToEnd } from "../tools/install";

const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];

/** Put in front of a server's command: each sync takes this long. */
export function slowSyncs(delayMs: number, output: string): string[] {
  return straced(`inject=fdatasync,fsync:delay_enter=${delayMs * 1000}`, output);
}

/** Put in front of a server's command: syncs fail from the given one on. */
export function failingSyncs(from: number, output: string): string[] {
  return straced(`inject=fdatasync,fsync:error=EIO:when=${from}+`, output);
}

function straced(inject: string, output: string): string[] {
  const filter = ["-e", "trace=fdatasync,fsync", "-e", inject];
  // Without seccomp every system call would stop the process twice.
  return [ensureStrace(), "-f", "--seccomp-bpf", "-qq", "-o", output, ...filter];
}

/** A file system of its own, which can be full. Needs root. */
export class SmallDisk {
  readonly #ballast: string;

  private constructor(readonly path: string) {
    this.#ballast = join(path, "ballast");
  }

  static mount(path: string, mebibytes: number): SmallDisk {
    mkdirSync(path, { recursive: true });
    runToEnd([...asRoot, "mount", "-t", "tmpfs", "-o", `size=${mebibytes}m,mode=0777`, "tmpfs", path]);
    return new SmallDisk(path);
  }

  /** Takes all space but so many bytes. */
  fill(leaveBytes: number): void {
    const piece = Buffer.alloc(1024 ** 2, 1);
    const file = openSync(this.#ballast, "w");
    try {
      for (;;) writeSync(file, piece);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      closeSync(file);
    }
    truncateSync(this.#ballast, Math.max(0, statSync(this.#ballast).size - leaveBytes));
  }

  free(): void {
    rmSync(this.#ballast, { force: true });
  }

  unmount(): void {
    runToEnd([...asRoot, "umount", "--lazy", this.path]);
  }
}

/** Every file under a folder, largest first. */
export function filesUnder(dir: string): { readonly path: string; readonly size: number }[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive: true, encoding: "utf8" })
    .map((name) => join(dir, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => ({ path, size: statSync(path).size }))
    .sort((a, b) => b.size - a.size);
}

/** Inverts one bit that lies among written bytes, between two shares of the file's length; where it was. */
export function flipBit(rng: SeededRng, path: string, from: number, to: number): string {
  const { size } = statSync(path);
  const file = openSync(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    for (let attempt = 0; attempt < 10_000; attempt++) {
      const offset = Math.floor(size * from) + rng.below(Math.max(1, Math.floor(size * (to - from))));
      readSync(file, byte, 0, 1, offset);
      if (byte[0] === 0) continue;
      byte[0] = byte[0]! ^ (1 << rng.below(8));
      writeSync(file, byte, 0, 1, offset);
      return `a bit of byte ${offset} of ${size} in ${path}`;
    }
  } finally {
    closeSync(file);
  }
  throw new Error(`${path} holds nothing but zeros`);
}

/** Leaves garbage where a torn write would: the end of the written part is replaced, or cut off. */
export function writeGarbageAfter(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  try {
    writeSync(file, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(file);
  }
}

/** Where the written part of a file that is allocated ahead ends. */
export function writtenEnd(path: string): number {
  const bytes = Buffer.alloc(statSync(path).size);
  const file = openSync(path, "r");
  try {
    readSync(file, bytes, 0, bytes.length, 0);
  } finally {
    closeSync(file);
  }
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return end;
}

/** Empties a folder, as a new disk would be. */
export function wipe(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, ".wiped"), "");
  rmSync(join(dir, ".wiped"));
}
