/** Ranges with all of their options, in one go or in slices at a pinned revision (etcd-wire 8.2). */
import { emptyBytes, fromBinaryString } from "../../bytes";
import { refuse } from "../../errors";
import type { Revision } from "../../ids";
import {
  type RangeRequest,
  RangeRequest_SortOrder as Order,
  RangeRequest_SortTarget as Target,
} from "../../proto/gen/etcd/rpc_pb";
import type { RangeSlice, SlicedRange } from "../results";
import type { KeyEntry } from "./key-entry";
import { type KeyRange, keyRange } from "./key-range";
import { encodeRecord, parseRecord, recordValue, withoutValue } from "./record";
import { type Candidate, SortedRuns } from "./sorted-runs";
import type { MvccStore } from "./store";

/** Keys looked up together; large enough to spread the cost of a statement, small against a slice. */
const batchKeys = 128;

/** What a request asks for, in numbers. */
interface RangePlan {
  readonly range: KeyRange;
  /** 0 = no limit. */
  readonly limit: number;
  readonly countOnly: boolean;
  readonly keysOnly: boolean;
  /** Answers can be streamed in key order; otherwise all candidates are gathered first. */
  readonly ordered: boolean;
  readonly target: Target;
  readonly descending: boolean;
  readonly minMod: Revision;
  readonly maxMod: Revision;
  readonly minCreate: Revision;
  readonly maxCreate: Revision;
  /** Candidates to gather at most: with another target and no order, the limit cuts before the sort. */
  readonly gatherMax: number;
}

/** 0 (and, for lower bounds, anything below) means that the bound is off. */
function bound(value: bigint, off: number): number {
  return value === 0n ? off : Number(value);
}

function planOf(request: RangeRequest): RangePlan {
  const { sortOrder, sortTarget: target } = request;
  const limit = request.limit > 0n ? Number(request.limit) : 0;
  const filtered =
    request.minModRevision !== 0n ||
    request.maxModRevision !== 0n ||
    request.minCreateRevision !== 0n ||
    request.maxCreateRevision !== 0n;
  const natural = target === Target.KEY && sortOrder !== Order.DESCEND;
  const cutsFirst = sortOrder === Order.NONE && !filtered && limit > 0;
  return {
    range: keyRange(request.key, request.rangeEnd),
    limit,
    countOnly: request.countOnly,
    keysOnly: request.keysOnly,
    ordered: natural && !filtered,
    target,
    descending: sortOrder === Order.DESCEND,
    minMod: bound(request.minModRevision, -Infinity),
    maxMod: bound(request.maxModRevision, Infinity),
    minCreate: bound(request.minCreateRevision, -Infinity),
    maxCreate: bound(request.maxCreateRevision, Infinity),
    gatherMax: cutsFirst ? limit + 1 : Infinity,
  };
}

/** The revision that a plain range reads at. Throws `futureRev` or `compacted`. */
export function readRevision(store: MvccStore, asked: bigint, newest: Revision): Revision {
  if (asked > BigInt(newest)) throw refuse("futureRev");
  const revision = asked <= 0n ? newest : Number(asked);
  if (revision < store.compactedRevision) throw refuse("compacted");
  return revision;
}

/**
 * One range being read. `newest` is what the reader sees as the newest revision: the published one, or inside a
 * write that write's own. The caller holds a pin at `at` when it lets others work between slices.
 */
export class RangeRun implements SlicedRange {
  readonly #plan: RangePlan;
  #phase: "gather" | "emit" | "count" | "done";
  /** Where the walk goes on. */
  #from: string;
  #count = 0;
  #countKnown = false;
  /** Records that may still be answered. */
  #left: number;
  #more = false;
  #gathered = 0;
  readonly #runs: SortedRuns;
  /** Taken from the runs, and too large for the slice before. */
  #unread: readonly number[] = [];
  /** Read in one go, and so small. */
  #atOnce = false;

  constructor(
    readonly store: MvccStore,
    request: RangeRequest,
    readonly revision: Revision,
    /** The revision at which the range is read. */
    readonly at: Revision,
    readonly onClose: () => void = () => {},
  ) {
    const plan = planOf(request);
    this.#plan = plan;
    this.#from = plan.range.low;
    this.#left = plan.limit === 0 ? Infinity : plan.limit;
    this.#runs = new SortedRuns(plan.descending);
    if (at >= store.writingRevision) {
      // Every key's newest version is the one to be read, so the index knows the count at once.
      this.#count = store.index.countLive(plan.range.low, plan.range.high);
      this.#countKnown = true;
    }
    this.#phase = plan.countOnly ? "count" : plan.ordered ? "emit" : "gather";
  }

