/**
 * A driver for the core as the contract asks for it, with every step in the hands of the test: when batches reach the
 * disk, when entries are applied, what a crash leaves behind.
 */
import { assert } from "../../assert";
import type { LogIndex, MemberId, Term } from "../../ids";
import { SeededRng, type Rng } from "../../rng";
import { decodeConfigurationChange } from "../configuration-change";
import { Raft, type Completion, type ConsensusOptions } from "../raft";
import type {
  Configuration,
  ConfirmedRead,
  Entry,
  HardState,
  Message,
  Ready,
  SnapshotPosition,
} from "../types";
import { SimulatedLog } from "./simulated-log";

/** What the replicated state amounts to: where it stands, a digest of how it came there, who belongs. */
export interface SimulatedState {
  readonly applied: LogIndex;
  readonly appliedTerm: Term;
  readonly digest: number;
  readonly configuration: Configuration;
}

/** A batch on its way to the disk, with the messages that wait for it; or the commit point of a snapshot. */
type Write =
  | {
      readonly kind: "batch";
      readonly entries: readonly Entry[];
      readonly hardState: HardState | undefined;
      readonly messages: readonly Message[];
      readonly completion: Completion | undefined;
    }
  | { readonly kind: "snapshot"; readonly state: SimulatedState };

/** The world around a member. */
export interface Surroundings {
  send(message: Message): void;
  /** Called with every Ready, after its entries entered the mirror. */
  taken?(member: SimulatedMember, ready: Ready): void;
  applied?(member: SimulatedMember, entry: Entry): void;
  confirmed?(member: SimulatedMember, read: ConfirmedRead): void;
  abandoned?(member: SimulatedMember, contexts: readonly number[]): void;
  /** The data of a snapshot that some member offered; undefined when it is lost. */
  snapshot(index: LogIndex): SimulatedState | undefined;
  snapshotMade(state: SimulatedState): void;
}

export type MemberOptions = Omit<ConsensusOptions, "id" | "rng">;

export class SimulatedMember {
  raft: Raft;
  /** Survives crashes. */
  readonly disk: SimulatedLog;
  durableState: SimulatedState;
  /** The log as it will be when everything in flight is on disk. */
  mirror: SimulatedLog;
  state: SimulatedState;
  writes: Write[] = [];
  toApply: Entry[] = [];
  running = true;
  incarnation = 0;
  installing: SnapshotPosition | undefined;
  readonly #surroundings: Surroundings;
  readonly #options: MemberOptions;
  readonly #rng: Rng;

  constructor(
    readonly id: MemberId,
    options: MemberOptions,
    configuration: Configuration,
    start: { readonly index: LogIndex; readonly term: Term },
    rng: Rng,
    surroundings: Surroundings,
  ) {
    this.#surroundings = surroundings;
    this.#options = options;
    this.#rng = rng;
    this.disk = new SimulatedLog({ ...start }, { term: start.term, vote: 0n, commit: start.index });
    this.mirror = this.disk.clone();
    this.durableState = {
      applied: start.index,
      appliedTerm: start.term,
      digest: start.index === 0 ? 0 : 1,
      configuration,
    };
    this.state = this.durableState;
    this.raft = this.#build(0);
  }

  #build(extraTail: number): Raft {
    const { disk, state } = this;
    const hardState = disk.hardState;
    const commit = Math.max(hardState.commit, state.applied);
    const wanted = Math.min(commit + 1, disk.lastIndex) - extraTail;
    const tailFirst = Math.max(disk.start.index + 1, wanted);
    return new Raft(
      { ...this.#options, id: this.id, rng: new SeededRng(this.#rng.below(2 ** 32)) },
      {
        hardState,
        configuration: state.configuration,
        start: { ...disk.start },
        tail: disk.entries.slice(tailFirst - disk.start.index - 1),
        lastIndex: disk.lastIndex,
        applied: state.applied,
      },
    );
  }

  /** Takes a Ready, if there is one, and does what needs no waiting. */
  takeReady(): Ready | undefined {
    if (!this.raft.hasReady()) return undefined;
    const ready = this.raft.ready();
    this.mirror.write(ready.entries, ready.hardState);
    if (ready.persist !== undefined || ready.hardState !== undefined) {
      assert(ready.mustSync === (ready.persist !== undefined), "mustSync and persist go together");
      this.writes.push({
        kind: "batch",
        entries: ready.entries,
        hardState: ready.hardState,
        messages: ready.sendAfterPersist,
        completion: ready.persist,
      });
    } else {
      assert(ready.entries.length === 0, "entries without persist");
      assert(ready.sendAfterPersist.length === 0, "messages wait for nothing");
    }
    this.#surroundings.taken?.(this, ready);
    for (const message of ready.sendNow) this.#surroundings.send(message);
    this.toApply.push(...ready.committed);
    for (const read of ready.reads) this.#surroundings.confirmed?.(this, read);
    if (ready.abandonedReads.length > 0) this.#surroundings.abandoned?.(this, ready.abandonedReads);
    for (const range of ready.wanted)
      this.raft.supplyEntries(range.low, this.disk.read(range.low, range.high, range.bytesMax));
    if (ready.snapshotWanted) this.offerSnapshot();
    if (ready.install !== undefined) this.installing = ready.install;
    return ready;
  }

