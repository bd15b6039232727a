/**
 * What really happened: the committed entries, and the reference model stepped through them. Whoever applies an
 * entry first is compared with the model, everybody after that with the first.
 */

import type { ConfigurationChange, Entry } from "../../src/consensus/types";
import type { LogIndex, Revision, Term } from "../../src/ids";
import { AlarmType, type TxnRequest } from "../../src/proto/gen/etcd/rpc_pb";
import type { Command } from "../../src/proto/gen/keelson/command_pb";
import type { ApplyResult } from "../../src/state/results";
import type { RevisionChanges } from "../../src/state/types";
import type { Truth as CheckerTruth } from "../../src/watch/checker";
import { KvModel, type ModelResult, type ModelVersion, modelRecord } from "../model/kv-model";
import { differenceOf } from "./compare";
import { claim } from "./violation";
import { latin1 } from "./replies";

/** The outcome of an entry, by the model. */
export type Outcome =
  | ModelResult
  /** A lease that ran out in another term than the entry's: nothing happens. */
  | { readonly kind: "ignored"; readonly revision: Revision }
  | { readonly kind: "configuration"; readonly revision: Revision };

export interface Step {
  readonly index: LogIndex;
  readonly term: Term;
  readonly command: Command | undefined;
  readonly outcome: Outcome;
  /** Virtual time at which it was first applied. */
  readonly atMs: number;
  /** What the first member said; others are compared with it. */
  readonly result: Pick<ApplyResult, "kind" | "revision">;
  /** The versions that it wrote. */
  readonly written: readonly ModelVersion[];
  /** How many members applied it, so that leaks in the checks themselves would show. */
  appliedBy: number;
}

export class Truth implements CheckerTruth {
  readonly model = new KvModel();
  /** Revisions from 2 on, for the watch checker. */
  readonly log: RevisionChanges[] = [];
  /** Entries that somebody knows to be committed, by index; index 0 is unused. */
  readonly committed: (Entry | undefined)[] = [undefined];
  /** Steps by index, as far as somebody applied; `undefined` for the founders' configuration. */
  readonly steps: (Step | undefined)[] = [undefined];
  /** The entry that wrote a revision. */
  readonly #indexOfRevision: LogIndex[] = [0, 0];
  readonly #raised = new Set<AlarmType>();
  #compared = 0;

  get appliedIndex(): LogIndex {
    return this.steps.length - 1;
  }
  get committedIndex(): LogIndex {
    return this.committed.length - 1;
  }
  get revision(): Revision {
    return this.model.revision;
  }
  get compactedRevision(): Revision {
    return this.model.compacted;
  }
  /** The log position from which on a revision is there. */
  indexOf(revision: Revision): LogIndex {
    return this.#indexOfRevision[revision] ?? Number.POSITIVE_INFINITY;
  }

  recordBefore(key: string, revision: Revision): Uint8Array | undefined {
    const version = this.model.before(key, revision);
    return version === undefined || version.version === 0
      ? undefined
      : Buffer.from(modelRecord(version), "latin1");
  }

  /** R5: an entry was said to be committed. */
  commit(entry: Entry, by: string): void {
    const known = this.committed[entry.index];
    if (known === undefined) {
      claim(
        entry.index === this.committed.length,
        () => `R5: ${by} commits ${entry.index}, but ${this.committed.length} was never committed`,
      );
      this.committed.push(entry);
      return;
    }
    claim(
      known.term === entry.term && known.kind === entry.kind && sameBytes(known.data, entry.data),
      () =>
        `R5: ${by} commits another entry at ${entry.index}: term ${entry.term} where term ${known.term} was`,
    );
  }

  /** A member applied a command; returns the step when it was the first to do so. */
  applied(
    index: LogIndex,
    term: Term,
    command: Command | undefined,
    result: ApplyResult,
    changes: RevisionChanges | undefined,
    atMs: number,
    by: string,
  ): Step | undefined {
    const entry = this.committed[index];
    claim(entry !== undefined, () => `R5: ${by} applied ${index}, which nobody committed`);
    claim(entry.term === term, () => `R5: ${by} applied ${index} with another term`);
    const first = this.steps[index];
    if (index < this.steps.length) {
      if (first !== undefined) this.#compare(first, result, changes, by);
      return undefined;
    }
    claim(
      index === this.steps.length,
      () => `${by} applied ${index}, but ${this.steps.length} was never applied`,
    );
    const before = this.model.versions.length;
    const outcome = this.#outcome(term, command);
    const written = this.model.versions.slice(before);
    const difference = differenceOf(outcome, result);
    claim(
      difference === undefined,
      () => `P2: ${by} applied ${index} (${command?.operation.case}): ${difference}`,
    );
    this.#checkChanges(written, changes, by, index);
    const { kind, revision } = result;
    const said = { kind, revision };
    const step = { index, term, command, outcome, atMs, result: said, written, appliedBy: 1 };
    this.steps.push(step);
    if (changes !== undefined) {
      this.log.push(changes);
      this.#indexOfRevision.push(index);
    }
    return step;
  }

