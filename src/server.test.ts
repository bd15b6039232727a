import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCommandLine, type ServerOptions } from "./command/options";
import { silentLogger } from "./log";
import { startServer } from "./server";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "keelson-server-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function optionsOf(...flags: string[]): ServerOptions {
  const anyPort = ["--listen-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0"];
  const command = parseCommandLine(["server", ...anyPort, ...flags], {});
  if (command.kind !== "server") throw new Error(`not a server: ${JSON.stringify(command)}`);
  return command.options;
}

function start(...flags: string[]) {
  return startServer(optionsOf(...flags), silentLogger, {
    fatal(error) {
      throw error;
    },
    removed() {
      throw new Error("a lone member is never removed");
    },
  });
}

test("a log's directory serves one member at a time, whatever the data directory", async () => {
  const log = `--wal-dir=${join(directory, "log")}`;
  const first = await start(`--data-dir=${join(directory, "first")}`, log);
  const second = start(`--data-dir=${join(directory, "second")}`, log);
  expect(await second.catch(String)).toContain("is in use by process");
  await first.stop();
  // The log may also lie in the data directory itself.
  const shared = join(directory, "shared");
  await (await start(`--data-dir=${shared}`, `--wal-dir=${shared}`)).stop();
  await (await start(`--data-dir=${join(directory, "first")}`, log)).stop();
});
