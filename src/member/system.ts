/** The ports of production: the operating system's clock and randomness. Disk, peers and jobs have files of their own. */
import { randomBytes } from "node:crypto";
import type { Clock, Rng } from "./ports";

/** Real time. `soon` runs after pending I/O, so that work cut into slices lets requests in. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
  soon: (callback) => void setImmediate(callback),
};

/** Unpredictable randomness. */
export const systemRng: Rng = {
  below: (bound) => Math.floor((randomBytes(4).readUInt32LE() / 2 ** 32) * bound),
  bits64: () => randomBytes(8).readBigUInt64LE(),
};
