/** The kinds of values that flags take: how each is read from text, and what it is called in help. */
import { formatDurationMs, parseDurationMs } from "./duration";

/** A value that cannot be taken; the message completes the sentence "--flag: ...". */
export class BadValue extends Error {
  override readonly name = "BadValue";
}

export interface FlagType<Value> {
  /** What help prints after the name; empty for booleans, which stand alone. */
  readonly placeholder: string;
  /** True when `--flag` without a value means true, as Go's flag package has it. */
  readonly standsAlone?: boolean;
  /** How a bare number in a configuration file is turned into text; by default it is printed as it is. */
  fromNumber?(value: number): string;
  /** Throws {@link BadValue}. */
  parse(text: string): Value;
}

export const text: FlagType<string> = { placeholder: "text", parse: (value) => value };

export const boolean: FlagType<boolean> = {
  placeholder: "",
  standsAlone: true,
  parse(value) {
    if (/^(1|t|T|true|TRUE|True)$/.test(value)) return true;
    if (/^(0|f|F|false|FALSE|False)$/.test(value)) return false;
    throw new BadValue(`"${value}" is not true or false`);
  },
};

/** A whole number within bounds, both included. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): FlagType<number> {
  return {
    placeholder: "number",
    parse(value) {
      const number = Number(value);
      if (!/^[+-]?\d+$/.test(value) || !Number.isFinite(number)) {
        throw new BadValue(`"${value}" is not a whole number`);
      }
      if (number < min) throw new BadValue(`${value} is too small, at least ${min} is needed`);
      if (number > max) throw new BadValue(`${value} is too large, at most ${max} is possible`);
      return number;
    },
  };
}

/** A Go duration in milliseconds. Bare numbers in configuration files are nanoseconds, as etcd reads them. */
export function duration(minMs: number): FlagType<number> {
  return {
    placeholder: "duration",
    fromNumber: (nanoseconds) => (nanoseconds === 0 ? "0" : `${nanoseconds}ns`),
    parse(value) {
      const durationMs = parseDurationMs(value);
      if (durationMs === undefined) {
        const hint = /^\d+$/.test(value) ? `; a unit is missing, for instance ${value}s` : "";
        throw new BadValue(`"${value}" is not a duration such as 100ms or 1h30m${hint}`);
      }
      if (durationMs < minMs) {
        throw new BadValue(`${value} is too short, at least ${formatDurationMs(minMs)} is needed`);
      }
      return durationMs;
    },
  };
}

/** One of a few words. */
export function oneOf<const Word extends string>(...words: readonly Word[]): FlagType<Word> {
  return {
    placeholder: words.filter((word) => word !== "").join("|"),
    parse(value) {
      const found = words.find((word) => word === value);
      if (found !== undefined) return found;
      throw new BadValue(`"${value}" is not one of ${words.filter((word) => word !== "").join(", ")}`);
    },
  };
}

/** A comma list of words without empty ones. */
export const list: FlagType<readonly string[]> = {
  placeholder: "list",
  parse: (value) =>
    value
      .split(",")
      .map((word) => word.trim())
      .filter((word) => word !== ""),
};

/** A type with its own reader. */
export function custom<Value>(placeholder: string, parse: (value: string) => Value): FlagType<Value> {
  return { placeholder, parse };
}
