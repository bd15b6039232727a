/**
 * Where the checks listen: the production classes' own methods, wrapped for as long as a run lasts. What a tap hears
 * belongs to the member whose event is running. Nothing in production code knows of it.
 */
import { Raft } from "../../src/consensus/raft";
import type { ConfigurationChange, Ready } from "../../src/consensus/types";
import type { LeaseId, LogIndex, Term } from "../../src/ids";
import { LeaseKeeper, type LeaseSource, type LeaseTiming, type Renewal } from "../../src/member/lease-keeper";
import type { Command } from "../../src/proto/gen/keelson/command_pb";
import type { Applied, ApplyResult } from "../../src/state/results";
import { StateMachine } from "../../src/state/state-machine";
import type { RevisionChanges } from "../../src/state/types";
import { SegmentedLog } from "../../src/storage/wal/segmented-log";
import type { DurableLog, LogBatch } from "../../src/storage/wal/types";

export interface Listener {
  ready(ready: Ready): void;
  /** A log was opened, and later: a batch was handed to it, and is durable now. */
  logOpened(log: DurableLog): void;
  appended(log: DurableLog, batch: LogBatch): void;
  durable(log: DurableLog, batch: LogBatch): void;
  applied(
    state: StateMachine,
    index: LogIndex,
    term: Term,
    command: Command | undefined,
    result: ApplyResult,
    changes: RevisionChanges | undefined,
  ): void;
  /** `isMade` is false for a change that the state refused. */
  configurationApplied(
    state: StateMachine,
    index: LogIndex,
    term: Term,
    change: ConfigurationChange,
    isMade: boolean,
  ): void;
  leaseKeeperPromoted(keeper: LeaseKeeper, term: Term, leases: readonly LeaseTiming[]): void;
  leaseRenewed(keeper: LeaseKeeper, id: LeaseId, outcome: Renewal): void;
}

/** Begins to listen; the returned function ends it. One listener at a time. */
export function listen(listener: Listener): () => void {
  const undo: (() => void)[] = [];
  const wrap = <Owner extends object, Name extends keyof Owner>(
    owner: Owner,
    name: Name,
    around: (original: Owner[Name]) => Owner[Name],
  ): void => {
    const original = owner[name];
    owner[name] = around(original);
    undo.push(() => {
      owner[name] = original;
    });
  };

  wrap(
    Raft.prototype,
    "ready",
    (original) =>
      function (this: Raft) {
        const ready = original.call(this);
        listener.ready(ready);
        return ready;
      },
  );

  const opened = new WeakSet<SegmentedLog>();
  wrap(
    SegmentedLog.prototype,
    "append",
    (original) =>
      function (this: SegmentedLog, batch: LogBatch) {
        if (!opened.has(this)) {
          opened.add(this);
          listener.logOpened(this);
        }
        listener.appended(this, batch);
        const done = original.call(this, batch);
        // Before the member hears of it.
        void done.then(
          () => listener.durable(this, batch),
          () => {},
        );
        return done;
      },
  );
  wrap(
    SegmentedLog.prototype,
    "claimSynced",
    (original) =>
      function (this: SegmentedLog) {
        // Also called when a log is closed.
        if (!opened.has(this)) {
          opened.add(this);
          listener.logOpened(this);
        }
        return original.call(this);
      },
  );

  // An entry may take several slices: its arguments are kept until it is done.
  const pending = new WeakMap<StateMachine, [LogIndex, Term, Command | undefined]>();
  const finished = (
    state: StateMachine,
    [index, term, command]: [LogIndex, Term, Command | undefined],
    applied: Applied,
  ): Applied => {
    if (applied.pending) pending.set(state, [index, term, command]);
    else listener.applied(state, index, term, command, applied.result, applied.changes);
    return applied;
  };
  // `apply` calls `resume` for its first slice, which must not be told twice.
  let inside = false;
  wrap(
    StateMachine.prototype,
    "apply",
    (original) =>
      function (this: StateMachine, index, term, command) {
        inside = true;
        try {
          return finished(this, [index, term, command], original.call(this, index, term, command));
        } finally {
          inside = false;
        }
      },
  );
  wrap(
    StateMachine.prototype,
    "resume",
    (original) =>
      function (this: StateMachine) {
        const applied = original.call(this);
        return inside ? applied : finished(this, pending.get(this)!, applied);
      },
  );
  wrap(
    StateMachine.prototype,
    "applyConfiguration",
    (original) =>
      function (this: StateMachine, index, term, change) {
        const applied = original.call(this, index, term, change);
        const isMade = !applied.pending && applied.result.kind !== "refused";
        listener.configurationApplied(this, index, term, change, isMade);
        return applied;
      },
  );

  wrap(
    LeaseKeeper.prototype,
    "promote",
    (original) =>
      function (this: LeaseKeeper, term: Term, source: LeaseSource) {
        listener.leaseKeeperPromoted(this, term, [...Iterator.from(source.all())]);
        original.call(this, term, source);
      },
  );
  wrap(
    LeaseKeeper.prototype,
    "renew",
    (original) =>
      function (this: LeaseKeeper, id: LeaseId) {
        const outcome = original.call(this, id);
        listener.leaseRenewed(this, id, outcome);
        return outcome;
      },
  );

  return () => {
    for (const restore of undo) restore();
  };
}
