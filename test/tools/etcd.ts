/**
 * The reference: a real etcd with its etcdctl. Built through Go modules at a pinned version where Go exists, else
 * Debian's packages (3.4).
 */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheDirs, ensureDebianProgram, progress, runToEnd, which, writableCacheDir } from "./install";

/** The etcd that is built; test/tools/etcd/go.mod pins the same. */
export const etcdVersion = "3.6.16";

export interface EtcdTools {
  /** Path of the server. */
  readonly etcd: string;
  /** Path of the command line client. */
  readonly etcdctl: string;
  /** Such as "3.6.16". */
  readonly version: string;
}

function cached(): EtcdTools | undefined {
  for (const dir of cacheDirs()) {
    const etcd = join(dir, `etcd-${etcdVersion}`, "etcd");
    const etcdctl = join(dir, `etcd-${etcdVersion}`, "etcdctl");
    if (existsSync(etcd) && existsSync(etcdctl)) return { etcd, etcdctl, version: etcdVersion };
  }
  return undefined;
}

/** Builds beside the final place and renames, so that an interrupted build never looks finished. */
function build(): EtcdTools {
  const cache = writableCacheDir();
  const target = join(cache, `etcd-${etcdVersion}`);
  const scratch = mkdtempSync(join(cache, "building-"));
  progress(`building etcd ${etcdVersion} and etcdctl with Go (about a minute, once)`);
  try {
    const source = join(import.meta.dir, "etcd");
    for (const [folder, name] of [
      ["server", "etcd"],
      ["etcdctl", "etcdctl"],
    ] as const) {
      runToEnd(["go", "build", "-trimpath", "-o", join(scratch, name), `./${folder}`], {
        cwd: source,
        env: { CGO_ENABLED: "0" },
      });
    }
    mkdirSync(cache, { recursive: true });
    if (cached() === undefined) {
      rmSync(target, { recursive: true, force: true });
      renameSync(scratch, target);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return { etcd: join(target, "etcd"), etcdctl: join(target, "etcdctl"), version: etcdVersion };
}

function fromDebian(): EtcdTools {
  const etcd = ensureDebianProgram("etcd", "etcd-server");
  const etcdctl = ensureDebianProgram("etcdctl", "etcd-client");
  const version = /etcd Version: (\S+)/.exec(runToEnd([etcd, "--version"]))?.[1];
  if (version === undefined) throw new Error(`${etcd} --version does not say its version`);
  return { etcd, etcdctl, version };
}

let found: EtcdTools | undefined;

/**
 * The reference etcd, obtained if need be. KEELSON_TEST_ETCD_DIR names a folder with another etcd and etcdctl.
 * Throws with advice when there is no way to get one.
 */
export async function ensureEtcd(): Promise<EtcdTools> {
  if (found !== undefined) return found;
  const given = process.env["KEELSON_TEST_ETCD_DIR"];
  if (given !== undefined) {
    const etcd = join(given, "etcd");
    const version = /etcd Version: (\S+)/.exec(runToEnd([etcd, "--version"]))?.[1];
    if (version === undefined) throw new Error(`${etcd} --version does not say its version`);
    found = { etcd, etcdctl: join(given, "etcdctl"), version };
    return found;
  }
  found = cached();
  if (found === undefined && which("go") !== undefined) {
    try {
      found = build();
    } catch (error) {
      progress(`building etcd failed, using Debian's instead: ${String(error)}`);
    }
  }
  found ??= fromDebian();
  return found;
}
