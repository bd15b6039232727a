/** The calls of the C library that the runtime does not offer: reserving file space, locking a file, scheduling a thread. */
import { dlopen, read } from "bun:ffi";
import { constants } from "node:os";

const signatures = {
  posix_fallocate: { args: ["i32", "i64", "i64"], returns: "i32" },
  flock: { args: ["i32", "i32"], returns: "i32" },
  syscall: { args: ["i64", "i32", "ptr", "u32"], returns: "i64" },
  __errno_location: { args: [], returns: "ptr" },
} as const;

/** glibc by the name of its ABI, then musl. */
const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`, "libc.so"];

function load() {
  for (const name of names) {
    try {
      return dlopen(name, signatures).symbols;
    } catch {
      continue;
    }
  }
  return undefined;
}

type Libc = NonNullable<ReturnType<typeof load>>;
let loaded: Libc | undefined | false = false;

/** The C library, or undefined where it cannot be loaded. Loaded at the first use. */
export function libc(): Libc | undefined {
  if (loaded === false) loaded = load();
  return loaded;
}

/** The error number of the call just made. */
export function errorNumber(library: Libc): number {
  const address = library.__errno_location();
  return address === null ? 0 : read.i32(address, 0);
}

/** An error like those of node:fs, for an error number of the system. */
export function systemError(number: number, call: string, path: string): NodeJS.ErrnoException {
  const code =
    Object.entries(constants.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
  return Object.assign(new Error(`${code}: ${call} failed for ${path}`), {
    code,
    errno: -number,
    syscall: call,
    path,
  });
}

/** How the system shares processor time out to a thread. */
export interface ThreadSchedule {
  /** 0 to 19: how much of it others get before. It cannot be taken back. */
  readonly nice: number;
  /** How long its slices are, 100,000 to 100,000,000 ns: who asks for shorter ones is served sooner (Linux 6.12). */
  readonly sliceNs: number;
}

/** sched_setattr(2) by architecture; the C library has had a name for it only since lately. */
const schedulingCalls: Readonly<Record<string, number>> = { x64: 314, arm64: 274 };

/** SCHED_FLAG_KEEP_POLICY: who started this process may have chosen another class. */
const keepPolicy = 8n;

/** Schedules a thread of this process, 0 being the calling one. Where the system does not take it, nothing changes. */
export function scheduleThread(thread: number, { nice, sliceNs }: ThreadSchedule): void {
  const call = process.platform === "linux" ? schedulingCalls[process.arch] : undefined;
  if (call === undefined) return;
  // struct sched_attr of 48 bytes, as sched_setattr(2) lists it.
  const attributes = Buffer.alloc(48);
  attributes.writeUInt32LE(attributes.length, 0);
  attributes.writeBigUInt64LE(keepPolicy, 8);
  attributes.writeInt32LE(nice, 16);
  attributes.writeBigUInt64LE(BigInt(sliceNs), 24);
  libc()?.syscall(call, thread, attributes, 0);
}
