import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger, formatForTerminal, loggerOver, OncePerMinute, type LogOutput } from "./log";

class Collecting implements LogOutput {
  text = "";

  constructor(readonly isTerminal = false) {}

  write(text: string): void {
    this.text += text;
  }
}

test("lines are JSON with level, time and message", () => {
  const output = new Collecting();
  loggerOver([output]).info("ready to serve client requests", { memberId: 0x8e9e05c52164694dn, port: 2379 });
  const line = JSON.parse(output.text) as Record<string, unknown>;
  expect(line).toEqual({
    level: "info",
    ts: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    memberId: "10276657743932975437",
    port: 2379,
    msg: "ready to serve client requests",
  });
  expect(output.text).toEndWith("\n");
});

test("messages below the level are dropped", () => {
  const output = new Collecting();
  const log = loggerOver([output], { level: "warn" });
  log.debug("a");
  log.info("b");
  log.warn("c");
  log.error("d");
  expect(output.text.match(/"msg":"."/g)).toEqual(['"msg":"c"', '"msg":"d"']);
  const quiet = new Collecting();
  loggerOver([quiet], { level: "fatal" }).error("e");
  expect(quiet.text).toBe("");
});

test("secrets and bytes are never written", () => {
  const output = new Collecting();
  loggerOver([output]).warn("refused", {
    user: "root",
    password: "hunter2",
    token: "abc.1",
    key: "secret-key",
    value: new Uint8Array([1, 2, 3]),
    body: Buffer.from("secret-body"),
  });
  for (const secret of ["hunter2", "abc.1", "secret"]) expect(output.text).not.toContain(secret);
  expect(output.text).toContain('"body":"11 bytes"');
});

test("a terminal gets text, a file JSON, and both at once", () => {
  const terminal = new Collecting(true);
  const file = new Collecting();
  loggerOver([terminal, file]).error("it broke", {
    error: new Error("why it did"),
    count: 2,
    text: "two words",
  });
  expect(JSON.parse(file.text)).toMatchObject({ level: "error", error: "why it did" });
  expect(terminal.text).toContain("it broke");
  expect(terminal.text).toContain('"why it did"');
  expect(terminal.text).toContain('"two words"');
  expect(terminal.text).toMatch(/\n {4}.*at /);
  expect(() => JSON.parse(terminal.text) as unknown).toThrow();
});

test("text without colours is plain", () => {
  const line = '{"level":"warn","ts":"2026-01-02T03:04:05.678Z","path":"/a","msg":"slow"}\n';
  expect(formatForTerminal(line, false)).toBe("2026-01-02T03:04:05.678Z warn  slow path=/a\n");
});

test("files are appended to", () => {
  const directory = mkdtempSync(join(tmpdir(), "keelson-log-"));
  const path = join(directory, "server.log");
  createLogger({ outputs: [path] }).info("one");
  createLogger({ outputs: [path] }).info("two");
  expect(readFileSync(path, "utf8").trimEnd().split("\n")).toHaveLength(2);
  expect(() => createLogger({ outputs: [join(directory, "no", "such")] })).toThrow();
  rmSync(directory, { recursive: true });
});

test("a cause is logged once a minute, with the number held back", () => {
  let nowMs = 0;
  const once = new OncePerMinute(() => nowMs);
  const logged: number[] = [];
  const log = (suppressed: number): void => void logged.push(suppressed);
  once.run("disk full", log);
  once.run("disk full", log);
  once.run("other", log);
  nowMs = 59_999;
  once.run("disk full", log);
  nowMs = 60_000;
  once.run("disk full", log);
  expect(logged).toEqual([0, 0, 2]);
});
