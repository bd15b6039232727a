/** Durations as Go writes them ("1h30m", "100ms", "1.5s"), which is how etcd's flags take them. */

const nanosecondsPerUnit: ReadonlyMap<string, number> = new Map([
  ["ns", 1],
  ["us", 1e3],
  ["µs", 1e3],
  ["μs", 1e3],
  ["ms", 1e6],
  ["s", 1e9],
  ["m", 60e9],
  ["h", 3600e9],
]);

/** Go keeps durations in 63 bits of nanoseconds: about 292 years. */
const nanosecondsMax = 2 ** 63;

/** Milliseconds (may have a fraction, may be negative), or undefined when `text` is not a Go duration. */
export function parseDurationMs(text: string): number | undefined {
  const negative = text.startsWith("-");
  const rest = negative || text.startsWith("+") ? text.slice(1) : text;
  if (rest === "0") return 0;
  if (rest === "") return undefined;
  const part = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let nanoseconds = 0;
  while (part.lastIndex < rest.length) {
    const match = part.exec(rest);
    if (match === null) return undefined;
    nanoseconds += Number(match[1]) * nanosecondsPerUnit.get(match[2]!)!;
  }
  if (nanoseconds >= nanosecondsMax) return undefined;
  return (negative ? -nanoseconds : nanoseconds) / 1e6;
}

/** A short form for people: "1h30m", "2m", "1.5s", "100ms", "0s". */
export function formatDurationMs(durationMs: number): string {
  if (durationMs === 0) return "0s";
  if (durationMs < 0) return `-${formatDurationMs(-durationMs)}`;
  if (durationMs < 1000) return `${Number(durationMs.toPrecision(12))}ms`;
  const hours = Math.floor(durationMs / 3_600_000);
  const minutes = Math.floor((durationMs % 3_600_000) / 60_000);
  const seconds = Number(((durationMs % 60_000) / 1000).toFixed(9));
  return (hours ? `${hours}h` : "") + (minutes ? `${minutes}m` : "") + (seconds ? `${seconds}s` : "");
}