  configurationApplied(index: LogIndex, change: ConfigurationChange, by: string): boolean {
    claim(
      this.committed[index] !== undefined,
      () => `R5: ${by} applied change ${index}, which nobody committed`,
    );
    if (index < this.steps.length) return false;
    claim(index === this.steps.length, () => `${by} applied ${change.type} ${index} too early`);
    this.steps.push(undefined);
    return true;
  }

  #outcome(term: Term, command: Command | undefined): Outcome {
    const { model } = this;
    if (command === undefined) return { kind: "other", revision: model.revision };
    const { operation } = command;
    if (operation.case === "alarm") {
      const { action, alarm } = operation.value;
      if (action === 1) this.#raised.add(alarm);
      if (action === 2) this.#raised.delete(alarm);
    }
    if (this.#raised.has(AlarmType.NOSPACE)) {
      const grows =
        operation.case === "put" ||
        operation.case === "leaseGrant" ||
        (operation.case === "txn" && puts(operation.value));
      if (grows) return { kind: "refused", name: "noSpace", revision: model.revision };
    }
    if (operation.case === "leaseRevoke") {
      const { expiredInTerm } = operation.value;
      if (expiredInTerm !== 0n && expiredInTerm !== BigInt(term))
        return { kind: "ignored", revision: model.revision };
    }
    return model.apply(command);
  }

  /** P13: what watchers will see is what the model wrote. */
  #checkChanges(
    written: readonly ModelVersion[],
    changes: RevisionChanges | undefined,
    by: string,
    index: LogIndex,
  ): void {
    const where = (): string => `${by} at ${index}`;
    if (written.length === 0) {
      claim(changes === undefined, () => `P5: ${where()}: a revision without a change`);
      return;
    }
    claim(changes !== undefined, () => `P5: ${where()}: changes without a revision`);
    claim(changes.revision === this.model.revision, () => `P5: ${where()}: revision ${changes.revision}`);
    claim(
      changes.changes.length === written.length,
      () => `P4: ${where()}: ${changes.changes.length} changes`,
    );
    written.forEach((version, position) => {
      const change = changes.changes[position]!;
      const same =
        change.key === version.key &&
        change.revision === version.main &&
        change.sub === version.sub &&
        change.type === (version.version === 0 ? "delete" : "put") &&
        change.created === (version.version === 1) &&
        latin1(change.record) === modelRecord(version);
      claim(same, () => `P13: ${where()}: change of ${JSON.stringify(version.key)} differs from the model's`);
    });
  }

  /** Cheap for all, thorough for every eighth. */
  #compare(step: Step, result: ApplyResult, changes: RevisionChanges | undefined, by: string): void {
    step.appliedBy++;
    const thorough = (this.#compared++ & 7) === 0;
    const same = result.kind === step.result.kind && result.revision === step.result.revision;
    claim(same, () => `members differ at ${step.index}: ${by} says ${result.kind} at ${result.revision}`);
    claim(
      (changes?.changes.length ?? 0) === step.written.length,
      () => `members differ at ${step.index}: ${by} wrote ${changes?.changes.length ?? 0} changes`,
    );
    if (!thorough) return;
    const difference = differenceOf(step.outcome, result);
    claim(difference === undefined, () => `members differ at ${step.index}: ${by}: ${difference}`);
    step.written.forEach((version, position) => {
      const change = changes!.changes[position]!;
      const equal = change.revision === version.main && latin1(change.record) === modelRecord(version);
      claim(equal, () => `members differ at ${step.index}: ${by}, key ${JSON.stringify(version.key)}`);
    });
  }
}

function puts({ success, failure }: TxnRequest): boolean {
  return [...success, ...failure].some(
    ({ request }) => request.case === "requestPut" || (request.case === "requestTxn" && puts(request.value)),
  );
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || (a.length === b.length && Buffer.compare(a, b) === 0);
}
