/** The two calls of the C library that the runtime does not offer: reserving file space and locking a file. */
import { dlopen, read } from "bun:ffi";
import { constants } from "node:os";

const signatures = {
  posix_fallocate: { args: ["i32", "i64", "i64"], returns: "i32" },
  flock: { args: ["i32", "i32"], returns: "i32" },
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
