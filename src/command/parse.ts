import type { ParsedCommand } from "./options";

/**
 * Reads the command line (without the program's own name), the environment and, when one is named, the
 * configuration file.
 */
export function parseCommandLine(
  _argv: readonly string[],
  _environment: Readonly<Record<string, string | undefined>>,
): ParsedCommand {
  throw new Error("not written yet");
}
