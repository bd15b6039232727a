/**
 * Strict serializability by revision (promises P2 to P6, P14, P18). Every answer carries the revision that it saw or
 * made, so the order of all requests is forced, but for reads of one revision, which are best taken in the order of
 * their calls. If the walk through that order finds no contradiction it is a witness; if it does, no other order
 * exists. Cost: sorting.
 */
import { toBinaryString } from "../../src/bytes";
import type { RevisionChanges } from "../../src/state/types";
import { answerOf, differenceText, requestText, revisionOf, timelineText } from "./describe";
import { type History, type Operation, outcomeUnknown, type Verdict } from "./history";
import { Evaluation, KvTimeline, type KvVersion, txnChanged, versionText, WouldRefuse } from "./kv-state";

export interface RevisionCheckOptions {
  /** Compactions that no client of the history asked for (automatic ones), and the earliest time of each. */
  readonly otherCompactions?: readonly { readonly revision: number; readonly at: number }[];
  /** Problems beyond this many are only counted. */
  readonly problemsMax?: number;
}

const kvKinds: ReadonlySet<string> = new Set([
  "range",
  "put",
  "deleteRange",
  "txn",
  "compaction",
  "leaseGrant",
  "leaseRevoke",
]);

/** True when the answer says that the request changed something, so that its revision is its own. */
function changed(operation: Operation): boolean {
  if (operation.outcome.kind !== "replied") return false;
  switch (operation.kind) {
    case "put":
      return true;
    case "deleteRange":
      return operation.outcome.kind === "replied" && operation.outcome.reply.deleted > 0n;
    case "txn":
      return operation.outcome.kind === "replied" && txnChanged(operation.outcome.reply);
    default:
      return false;
  }
}

/** True for reads that may answer from any committed past (P6). */
function serializable(operation: Operation): boolean {
  if (operation.kind === "range") return operation.request.serializable;
  if (operation.kind !== "txn") return false;
  const { compare, success, failure } = operation.request;
  const ops = [...success, ...failure];
  return (
    compare.length === 0 &&
    ops.length > 0 &&
    ops.every(({ request: op }) => op.case === "requestRange" && op.value.serializable)
  );
}

/** What a request would do and be answered on the state after `base`; undefined when it would be refused there. */
function evaluate(
  timeline: KvTimeline,
  operation: Operation,
  base: number,
): { readonly answer: string; readonly changes: readonly KvVersion[] } | undefined {
  const evaluation = new Evaluation(timeline, base);
  try {
    switch (operation.kind) {
      case "range":
        return { answer: evaluation.range(operation.request), changes: evaluation.changes };
      case "put":
        return { answer: evaluation.put(operation.request), changes: evaluation.changes };
      case "deleteRange":
        return { answer: evaluation.deleteRange(operation.request), changes: evaluation.changes };
      case "txn":
        return { answer: evaluation.txn(operation.request), changes: evaluation.changes };
      default:
        return { answer: "done", changes: [] };
    }
  } catch (error) {
    if (error instanceof WouldRefuse) return undefined;
    throw error;
  }
}

const changesText = (changes: readonly KvVersion[]): string =>
  changes.map((version) => versionText(version)).join("; ") || "nothing";

/** Keys that a write may touch; undefined when it deletes a range, whose keys depend on the state. */
function writtenKeys(operation: Operation): ReadonlySet<string> | undefined {
  const keys = new Set<string>();
  if (operation.kind === "put") return keys.add(toBinaryString(operation.request.key));
  if (operation.kind === "deleteRange") {
    return operation.request.rangeEnd.length > 0
      ? undefined
      : keys.add(toBinaryString(operation.request.key));
  }
  if (operation.kind !== "txn") return keys;
  const visit = (txn: typeof operation.request): boolean =>
    [...txn.success, ...txn.failure].every(({ request: op }) => {
      if (op.case === "requestPut") keys.add(toBinaryString(op.value.key));
      else if (op.case === "requestDeleteRange") {
        if (op.value.rangeEnd.length > 0) return false;
        keys.add(toBinaryString(op.value.key));
      } else if (op.case === "requestTxn") return visit(op.value);
      return true;
    });
  return visit(operation.request) ? keys : undefined;
}

class RevisionCheck {
  readonly problems: string[] = [];
  readonly counts = {
    operations: 0,
    changes: 0,
    reads: 0,
    serializableReads: 0,
    unknown: 0,
    unknownThatHappened: 0,
    systemChanges: 0,
    refusals: 0,
    problems: 0,
  };
  readonly #timeline: KvTimeline;
  readonly #operations: readonly Operation[];
  /** Who made each revision. */
  readonly #makers = new Map<number, Operation>();
  readonly #reads = new Map<number, Operation[]>();
  readonly #problemsMax: number;

