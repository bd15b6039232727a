/** Seeds that once failed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Regression {
  readonly seed: number;
  readonly seconds: number;
  readonly name: string;
}

/** The lines of `seeds.txt`: "seed seconds what it was". */
export function regressions(): Regression[] {
  return readFileSync(join(import.meta.dir, "seeds.txt"), "utf8")
    .split("\n")
    .filter((line) => /^\d/.test(line))
    .map((line) => {
      const [seed, seconds, ...name] = line.split(" ");
      return { seed: Number(seed), seconds: Number(seconds), name: name.join(" ") };
    });
}
