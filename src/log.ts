/**
 * Structured logs: JSON lines for machines, readable text on a terminal, and a fake for tests. pino makes the lines;
 * its transports run in worker threads that a compiled single-file program cannot load, so the outputs here are
 * plain streams and the text form is our own.
 */
import { openSync, writeSync } from "node:fs";
import pino from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error" | "panic" | "fatal";

/** Facts beside the message. Never keys, values, passwords or tokens. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export interface LogOptions {
  /** Messages below this level are dropped. Default "info". */
  readonly level?: LogLevel;
  /** "stderr", "stdout", "default" (stderr) or paths of files that are appended to. Default ["default"]. */
  readonly outputs?: readonly string[];
  /** "auto": text where the output is a terminal, JSON elsewhere. Default "auto". */
  readonly format?: "auto" | "json" | "console";
}

/** pino's numbers for etcd's levels. */
const levelNumbers = { debug: 20, info: 30, warn: 40, error: 50, panic: 55, fatal: 60 } as const;

const levelColours: Readonly<Record<string, string>> = {
  debug: "\u001b[90m",
  info: "\u001b[32m",
  warn: "\u001b[33m",
  error: "\u001b[31m",
  panic: "\u001b[31m",
  fatal: "\u001b[31m",
};
const grey = "\u001b[90m";
const plain = "\u001b[0m";

/** Names of fields that are never written, whoever passes them. */
const secretNames: ReadonlySet<string> = new Set([
  "password",
  "passwd",
  "token",
  "authorization",
  "secret",
  "key",
  "value",
  "privateKey",
  "hashedPassword",
]);

/** One place that lines go to. */
export interface LogOutput {
  readonly isTerminal: boolean;
  write(text: string): void;
}

function fileOutput(path: string): LogOutput {
  const descriptor = openSync(path, "a", 0o600);
  return { isTerminal: false, write: (text) => void writeSync(descriptor, text) };
}

function standardOutput(stream: NodeJS.WriteStream): LogOutput {
  return { isTerminal: stream.isTTY === true, write: (text) => void stream.write(text) };
}

/** Opens what `--log-outputs` names. Throws the system's error when a file cannot be opened. */
export function openLogOutputs(names: readonly string[]): LogOutput[] {
  return names.map((name) => {
    if (name === "stdout") return standardOutput(process.stdout);
    if (name === "stderr" || name === "default") return standardOutput(process.stderr);
    return fileOutput(name);
  });
}

/** JSON cannot hold these; ids are shown as etcd's tools show them only where the caller says so. */
function presentable(value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return value.message;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return value;
}

function presentableFields(fields: LogFields): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    shown[name] = secretNames.has(name) ? "(hidden)" : presentable(value);
    if (value instanceof Error && value.stack !== undefined) shown[`${name}_stack`] = value.stack;
  }
  return shown;
}

/** Text for people: time, level, message, then the fields as name=value; a stack on lines of its own. */
export function formatForTerminal(line: string, coloured: boolean): string {
  const { level, ts, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const paint = (colour: string, text: string): string => (coloured ? `${colour}${text}${plain}` : text);
  const levelText = String(level);
  let text = `${paint(grey, String(ts))} ${paint(levelColours[levelText] ?? "", levelText.padEnd(5))} ${String(msg)}`;
  let stacks = "";
  for (const [name, value] of Object.entries(fields)) {
    if (name.endsWith("_stack")) {
      stacks += `\n${String(value).replace(/^/gm, "    ")}`;
      continue;
    }
    const shown = typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
    text += ` ${paint(grey, `${name}=`)}${shown}`;
  }
  return `${text}${stacks}\n`;
}

/** Builds a logger over outputs that are open already; {@link createLogger} is the usual way. */
export function loggerOver(outputs: readonly LogOutput[], options: LogOptions = {}): Logger {
  const format = options.format ?? "auto";
  const sink = {
    write(line: string): void {
      for (const output of outputs) {
        const asText = format === "console" || (format === "auto" && output.isTerminal);
        output.write(asText ? formatForTerminal(line, output.isTerminal) : line);
      }
    },
  };
  const logger = pino(
    {
      level: options.level ?? "info",
      customLevels: { ...levelNumbers },
      useOnlyCustomLevels: true,
      base: null,
      messageKey: "msg",
      timestamp: () => `,"ts":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    sink,
  );
  const write = (
    level: "debug" | "info" | "warn" | "error",
    message: string,
    fields: LogFields | undefined,
  ): void => {
    if (levelNumbers[level] < logger.levelVal) return;
    if (fields === undefined) logger[level](message);
    else logger[level](presentableFields(fields), message);
  };
  return {
    debug: (message, fields) => write("debug", message, fields),
    info: (message, fields) => write("info", message, fields),
    warn: (message, fields) => write("warn", message, fields),
    error: (message, fields) => write("error", message, fields),
  };
}

/** The logger of a process. Throws when an output cannot be opened. */
export function createLogger(options: LogOptions = {}): Logger {
  return loggerOver(openLogOutputs(options.outputs ?? ["default"]), options);
}

/** Drops everything. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export interface CapturedLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: LogFields;
}

/** Keeps what was logged, for tests. */
export class CapturingLogger implements Logger {
  readonly lines: CapturedLine[] = [];

  debug(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "debug", message, fields });
  }

  info(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "info", message, fields });
  }

  warn(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "warn", message, fields });
  }

  error(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: "error", message, fields });
  }
}

/** Causes that are remembered at most; a flood of different ones must not become a leak. */
const causesMax = 1024;

/** Lets a message through once per cause and minute, and says how many were held back in between. */
export class OncePerMinute {
  readonly #causes = new Map<string, { sinceMs: number; suppressed: number }>();

  constructor(
    private readonly monotonicMs: () => number = () => performance.now(),
    private readonly intervalMs = 60_000,
  ) {}

  /** Calls `log` with the number of calls held back since the last one, or holds this one back. */
  run(cause: string, log: (suppressed: number) => void): void {
    const nowMs = this.monotonicMs();
    const known = this.#causes.get(cause);
    if (known !== undefined && nowMs - known.sinceMs < this.intervalMs) {
      known.suppressed++;
      return;
    }
    if (known === undefined && this.#causes.size >= causesMax) this.#causes.clear();
    this.#causes.set(cause, { sinceMs: nowMs, suppressed: 0 });
    log(known?.suppressed ?? 0);
  }
}