  offerSnapshot(): void {
    const { applied, appliedTerm, configuration } = this.state;
    this.#surroundings.snapshotMade(this.state);
    this.raft.snapshotAvailable({ index: applied, term: appliedTerm, configuration });
  }

  /** The oldest write reaches the disk. */
  completeWrite(): boolean {
    const write = this.writes.shift();
    if (write === undefined) return false;
    if (write.kind === "snapshot") {
      this.#commitSnapshot(write.state);
      this.state = write.state;
      this.toApply = [];
      this.installing = undefined;
      const { applied, appliedTerm, configuration } = write.state;
      this.raft.snapshotInstalled({ index: applied, term: appliedTerm, configuration });
      return true;
    }
    this.disk.write(write.entries, write.hardState);
    for (const message of write.messages) this.#surroundings.send(message);
    if (write.completion !== undefined) this.raft.persisted(write.completion);
    return true;
  }

  #commitSnapshot(state: SimulatedState): void {
    const { applied: index, appliedTerm: term, configuration } = state;
    this.disk.install({ index, term, configuration });
    this.mirror.install({ index, term, configuration });
    this.durableState = state;
  }

  /** The data of an offered snapshot arrives, or does not. */
  receiveSnapshot(arrives: boolean): boolean {
    const position = this.installing;
    if (position === undefined || this.writes.some((write) => write.kind === "snapshot")) return false;
    const state = arrives ? this.#surroundings.snapshot(position.index) : undefined;
    if (state === undefined) {
      this.installing = undefined;
      this.raft.snapshotInstallFailed(position);
    } else {
      assert(state.appliedTerm === position.term, `snapshot ${position.index} has another term`);
      this.writes.push({ kind: "snapshot", state });
    }
    return true;
  }

  /** Applies the next committed entry. */
  applyOne(): boolean {
    // What is being replaced by a snapshot moves no more.
    if (this.writes.some((write) => write.kind === "snapshot")) return false;
    const entry = this.toApply.shift();
    if (entry === undefined) return false;
    assert(entry.index === this.state.applied + 1, `applies ${entry.index} after ${this.state.applied}`);
    let { configuration } = this.state;
    if (entry.kind === "configuration")
      configuration = this.raft.applyConfiguration(decodeConfigurationChange(entry.data));
    this.state = {
      applied: entry.index,
      appliedTerm: entry.term,
      digest: digest(this.state.digest, entry),
      configuration,
    };
    this.raft.appliedTo(entry.index);
    this.#surroundings.applied?.(this, entry);
    return true;
  }

  /** The state so far becomes durable, and the log may forget what it covers. */
  checkpoint(cutTo: LogIndex | undefined): void {
    this.durableState = this.state;
    if (cutTo === undefined || cutTo <= this.disk.start.index || cutTo > this.state.applied) return;
    const term = this.disk.term(cutTo);
    this.disk.cut(cutTo);
    this.mirror.cut(cutTo);
    this.raft.compactTo(cutTo, term);
  }

  /** `keep` writes in flight reached the disk in full, and of the next one a part. */
  crash(keep: number, part: { readonly entries: number; readonly hardState: boolean }): void {
    for (const write of this.writes.slice(0, keep)) {
      if (write.kind === "snapshot") this.#commitSnapshot(write.state);
      else this.disk.write(write.entries, write.hardState);
    }
    const torn = this.writes[keep];
    if (torn !== undefined && torn.kind === "batch")
      this.disk.write(torn.entries.slice(0, part.entries), part.hardState ? torn.hardState : undefined);
    this.running = false;
  }

  restart(extraTail: number): void {
    this.incarnation++;
    this.running = true;
    this.writes = [];
    this.toApply = [];
    this.installing = undefined;
    this.state = this.durableState;
    this.mirror = this.disk.clone();
    this.raft = this.#build(extraTail);
  }
}

/** A running digest: equal only if the same entries were applied in the same order. */
export function digest(before: number, entry: Entry): number {
  let hash = Math.imul(before ^ entry.index, 0x01000193) ^ entry.term;
  for (const byte of entry.data) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
