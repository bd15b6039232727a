/** Rules of etcd's KV that the model and the checker of histories share: one version, whatever it is kept in. */
import {
  type Compare,
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  RangeRequest_SortTarget as SortTarget,
} from "../../src/proto/gen/etcd/rpc_pb";
import { toBinaryString } from "../../src/bytes";

/** What the rules look at; keys and values are binary strings. The mod revision is given beside it. */
export interface RuledVersion {
  readonly key: string;
  readonly create: number;
  readonly version: number;
  readonly value: string;
  readonly lease: bigint;
}

/** True when `key` lies in etcd's [start, end): one key when `end` is empty, "\0" means without end. */
export function within(key: string, start: string, end: string): boolean {
  if (end === "") return key === start;
  return key >= start && (end === "\0" || key < end);
}

/** What versions are sorted by. */
export function sortRank(version: RuledVersion, mod: number, target: SortTarget): number | string {
  switch (target) {
    case SortTarget.VERSION:
      return version.version;
    case SortTarget.CREATE:
      return version.create;
    case SortTarget.MOD:
      return mod;
    case SortTarget.VALUE:
      return version.value;
    default:
      return version.key;
  }
}

/** Whether a compare is true of its versions, given with their mod revisions: of all of them, or of a key that is not there. */
export function compareHolds(
  compare: Compare,
  versions: readonly { readonly version: RuledVersion; readonly mod: number }[],
): boolean {
  if (versions.length > 0) return versions.every(({ version, mod }) => holds(compare, version, mod));
  if (compare.target === Target.VALUE) return false;
  return holds(compare, { key: "", create: 0, version: 0, value: "", lease: 0n }, 0);
}

function sides(
  { target, targetUnion: given }: Compare,
  version: RuledVersion,
  mod: number,
): readonly [bigint | string, bigint | string] {
  switch (target) {
    case Target.VALUE:
      return [version.value, given.case === "value" ? toBinaryString(given.value) : ""];
    case Target.CREATE:
      return [BigInt(version.create), given.case === "createRevision" ? given.value : 0n];
    case Target.MOD:
      return [BigInt(mod), given.case === "modRevision" ? given.value : 0n];
    case Target.LEASE:
      return [version.lease, given.case === "lease" ? given.value : 0n];
    default:
      return [BigInt(version.version), given.case === "version" ? given.value : 0n];
  }
}

function holds(compare: Compare, version: RuledVersion, mod: number): boolean {
  const [left, right] = sides(compare, version, mod);
  switch (compare.result) {
    case Result.EQUAL:
      return left === right;
    case Result.NOT_EQUAL:
      return left !== right;
    case Result.GREATER:
      return left > right;
    default:
      return left < right;
  }
}