  close(): void {
    this.#phase = "done";
    this.onClose();
  }

  next(keysMax: number, bytesMax: number): RangeSlice {
    const records: Uint8Array[] = [];
    if (this.#phase === "gather") this.#gather(keysMax, bytesMax);
    else if (this.#phase === "emit") {
      if (this.#plan.ordered) this.#emitOrdered(records, keysMax, bytesMax);
      else this.#emitSorted(records, keysMax, bytesMax);
    } else if (this.#phase === "count") this.#countOn(keysMax);
    const done = this.#phase === "done";
    return { done, records, count: this.#count, more: done && this.#more };
  }

  /** Runs to the end. */
  all(): RangeSlice {
    this.#atOnce = true;
    const records: Uint8Array[] = [];
    for (;;) {
      const slice = this.next(Infinity, Infinity);
      if (slice.done && records.length === 0) return slice;
      for (const record of slice.records) records.push(record);
      if (slice.done) return { ...slice, records };
    }
  }

  #emitOrdered(records: Uint8Array[], keysMax: number, bytesMax: number): void {
    let keys = keysMax;
    let bytes = bytesMax;
    while (this.#left > 0 && keys > 0 && bytes > 0) {
      const batch = this.#walkOn(Math.min(batchKeys, this.#left), keys, bytes);
      for (const record of batch.records) {
        bytes -= record.length;
        records.push(record);
      }
      keys -= batch.visited;
      this.#left -= batch.records.length;
      if (!this.#countKnown) this.#count += batch.records.length;
      if (batch.ended) {
        this.#finish();
        return;
      }
    }
    if (this.#left > 0) return;
    if (this.#countKnown) this.#finish();
    else this.#phase = "count";
  }

  /** Visits the range's keys from where the walk stopped; a reader of the newest revision need not see dead ones. */
  #walk(visit: (key: string, entry: KeyEntry) => boolean): void {
    const { index, writingRevision } = this.store;
    const { high } = this.#plan.range;
    if (this.at >= writingRevision) index.walkLive(this.#from, high, visit);
    else index.walk(this.#from, high, visit);
  }

  /** The next records in key order: at most `want`, from at most `visitsMax` keys, about `bytesMax` of them. */
  #walkOn(
    want: number,
    visitsMax: number,
    bytesMax: number,
  ): { records: Uint8Array[]; visited: number; ended: boolean } {
    const { keysOnly } = this.#plan;
    const sequences: number[] = [];
    /** The keys of these. */
    const keys: string[] = [];
    /** Records without values that the index alone could make, by their place among all. */
    const made = new Map<number, Uint8Array>();
    let visited = 0;
    let last = "";
    let ended = true;
    this.#walk((key, entry) => {
      visited++;
      last = key;
      const sequence = entry.sequenceAt(this.at);
      if (sequence > 0) {
        if (keysOnly && entry.main <= this.at) {
          const { create, main, version, lease } = entry;
          const record = encodeRecord(
            fromBinaryString(key),
            create,
            main,
            version,
            emptyBytes,
            lease?.encodedId,
          );
          made.set(made.size + sequences.length, record);
        } else {
          sequences.push(sequence);
          keys.push(key);
        }
      }
      ended = made.size + sequences.length < want && visited < visitsMax;
      return ended;
    });
    if (!ended) this.#from = `${last}\0`;
    let records = this.#read(sequences, bytesMax);
    const unread = keys[records.length];
    if (keysOnly) {
      const stored = records.values();
      records = [];
      for (let at = 0; at < made.size + sequences.length; at++) {
        const bare = made.get(at);
        const record = bare === undefined ? stored.next().value : undefined;
        if (bare === undefined && record === undefined) break;
        records.push(bare ?? withoutValue(record!));
      }
    }
    if (unread === undefined) return { records, visited, ended };
    // The rest is too large for now: the walk goes on there.
    this.#from = unread;
    return { records, visited: records.length, ended: false };
  }

  #read(sequences: readonly number[], bytesMax: number): Uint8Array[] {
    const { rows } = this.store;
    return this.#atOnce ? rows.readMany(sequences, true) : rows.readSome(sequences, bytesMax);
  }

  /** The count is complete: all that is left is to say so. */
  #finish(): void {
    const { limit, ordered, countOnly } = this.#plan;
    if (!countOnly && limit > 0) this.#more = (ordered ? this.#count : this.#gathered) > limit;
    this.#phase = "done";
    this.onClose();
  }

  #countOn(keysMax: number): void {
    let visited = 0;
    let ended = true;
    let last = "";
    if (!this.#countKnown) {
      this.#walk((key, entry) => {
        visited++;
        last = key;
        if (entry.sequenceAt(this.at) > 0) this.#count++;
        ended = visited < keysMax;
        return ended;
      });
      if (!ended) {
        this.#from = `${last}\0`;
        return;
      }
      this.#countKnown = true;
    }
    this.#finish();
  }

  /** Finds candidates. Few keys at a time when records have to be looked at and may be long. */
  #gather(keysMax: number, bytesMax: number): void {
    const { rows, writingRevision } = this.store;
    const looks = this.#plan.target === Target.VALUE || this.at < writingRevision;
    const fitting = looks ? Math.floor(bytesMax / Math.max(1, rows.longestBytes)) : keysMax;
    const step = Math.max(1, Math.min(keysMax, fitting));
    let readBytes = 0;
    for (let left = keysMax; left > 0 && readBytes < bytesMax && this.#phase === "gather"; left -= step) {
      readBytes += this.#gatherSome(Math.min(step, left));
    }
  }

  /** The bytes of the records that it had to look at. */
  #gatherSome(keysMax: number): number {
    const plan = this.#plan;
    const filtersCreate = plan.minCreate !== -Infinity || plan.maxCreate !== Infinity;
    const filtersMod = plan.minMod !== -Infinity || plan.maxMod !== Infinity;
    /** An older version's numbers are in its record only. */
    const old: { readonly candidate: Candidate; readonly newest: boolean }[] = [];
    const run: Candidate[] = [];
    let visited = 0;
    let last = "";
    let ended = true;
    this.#walk((key, entry) => {
      visited++;
      last = key;
      const sequence = entry.sequenceAt(this.at);
      if (sequence > 0) {
        if (!this.#countKnown) this.#count++;
        if (this.#gathered + run.length + old.length < plan.gatherMax) {
          const position = this.#runs.nextPosition();
          const newest = entry.main <= this.at;
          const simple = plan.target === Target.KEY && !filtersCreate && !filtersMod;
          if (simple) run.push({ sequence, position, rank: position });
          else if (newest && plan.target !== Target.VALUE) {
            if (this.#passes(entry.main, entry.create)) {
              const rank = rankOf(plan.target, position, entry.version, entry.create, entry.main);
              run.push({ sequence, position, rank });
            }
          } else if (!newest || this.#passes(entry.main, entry.create)) {
            old.push({ candidate: { sequence, position, rank: 0 }, newest });
          }
        } else if (this.#countKnown) {
          // Nothing further can be answered and the count is known.
          return false;
        }
      }
      ended = visited < keysMax;
      return ended;
    });
    let bytes = 0;
    if (old.length > 0) {
      const records = this.store.rows.readMany(
        old.map(({ candidate }) => candidate.sequence),
        this.#atOnce,
      );
      old.forEach(({ candidate: { sequence, position } }, at) => {
        const record = records[at]!;
        bytes += record.length;
        const { create, mod, version } = parseRecord(record);
        if (!this.#passes(mod, create)) return;
        const rank =
          plan.target === Target.VALUE
            ? recordValue(record)
            : rankOf(plan.target, position, version, create, mod);
        run.push({ sequence, position, rank });
      });
    }
    this.#gathered += run.length;
    this.#runs.add(run);
    if (ended) this.#phase = "emit";
    else this.#from = `${last}\0`;
    return bytes;
  }

  #passes(mod: Revision, create: Revision): boolean {
    const { minMod, maxMod, minCreate, maxCreate } = this.#plan;
    return mod >= minMod && mod <= maxMod && create >= minCreate && create <= maxCreate;
  }

  #emitSorted(records: Uint8Array[], keysMax: number, bytesMax: number): void {
    let bytes = 0;
    while (this.#left > 0 && records.length < keysMax && bytes < bytesMax) {
      const sequences =
        this.#unread.length > 0 ? this.#unread : this.#runs.take(Math.min(batchKeys, this.#left));
      if (sequences.length === 0) {
        this.#left = 0;
        break;
      }
      const found = this.#read(sequences, bytesMax - bytes);
      for (const record of found) {
        bytes += record.length;
        records.push(this.#plan.keysOnly ? withoutValue(record) : record);
      }
      this.#unread = sequences.slice(found.length);
      this.#left -= found.length;
    }
    if (this.#left === 0) this.#finish();
  }
}

function rankOf(target: Target, position: number, version: number, create: number, mod: number): number {
  switch (target) {
    case Target.VERSION:
      return version;
    case Target.CREATE:
      return create;
    case Target.MOD:
      return mod;
    default:
      return position;
  }
}
