/**
 * Where the tools of the tests come from: built with Go and kept in a cache, or installed with Debian's apt.
 * Nothing here is needed to run Keelson itself.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** The root of the repository. */
export const repositoryDir = resolve(import.meta.dir, "../..");

/** Says what is going on; test/run.ts leaves it on, single test files stay quiet unless something takes long. */
export function progress(line: string): void {
  console.error(`tools: ${line}`);
}

/** The full path of a program on PATH, or undefined. */
export function which(program: string): string | undefined {
  return Bun.which(program) ?? undefined;
}

/** Runs a program to its end and returns what it printed; throws with its output when it fails. */
export function runToEnd(
  command: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; timeoutMs?: number } = {},
): string {
  const [program, ...rest] = command;
  if (program === undefined) throw new Error("no program given");
  const result = spawnSync(program, rest, {
    cwd: options.cwd ?? repositoryDir,
    env: { ...process.env, ...options.env },
    timeout: options.timeoutMs ?? 600_000,
    encoding: "utf8",
    maxBuffer: 256 * 1024 ** 2,
  });
  if (result.status !== 0) {
    const why = result.error ? result.error.message : `exit code ${String(result.status)}`;
    throw new Error(`${command.join(" ")}: ${why}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

function writable(dir: string): boolean {
  try {
    mkdirSync(dir, { recursive: true });
    accessSync(dir, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The caches to look into, nearest first: the repository's own (ignored by git), then the user's. */
export function cacheDirs(): string[] {
  const userCache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return [join(repositoryDir, ".cache"), join(userCache, "keelson")];
}

/** The first cache that can be written. */
export function writableCacheDir(): string {
  const found = cacheDirs().find(writable);
  if (found === undefined) throw new Error(`none of these folders can be written: ${cacheDirs().join(", ")}`);
  return found;
}

let aptListsFresh = false;

/**
 * Makes sure that `program` is on PATH, installing Debian's `packageName` when it is not.
 * Needs apt-get and root, or sudo without a password; says so when that is missing.
 */
export function ensureDebianProgram(program: string, packageName: string): string {
  const present = which(program);
  if (present !== undefined) return present;
  const advice = `${program} is needed by the tests: install Debian's package ${packageName} (apt-get install ${packageName})`;
  if (which("apt-get") === undefined) throw new Error(`${advice}; there is no apt-get here to do it with`);
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  if (asRoot.length > 0 && which("sudo") === undefined) {
    throw new Error(`${advice}; the tests run neither as root nor can they use sudo`);
  }
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  progress(`installing ${packageName} with apt-get`);
  try {
    if (!aptListsFresh) runToEnd([...asRoot, "apt-get", "update", "-qq"], { env });
    aptListsFresh = true;
    runToEnd([...asRoot, "apt-get", "install", "-y", "-qq", "--no-install-recommends", packageName], { env });
  } catch (error) {
    throw new Error(`${advice}; installing it failed: ${String(error)}`, { cause: error });
  }
  const installed = which(program);
  if (installed === undefined) throw new Error(`${packageName} is installed, but ${program} is not on PATH`);
  return installed;
}

/** h2load, the HTTP/2 load generator of nghttp2. */
export function ensureH2load(): string {
  return ensureDebianProgram("h2load", "nghttp2-client");
}

/** strace, which makes chosen system calls of a process fail. */
export function ensureStrace(): string {
  return ensureDebianProgram("strace", "strace");
}

/** Chromium, which shows the console's pages to the tests. */
export function ensureChromium(): string {
  return ensureDebianProgram("chromium", "chromium");
}
