/** Where a committed entry meets the state, and everyone who cares about its outcome is told. */
import { assert } from "../assert";
import { decodeConfigurationChange } from "../consensus/configuration-change";
import type { Raft } from "../consensus/raft";
import type { Entry } from "../consensus/types";
import { refuse } from "../errors";
import { toCounter, type LogIndex, type MemberId } from "../ids";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { Applied, ApplyResult, LeaseInfo } from "../state/results";
import type { StateMachine } from "../state/state-machine";
import type { WatchHub } from "../watch/hub";
import { decodeCommand } from "./command-codec";
import type { LeaseKeeper, LeaseSource, LeaseTiming } from "./lease-keeper";
import type { Clock } from "./ports";
import type { Proposal, Proposals } from "./proposals";

/** The version of the command envelope that this build writes and understands. */
export const commandVersion = 1;

export interface ApplierHost {
  /** True while the database must not be written (the last pass of a checkpoint). */
  holding(): boolean;
  /** The compacted revision moved: rows wait to be removed. */
  compacted(): void;
  /** A membership change was applied, or where a member listens. */
  configurationChanged(): void;
  /** Apply took longer than the warning limit. */
  slow(operation: string, tookMs: number, index: LogIndex): void;
}

/** Told about every applied command and commit of the database, for metrics: keep it to a few additions. */
export interface ApplyObserver {
  /** Rows of applied commands were committed. */
  committed?(tookMs: number): void;
  applied(operation: Command["operation"]["case"], result: ApplyResult, tookMs: number): void;
}

export interface ApplierParts {
  readonly state: StateMachine;
  readonly raft: Raft;
  readonly proposals: Proposals;
  readonly hub: WatchHub;
  readonly leases: LeaseKeeper;
  readonly clock: Clock;
  readonly host: ApplierHost;
  readonly observer: ApplyObserver | undefined;
  readonly warningApplyMs: number;
  /** The life of this member, by which it knows its own proposals among the leader's entries. */
  readonly self: MemberId;
  readonly incarnation: bigint;
}

/** An entry that is being applied: who proposed it here, what it asks, since when. */
interface Work {
  readonly entry: Entry;
  readonly proposal: Proposal | undefined;
  readonly command: Command | undefined;
  readonly startedAtMs: number;
}

/** Applies entries in order; at most one is under way. */
export class Applier {
  readonly #parts: ApplierParts;
  /** The entry that needs several slices. */
  #long: Work | undefined;
  /** Counter for metrics. */
  slowCount = 0;

  constructor(parts: ApplierParts) {
    this.#parts = parts;
    const { state, clock, observer } = parts;
    if (observer?.committed === undefined) return;
    state.timeCommits((commit) => {
      const startedAtMs = clock.monotonicMs();
      commit();
      observer.committed?.(clock.monotonicMs() - startedAtMs);
    });
  }

  apply(entry: Entry): "done" | "again" | "hold" {
    const { state, host, proposals, clock } = this.#parts;
    if (host.holding()) return "hold";
    if (this.#long !== undefined) {
      assert(this.#long.entry === entry, "another entry was offered while one is being applied");
      return this.#finish(this.#long, state.resume());
    }
    proposals.termApplied(entry.term);
    if (entry.kind === "configuration") {
      this.#applyConfiguration(entry);
      return "done";
    }
    const startedAtMs = clock.monotonicMs();
    let proposal = proposals.take(entry.index, entry.term);
    const command = proposal?.command ?? commandOf(entry);
    if (proposal === undefined && proposals.anyForwarded) proposal = this.#forwarded(command);
    const work = { entry, proposal, command, startedAtMs };
    return this.#finish(work, state.apply(entry.index, entry.term, command));
  }

  /** The proposal of this member that became this entry of a leader. */
  #forwarded(command: Command | undefined): Proposal | undefined {
    const id = command?.requestId;
    const { self, incarnation, proposals } = this.#parts;
    return id?.memberId === self && id.incarnation === incarnation ? proposals.takeForwarded(id) : undefined;
  }

