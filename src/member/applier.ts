/** Where a committed entry meets the state, and everyone who cares about its outcome is told. */
import { fromBinary } from "@bufbuild/protobuf";
import { assert } from "../assert";
import { decodeConfigurationChange } from "../consensus/configuration-change";
import type { Raft } from "../consensus/raft";
import type { Entry } from "../consensus/types";
import { toCounter, type LogIndex } from "../ids";
import { type Command, CommandSchema } from "../proto/gen/keelson/command_pb";
import type { Applied, ApplyResult } from "../state/results";
import type { StateMachine } from "../state/state-machine";
import type { WatchHub } from "../watch/hub";
import type { LeaseKeeper } from "./lease-keeper";
import type { Clock } from "./ports";
import type { Proposal, Proposals } from "./proposals";

/** The version of the command envelope that this build writes and understands. */
export const commandVersion = 1;

export interface ApplierHost {
  /** True while the database must not be written (the last pass of a checkpoint). */
  holding(): boolean;
  /** The compacted revision moved: rows wait to be removed. */
  compacted(): void;
  /** A membership change was applied. */
  configurationChanged(): void;
  /** Apply took longer than the warning limit. */
  slow(operation: string, tookMs: number, index: LogIndex): void;
}

export interface ApplierParts {
  readonly state: StateMachine;
  readonly raft: Raft;
  readonly proposals: Proposals;
  readonly hub: WatchHub;
  readonly leases: LeaseKeeper;
  readonly clock: Clock;
  readonly host: ApplierHost;
  readonly warningApplyMs: number;
}

/** Applies entries in order; at most one is under way. */
export class Applier {
  readonly #parts: ApplierParts;
  /** The entry that needs several slices. */
  #long:
    | { readonly entry: Entry; readonly proposal: Proposal | undefined; readonly startedAtMs: number }
    | undefined;
  /** Counters for metrics. */
  slowCount = 0;

  constructor(parts: ApplierParts) {
    this.#parts = parts;
  }

  apply(entry: Entry): "done" | "again" | "hold" {
    const { state, host, proposals, clock } = this.#parts;
    if (host.holding()) return "hold";
    if (this.#long !== undefined) {
      assert(this.#long.entry === entry, "another entry was offered while one is being applied");
      const applied = state.resume();
      if (applied.pending) return "again";
      const { proposal, startedAtMs } = this.#long;
      this.#long = undefined;
      this.#finish(entry, proposal, applied);
      this.#warnWhenSlow(entry, applied.result, clock.monotonicMs() - startedAtMs);
      return "done";
    }
    if (entry.kind === "configuration") {
      this.#applyConfiguration(entry);
      return "done";
    }
    const proposal = proposals.take(entry.index, entry.term);
    const command = proposal?.command ?? decodeCommand(entry);
    const applied = state.apply(entry.index, entry.term, command);
    if (applied.pending) {
      this.#long = { entry, proposal, startedAtMs: clock.monotonicMs() };
      return "again";
    }
    this.#finish(entry, proposal, applied);
    return "done";
  }

  #applyConfiguration(entry: Entry): void {
    const { state, raft, proposals, host } = this.#parts;
    const change = decodeConfigurationChange(entry.data);
    const applied = state.applyConfiguration(entry.index, entry.term, change);
    assert(!applied.pending, "a membership change is applied at once");
    raft.applyConfiguration(change);
    proposals.take(entry.index, entry.term)?.resolve(applied.result);
    host.configurationChanged();
  }

  #finish(entry: Entry, proposal: Proposal | undefined, applied: Applied & { pending: false }): void {
    if (applied.changes !== undefined) this.#parts.hub.publish(applied.changes);
    if (applied.result.kind !== "put") this.#tellParts(entry, applied.result);
    proposal?.resolve(applied.result);
  }

  /** Effects beyond keys: lease clocks, the compaction in the background. */
  #tellParts(entry: Entry, result: ApplyResult): void {
    const { state, raft, hub, leases, host } = this.#parts;
    switch (result.kind) {
      case "nothing": {
        // The first entry of a term: from here on all leases granted before are known.
        const { role, term } = raft.status();
        if (role === "leader" && term === entry.term) {
          leases.promote(
            term,
            state.leases().map((lease) => ({
              id: lease.id,
              ttlSeconds: lease.grantedTtlSeconds,
              remainingSeconds: lease.remainingTtlSeconds,
            })),
          );
        }
        return;
      }
      case "lease-grant":
        return leases.granted(result.id, result.ttlSeconds);
      case "lease-revoke":
        if (!result.ignored) leases.revoked(result.id);
        return;
      case "lease-checkpoint":
        for (const { ID, remainingTTL } of checkpointsOf(entry)) {
          leases.checkpointed(ID, toCounter(remainingTTL, "remaining TTL"));
        }
        return;
      case "compaction":
        hub.compacted(result.compactedRevision);
        return host.compacted();
      default:
    }
  }

  #warnWhenSlow(entry: Entry, result: ApplyResult, tookMs: number): void {
    if (tookMs < this.#parts.warningApplyMs) return;
    this.slowCount++;
    this.#parts.host.slow(result.kind, tookMs, entry.index);
  }
}

function decodeCommand(entry: Entry): Command | undefined {
  if (entry.data.length === 0) return undefined;
  const command = fromBinary(CommandSchema, entry.data);
  assert(
    command.version === commandVersion,
    `log entry ${entry.index} has command version ${command.version}, this build knows ${commandVersion}: ` +
      "it was written by a newer keelson; start that version again",
  );
  return command;
}

function checkpointsOf(entry: Entry) {
  const { operation } = fromBinary(CommandSchema, entry.data);
  return operation.case === "leaseCheckpoint" ? operation.value.checkpoints : [];
}
