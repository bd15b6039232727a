/** What a first start makes must outlive a power cut, up to the last folder that was there before. */
import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { ensureStrace } from "../tools/install";
import { scratchDir, startKeelson } from "../tools/server";

const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";

test.skipIf(calibrating)(
  "a first start syncs every folder in which it made a name",
  async () => {
    const base = realpathSync(scratchDir("folders"));
    const present = join(base, "present");
    mkdirSync(present);
    const trace = join(base, "trace");
    const server = await startKeelson({
      dataDir: join(present, "a", "b", "data"),
      logFile: join(base, "log"),
      flags: ["--wal-dir", join(present, "c", "log")],
      wrapper: [ensureStrace(), "-D", "-f", "-y", "-q", "-o", trace, "-e", "trace=fsync"],
    });
    const { pid } = server;
    await server.stop();
    // strace ends after the process that it traces, and then its file is whole.
    const ended = new RegExp(`^${pid} .*exited with 0`, "m");
    while (!ended.test(readFileSync(trace, "utf8"))) await Bun.sleep(20);
    const synced = new Set(
      Array.from(readFileSync(trace, "utf8").matchAll(/fsync\(\d+<([^>]+)>/g), ([, path]) => path),
    );
    for (const folder of ["", "a", "a/b", "a/b/data", "c", "c/log"]) {
      expect(synced).toContain(join(present, folder));
    }
  },
  30_000,
);
