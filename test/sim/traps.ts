/** While the traps are set, touching real time, randomness or files throws: a leak is found the day it is written. */
import * as fs from "node:fs";
import { spyOn } from "bun:test";

function trap(name: string): () => never {
  return () => {
    throw new Error(`${name} was used inside the virtual world; go through src/member/ports.ts`);
  };
}

const clocks = [
  [globalThis, "setTimeout"],
  [globalThis, "setInterval"],
  [globalThis, "setImmediate"],
  [globalThis, "fetch"],
  [Date, "now"],
  [performance, "now"],
  [Math, "random"],
  [crypto, "getRandomValues"],
  [crypto, "randomUUID"],
] as const;

const files = [
  "openSync",
  "readSync",
  "writeSync",
  "fdatasyncSync",
  "fsyncSync",
  "readFileSync",
  "writeFileSync",
  "readdirSync",
  "mkdirSync",
  "renameSync",
  "unlinkSync",
  "statfsSync",
  "open",
  "fdatasync",
  "fsync",
] as const;

/** Sets the traps; the returned function takes them away. */
export function setTraps(): () => void {
  const spies = [
    ...clocks.map(([owner, name]) =>
      spyOn(owner as unknown as Record<string, (...rest: unknown[]) => unknown>, name).mockImplementation(
        trap(name),
      ),
    ),
    ...files.map((name) =>
      spyOn(fs as unknown as Record<string, (...rest: unknown[]) => unknown>, name).mockImplementation(
        trap(`node:fs ${name}`),
      ),
    ),
  ];
  return () => {
    for (const spy of spies) spy.mockRestore();
  };
}
