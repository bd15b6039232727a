import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DirectoryLockedError, lockDirectory, lockFileName } from "./lock";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "keelson-lock-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const source = `
  import { lockDirectory } from ${JSON.stringify(join(import.meta.dir, "lock.ts"))};
  try { lockDirectory(process.argv[1]); } catch (error) { console.log(error.name + ": " + error.message); process.exit(1); }
  if (process.argv[2] === "child") {
    Bun.spawn(["sleep", "3"], { stdio: ["ignore", "ignore", "ignore"] }).unref();
  }
  console.log("locked");
  setTimeout(() => {}, 20_000);
`;

function holder(...extra: string[]) {
  return Bun.spawn([process.execPath, "-e", source, directory, ...extra], { stdout: "pipe" });
}

async function firstLine(child: ReturnType<typeof holder>): Promise<string> {
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return new TextDecoder().decode(value).trim();
}

test("a second process is refused by name of directory and holder, and let in after kill -9 of the first", async () => {
  const first = holder();
  expect(await firstLine(first)).toBe("locked");
  const second = holder();
  expect(await firstLine(second)).toBe(
    `DirectoryLockedError: the data directory ${directory} is in use by process ${first.pid}; ` +
      "stop that process first, or give this one another --data-dir",
  );
  expect(await second.exited).toBe(1);
  expect(() => lockDirectory(directory)).toThrow(DirectoryLockedError);
  first.kill("SIGKILL");
  await first.exited;
  lockDirectory(directory).release();
});

test("a child process does not inherit the lock", async () => {
  const parent = holder("child");
  expect(await firstLine(parent)).toBe("locked");
  parent.kill("SIGKILL");
  await parent.exited;
  lockDirectory(directory).release();
});

test("a lock file left behind, whatever it says, keeps nobody out", () => {
  writeFileSync(join(directory, lockFileName), `${process.ppid}\n`);
  const lock = lockDirectory(directory);
  expect(() => lockDirectory(directory)).toThrow(`process ${process.pid}`);
  lock.release();
  lockDirectory(directory).release();
});