  #applyConfiguration(entry: Entry): void {
    const { state, raft, proposals, host } = this.#parts;
    const change = decodeConfigurationChange(entry.data);
    const applied = state.applyConfiguration(entry.index, entry.term, change);
    assert(!applied.pending, "a membership change is applied at once");
    // A change that the state refuses is vetoed on every member alike: it judges by what came before in the log.
    const isMade = applied.result.kind !== "refused";
    if (isMade) raft.applyConfiguration(change);
    proposals.take(entry.index, entry.term)?.resolve(applied.result);
    if (isMade) host.configurationChanged();
  }

  #finish(work: Work, applied: Applied): "done" | "again" {
    if (applied.pending) {
      this.#long = work;
      return "again";
    }
    this.#long = undefined;
    const { hub, clock, observer, warningApplyMs } = this.#parts;
    const { result, changes } = applied;
    if (changes !== undefined) hub.publish(changes);
    if (result.kind !== "put") this.#tellParts(work.entry, work.command, result);
    const tookMs = clock.monotonicMs() - work.startedAtMs;
    observer?.applied(work.command?.operation.case, result, tookMs);
    if (tookMs >= warningApplyMs) {
      this.slowCount++;
      this.#parts.host.slow(result.kind, tookMs, work.entry.index);
    }
    work.proposal?.resolve(result);
    return "done";
  }

  /** The state is about to be replaced: nobody can tell what became of the entry that is being applied. */
  drop(): void {
    this.#long?.proposal?.reject(refuse("timeoutDueToConnectionLost"));
    this.#long = undefined;
  }

  /** The member stops: what is being applied may still happen after a restart. */
  stop(): void {
    this.#long?.proposal?.reject(refuse("stopped"));
  }

  /** Effects beyond keys: lease clocks, the compaction in the background. */
  #tellParts(entry: Entry, command: Command | undefined, result: ApplyResult): void {
    const { state, raft, hub, leases, host } = this.#parts;
    switch (result.kind) {
      case "nothing": {
        // The first entry of a term: from here on all leases granted before are known.
        const { role, term } = raft.briefStatus();
        if (role === "leader" && term === entry.term) leases.promote(term, leaseSourceOf(state));
        return;
      }
      case "lease-grant":
        if (result.repeated === undefined) leases.granted(result.id, result.ttlSeconds);
        return;
      case "lease-revoke":
        if (!result.ignored && result.repeated === undefined) leases.revoked(result.id);
        return;
      case "lease-checkpoint":
        for (const { ID, remainingTTL } of checkpointsOf(command)) {
          leases.checkpointed(ID, toCounter(remainingTTL, "remaining TTL"));
        }
        return;
      case "compaction":
        hub.compacted(result.compactedRevision);
        return host.compacted();
      case "member-update":
        return host.configurationChanged();
      default:
    }
  }
}

function commandOf(entry: Entry): Command | undefined {
  if (entry.data.length === 0) return undefined;
  const command = decodeCommand(entry.data);
  assert(
    command.version === commandVersion,
    () =>
      `log entry ${entry.index} has command version ${command.version}, this build knows ${commandVersion}: ` +
      "it was written by a newer keelson; start that version again",
  );
  return command;
}

function leaseSourceOf(state: StateMachine): LeaseSource {
  return {
    get(id) {
      const lease = state.lease(id);
      return lease === undefined ? undefined : timingOf(lease);
    },
    all: () => state.eachLease().map(timingOf),
  };
}

function timingOf({ id, grantedTtlSeconds, remainingTtlSeconds }: LeaseInfo): LeaseTiming {
  // A lease without a record has its whole time as the rest.
  const remainingSeconds = remainingTtlSeconds < grantedTtlSeconds ? remainingTtlSeconds : 0;
  return { id, ttlSeconds: grantedTtlSeconds, remainingSeconds };
}

function checkpointsOf(command: Command | undefined) {
  const operation = command?.operation;
  return operation?.case === "leaseCheckpoint" ? operation.value.checkpoints : [];
}