  constructor(
    history: History,
    readonly options: RevisionCheckOptions,
  ) {
    this.#timeline = new KvTimeline(history.log);
    this.#operations = history.operations.filter(({ kind }) => kvKinds.has(kind));
    this.#problemsMax = options.problemsMax ?? 10;
  }

  run(): Verdict {
    this.#place();
    this.#explainHoles();
    this.#walk();
    this.#compactions();
    this.#refusals();
    return { problems: this.problems, counts: this.counts };
  }

  #problem(text: string, ...clash: readonly Operation[]): void {
    this.counts.problems++;
    if (this.problems.length >= this.#problemsMax) return;
    const picture = clash.length === 0 ? "" : `\n${timelineText(this.#around(clash), new Set(clash))}`;
    this.problems.push(`${text}${picture}`);
  }

  /** The clashing operations and the ten nearest in time. */
  #around(clash: readonly Operation[]): Operation[] {
    const begin = Math.min(...clash.map(({ callAt }) => callAt));
    const near = this.#operations
      .filter((operation) => !clash.includes(operation))
      .map((operation) => ({ operation, distance: Math.abs(operation.callAt - begin) }))
      .sort((a, b) => a.distance - b.distance)
      .slice(0, 10)
      .map(({ operation }) => operation);
    return [...clash, ...near].sort((a, b) => a.callAt - b.callAt);
  }

  /** Puts every answered operation at its revision, and compares its answer with the state there. */
  #place(): void {
    for (const operation of this.#operations) {
      this.counts.operations++;
      if (outcomeUnknown(operation)) this.counts.unknown++;
      const revision = revisionOf(operation);
      if (revision === undefined) continue;
      if (revision < 1 || revision > this.#timeline.revision) {
        this.#problem(
          `revision ${revision} was answered, but the history ends at ${this.#timeline.revision}`,
          operation,
        );
        continue;
      }
      if (changed(operation)) this.#placeChange(operation, revision);
      else this.#placeRead(operation, revision);
    }
  }

  #placeChange(operation: Operation, revision: number): void {
    this.counts.changes++;
    const other = this.#makers.get(revision);
    if (other !== undefined) {
      this.#problem(`two requests claim revision ${revision}`, other, operation);
      return;
    }
    this.#makers.set(revision, operation);
    const expected = evaluate(this.#timeline, operation, revision - 1);
    const happened = changesText(this.#timeline.changes(revision));
    if (expected === undefined || changesText(expected.changes) !== happened) {
      const wanted = expected === undefined ? "a refusal" : changesText(expected.changes);
      this.#problem(`revision ${revision} should hold ${wanted}, but holds ${happened}`, operation);
    } else if (expected.answer !== answerOf(operation)) {
      this.#problem(
        `at revision ${revision} the answer should be ${differenceText(expected.answer, answerOf(operation))}`,
        operation,
      );
    }
  }

  #placeRead(operation: Operation, revision: number): void {
    this.counts.reads++;
    if (serializable(operation)) this.counts.serializableReads++;
    else {
      const reads = this.#reads.get(revision);
      if (reads === undefined) this.#reads.set(revision, [operation]);
      else reads.push(operation);
    }
    if (operation.kind === "leaseRevoke") {
      const left = this.#timeline.leased(operation.request.ID, revision);
      if (left.length > 0)
        this.#problem(`after the revoke, ${left.join(", ")} still live at revision ${revision}`, operation);
      return;
    }
    const expected = evaluate(this.#timeline, operation, revision);
    if (expected === undefined) {
      this.#problem(`at revision ${revision} this should have been refused`, operation);
    } else if (expected.changes.length > 0) {
      this.#problem(
        `at revision ${revision} this should have changed ${changesText(expected.changes)}`,
        operation,
      );
    } else if (expected.answer !== answerOf(operation)) {
      this.#problem(
        `at revision ${revision} the answer should be ${differenceText(expected.answer, answerOf(operation))}`,
        operation,
      );
    }
  }

  /**
   * Revisions that nobody claims: each must be one request of unknown outcome, every such request at most one of
   * them, or the end of one lease. Which requests fit is a matching; it is searched along augmenting paths.
   */
  #explainHoles(): void {
    const { byKey, anywhere } = this.#unknownByKey();
    // A request can have made a revision only if it was sent before anyone heard of that revision or a later one.
    const heardAt = this.#firstHeard();
    const holders = new Map<Operation, number>();
    const fits = new Map<number, Operation[]>();
    const assign = (hole: number, tried: Set<Operation>): boolean => {
      for (const candidate of fits.get(hole)!) {
        if (tried.has(candidate)) continue;
        tried.add(candidate);
        const holder = holders.get(candidate);
        if (holder !== undefined && !assign(holder, tried)) continue;
        holders.set(candidate, hole);
        return true;
      }
      return false;
    };
    for (let revision = 2; revision <= this.#timeline.revision; revision++) {
      if (this.#makers.has(revision)) continue;
      if (this.#endOfLease(revision)) {
        this.counts.systemChanges++;
        continue;
      }
      const changes = this.#timeline.changes(revision);
      const text = changesText(changes);
      const makes = (operation: Operation): boolean => {
        const would = evaluate(this.#timeline, operation, revision - 1);
        return would !== undefined && changesText(would.changes) === text;
      };
      const near = [...(byKey.get(changes[0]?.key ?? "") ?? []), ...anywhere].filter(makes);
      const possible = near.filter((operation) => outcomeUnknown(operation));
      fits.set(
        revision,
        possible.filter(({ callAt }) => callAt <= heardAt[revision]!),
      );
      if (assign(revision, new Set())) continue;
      this.#unexplained(revision, text, near, possible, holders);
    }
    for (const [operation, revision] of holders) {
      this.#makers.set(revision, operation);
      this.counts.unknownThatHappened++;
    }
  }

  #unexplained(
    revision: number,
    text: string,
    near: readonly Operation[],
    possible: readonly Operation[],
    holders: ReadonlyMap<Operation, number>,
  ): void {
    const refused = near.find(({ outcome }) => outcome.kind === "failed" && outcome.definite);
    const early = possible.find((operation) => !holders.has(operation));
    const [twice] = possible;
    const say = `revision ${revision} (${text})`;
    if (early !== undefined)
      this.#problem(`${say} was seen before the only request that could have made it was sent`, early);
    else if (twice !== undefined)
      this.#problem(
        `${say} was made by a request that took effect twice (also ${holders.get(twice)})`,
        twice,
      );
    else if (refused !== undefined)
      this.#problem(`${say} was made by a request that was refused for certain`, refused);
    else {
      const repeats = this.#operations.find((operation) => {
        const own = revisionOf(operation);
        if (own === undefined || own === revision || !changed(operation)) return false;
        const would = evaluate(this.#timeline, operation, revision - 1);
        return would !== undefined && changesText(would.changes) === text;
      });
      if (repeats === undefined) this.#problem(`nobody asked for ${say}`);
      else
        this.#problem(
          `${say} repeats a request that was answered with revision ${revisionOf(repeats)}`,
          repeats,
        );
    }
  }

  /** Requests that were not answered with success, by the keys that they may write. */
  #unknownByKey(): { byKey: Map<string, Operation[]>; anywhere: Operation[] } {
    const byKey = new Map<string, Operation[]>();
    const anywhere: Operation[] = [];
    for (const operation of this.#operations) {
      if (operation.outcome.kind === "replied") continue;
      const keys = writtenKeys(operation);
      if (keys === undefined) anywhere.push(operation);
      for (const key of keys ?? []) {
        const known = byKey.get(key);
        if (known === undefined) byKey.set(key, [operation]);
        else known.push(operation);
      }
    }
    return { byKey, anywhere };
  }

  /** For each revision, when the first answer came that knew it or a later one. */
  #firstHeard(): Float64Array {
    const heardAt = new Float64Array(this.#timeline.revision + 2).fill(Infinity);
    for (const operation of this.#operations) {
      const revision = revisionOf(operation);
      if (revision === undefined || revision < 0 || revision > this.#timeline.revision) continue;
      heardAt[revision] = Math.min(heardAt[revision]!, operation.returnAt);
    }
    for (let revision = this.#timeline.revision; revision > 0; revision--) {
      heardAt[revision] = Math.min(heardAt[revision]!, heardAt[revision + 1]!);
    }
    return heardAt;
  }

  /** True when a revision deletes all keys of one lease and nothing else: an expiry or a revoke. */
  #endOfLease(revision: number): boolean {
    const changes = this.#timeline.changes(revision);
    if (changes.length === 0 || changes.some(({ version }) => version > 0)) return false;
    const lease = this.#timeline.at(changes[0]!.key, revision - 1)?.lease ?? 0n;
    if (lease === 0n) return false;
    return this.#timeline.leased(lease, revision - 1).join("\0") === changes.map(({ key }) => key).join("\0");
  }

  /** Real time: each operation took effect at one instant between call and return, in the order of revisions. */
  #walk(): void {
    let now = -Infinity;
    let pusher: Operation | undefined;
    const visit = (operation: Operation): void => {
      if (operation.callAt > now) {
        now = operation.callAt;
        pusher = operation;
      }
      const until = outcomeUnknown(operation) ? Infinity : operation.returnAt;
      if (now <= until || pusher === undefined) return;
      const [mine, other] = [revisionOf(operation), revisionOf(pusher)];
      const kind = !changed(pusher)
        ? "a stale read"
        : changed(operation)
          ? "the order goes against time"
          : "a read of the future";
      this.#problem(
        `"${requestText(pusher)}" was sent after the answer to "${requestText(operation)}" (revision ${mine}) had come, but ${changed(pusher) || other === undefined ? "made" : "saw"} ${other === undefined ? "an earlier revision" : `revision ${other}`}: ${kind}`,
        pusher,
        operation,
      );
    };
    for (let revision = 1; revision <= this.#timeline.revision; revision++) {
      const maker = this.#makers.get(revision);
      if (maker !== undefined) visit(maker);
      for (const read of (this.#reads.get(revision) ?? []).sort((a, b) => a.callAt - b.callAt)) visit(read);
    }
  }

  /** Nothing is read below what had been compacted when the read was sent. */
  #compactions(): void {
    const done = this.#operations
      .filter((operation) => operation.kind === "compaction" && operation.outcome.kind === "replied")
      .sort((a, b) => a.returnAt - b.returnAt);
    const reads = this.#operations
      .filter(
        (operation) =>
          operation.kind === "range" && operation.outcome.kind === "replied" && !serializable(operation),
      )
      .sort((a, b) => a.callAt - b.callAt);
    let compacted = 0;
    let next = 0;
    let by: Operation | undefined;
    for (const read of reads) {
      for (; next < done.length && done[next]!.returnAt < read.callAt; next++) {
        const candidate = done[next]!;
        if (candidate.kind !== "compaction" || Number(candidate.request.revision) <= compacted) continue;
        compacted = Number(candidate.request.revision);
        by = candidate;
      }
      const asked = read.kind === "range" ? Number(read.request.revision) : 0;
      if (asked > 0 && asked < compacted && by !== undefined) {
        this.#problem(`revision ${asked} was read after it had been compacted to ${compacted}`, by, read);
      }
    }
  }

  /** Refusals that speak of revisions must have been true at some moment between call and return. */
  #refusals(): void {
    const known = this.#operations
      .filter((operation) => revisionOf(operation) !== undefined)
      .sort((a, b) => a.returnAt - b.returnAt);
    let newest = 1;
    let next = 0;
    for (const operation of this.#operations.toSorted((a, b) => a.callAt - b.callAt)) {
      for (; next < known.length && known[next]!.returnAt < operation.callAt; next++) {
        newest = Math.max(newest, revisionOf(known[next]!)!);
      }
      if (operation.outcome.kind !== "failed" || !operation.outcome.definite) continue;
      this.counts.refusals++;
      const asked = askedRevisions(operation);
      const [lowest, highest] = [Math.min(...asked), Math.max(...asked)];
      if (/has been compacted/.test(operation.outcome.text) && !this.#mayBeCompacted(operation, lowest)) {
        this.#problem(`refused as compacted, but nobody had compacted above ${lowest}`, operation);
      }
      if (/future revision/.test(operation.outcome.text) && !serializable(operation) && highest <= newest) {
        this.#problem(`refused as a future revision, but revision ${newest} had been seen before`, operation);
      }
    }
  }

  #mayBeCompacted(refused: Operation, asked: number): boolean {
    // A compaction to the compacted revision itself is refused, a read of it is not.
    const enough = (revision: number): boolean =>
      refused.kind === "compaction" ? revision >= asked : revision > asked;
    return (
      this.#operations.some(
        (operation) =>
          operation.kind === "compaction" &&
          operation !== refused &&
          (operation.outcome.kind === "replied" || outcomeUnknown(operation)) &&
          enough(Number(operation.request.revision)) &&
          operation.callAt <= refused.returnAt,
      ) ||
      (this.options.otherCompactions ?? []).some(
        ({ revision, at }) => enough(revision) && at <= refused.returnAt,
      )
    );
  }
}

/** The revisions that a request asks to read, or to compact to. */
function askedRevisions(operation: Operation): number[] {
  if (operation.kind === "range" || operation.kind === "compaction")
    return [Number(operation.request.revision)];
  if (operation.kind !== "txn") return [];
  return [...operation.request.success, ...operation.request.failure].flatMap(({ request: op }) =>
    op.case === "requestRange" && op.value.revision > 0n ? [Number(op.value.revision)] : [],
  );
}

/** Judges a whole history; `history.log` must reach to the newest revision that was answered. */
export function checkByRevision(history: History, options: RevisionCheckOptions = {}): Verdict {
  return new RevisionCheck(history, options).run();
}

/** The state of a list of changes, for whoever draws requests or checks answers one by one. */
export function timelineOf(log: readonly RevisionChanges[]): KvTimeline {
  return new KvTimeline(log);
}
