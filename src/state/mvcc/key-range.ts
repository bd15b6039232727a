/** Half-open ranges of keys, as requests spell them (etcd-wire 8.2). */
import { toBinaryString } from "../../bytes";

export interface KeyRange {
  readonly low: string;
  /** Exclusive; undefined means to the end. */
  readonly high: string | undefined;
  readonly single: boolean;
}

/** An empty end means the key alone, one zero byte everything from the key on. */
export function keyRange(key: Uint8Array, rangeEnd: Uint8Array): KeyRange {
  const low = toBinaryString(key);
  if (rangeEnd.length === 0) return { low, high: `${low}\0`, single: true };
  if (rangeEnd.length === 1 && rangeEnd[0] === 0) return { low, high: undefined, single: false };
  return { low, high: toBinaryString(rangeEnd), single: false };
}
