/** Structured logs: JSON lines for machines, readable text on a terminal, and a fake for tests. */

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
