/**
 * Linearizability by search, for histories without revisions and for those whose revisions are themselves in question:
 * Wing and Gong's algorithm with Lowe's memory of the places already visited. Exponential at worst, so histories are
 * kept short and split first (by key, by lease), and the search gives up after a number of steps.
 */
import { toBinaryString } from "../../src/bytes";
import { Evaluation, type KvTimeline, versionText, WouldRefuse } from "./kv-state";
import { answerOf, operationText, revisionOf } from "./describe";
import { type Operation, outcomeUnknown } from "./history";

/** How requests change a state, one at a time. States must not be changed in place. */
export interface SequentialModel<State> {
  readonly initial: State;
  /** All states that may follow when `operation` takes effect here and is answered as it was; none when it cannot. */
  step(state: State, operation: Operation): readonly State[];
  /** Equal for equal states. */
  key(state: State): string;
  /** Whether a history may end here; always, when left out. */
  accepts?(state: State): boolean;
}

export type SearchResult =
  | { readonly kind: "linearizable" }
  | { readonly kind: "violated"; readonly explained: string }
  /** Given up after so many steps. */
  | { readonly kind: "undecided"; readonly steps: number };

interface Entry {
  readonly operation: Operation;
  readonly index: number;
  /** Of a call: its return, or undefined when it has none. */
  readonly match: Entry | undefined;
  readonly isCall: boolean;
  before: Entry | undefined;
  after: Entry | undefined;
}

/** Calls and returns in order of time; at one instant calls come first, as both may have overlapped. */
function entriesOf(operations: readonly Operation[]): { head: Entry; returns: number } {
  const events: { at: number; isCall: boolean; entry: Entry }[] = [];
  let returns = 0;
  for (const [index, operation] of operations.entries()) {
    let match: Entry | undefined;
    if (!outcomeUnknown(operation)) {
      match = { operation, index, match: undefined, isCall: false, before: undefined, after: undefined };
      events.push({ at: operation.returnAt, isCall: false, entry: match });
      returns++;
    }
    const call: Entry = { operation, index, match, isCall: true, before: undefined, after: undefined };
    events.push({ at: operation.callAt, isCall: true, entry: call });
  }
  events.sort((a, b) => a.at - b.at || Number(b.isCall) - Number(a.isCall));
  const [first] = operations;
  const head: Entry = {
    operation: first!,
    index: -1,
    match: undefined,
    isCall: false,
    before: undefined,
    after: undefined,
  };
  let last = head;
  for (const { entry } of events) {
    last.after = entry;
    entry.before = last;
    last = entry;
  }
  return { head, returns };
}

function unlink(entry: Entry): void {
  entry.before!.after = entry.after;
  if (entry.after !== undefined) entry.after.before = entry.before;
}

function relink(entry: Entry): void {
  entry.before!.after = entry;
  if (entry.after !== undefined) entry.after.before = entry;
}

function lift(call: Entry): void {
  unlink(call);
  if (call.match !== undefined) unlink(call.match);
}

function putBack(call: Entry): void {
  if (call.match !== undefined) relink(call.match);
  relink(call);
}

/** Looks for one order of all operations that fits time, the model, and every answer. */
export function searchOrder<State>(
  all: readonly Operation[],
  model: SequentialModel<State>,
  stepsMax = 200_000,
): SearchResult {
  // What was refused for certain, and a read without an answer, had no effect and say nothing.
  const operations = all.filter(
    ({ kind, outcome }) =>
      outcome.kind === "replied" ||
      (kind !== "range" && (outcome.kind === "unanswered" || !outcome.definite)),
  );
  if (operations.length === 0) return { kind: "linearizable" };
  const { head, returns } = entriesOf(operations);
  const accepts = (reached: State): boolean => model.accepts?.(reached) ?? true;
  const placed = new Uint8Array(operations.length);
  const seen = new Set<string>();
  const stack: { entry: Entry; state: State; alternative: number }[] = [];
  let state = model.initial;
  let left = returns;
  let steps = 0;
  let deepest: { entry: Entry | undefined; depth: number } = { entry: undefined, depth: -1 };
  let entry = head.after;
  let alternative = 0;
  for (;;) {
    if (left === 0 && accepts(state)) return { kind: "linearizable" };
    if (++steps > stepsMax) return { kind: "undecided", steps };
    if (entry?.isCall) {
      const next = model.step(state, entry.operation);
      let moved = false;
      for (; alternative < next.length; alternative++) {
        const reached = next[alternative]!;
        placed[entry.index] = 1;
        const place = `${Buffer.from(placed).toString("latin1")}${model.key(reached)}`;
        placed[entry.index] = 0;
        if (seen.has(place)) continue;
        seen.add(place);
        stack.push({ entry, state, alternative });
        placed[entry.index] = 1;
        state = reached;
        lift(entry);
        if (entry.match !== undefined) left--;
        moved = true;
        break;
      }
      alternative = 0;
      entry = moved ? head.after : entry.after;
      continue;
    }
    // A return that nothing before it can satisfy, or the end of the list.
    if (stack.length > deepest.depth) deepest = { entry, depth: stack.length };
    const last = stack.pop();
    if (last === undefined) {
      const stuck = deepest.entry === undefined ? "" : `; stuck at ${operationText(deepest.entry.operation)}`;
      return {
        kind: "violated",
        explained: `no order explains ${operations.length} operations, at most ${deepest.depth} can be placed${stuck}`,
      };
    }
    placed[last.entry.index] = 0;
    putBack(last.entry);
    if (last.entry.match !== undefined) left++;
    ({ state, entry } = last);
    alternative = last.alternative + 1;
  }
}

/**
 * The whole store with the list of all changes as its only possible course: the state is a revision. Judges the same
 * as `checkByRevision`, much more slowly; the two are held against each other by a test.
 */
export function courseModel(timeline: KvTimeline): SequentialModel<number> {
  const changesText = (revision: number): string =>
    timeline
      .changes(revision)
      .map((version) => versionText(version))
      .join("; ");
  return {
    initial: 1,
    key: String,
    accepts: (revision) => revision === timeline.revision,
    step(revision, operation) {
      const evaluation = new Evaluation(timeline, revision);
      let answer: string;
      try {
        if (operation.kind === "range") answer = evaluation.range(operation.request);
        else if (operation.kind === "put") answer = evaluation.put(operation.request);
        else if (operation.kind === "deleteRange") answer = evaluation.deleteRange(operation.request);
        else if (operation.kind === "txn") answer = evaluation.txn(operation.request);
        else return [revision];
      } catch (error) {
        if (error instanceof WouldRefuse) return outcomeUnknown(operation) ? [revision] : [];
        throw error;
      }
      let reached = revision;
      if (evaluation.changes.length > 0) {
        const text = evaluation.changes.map((version) => versionText(version)).join("; ");
        // An unknown request may have had no effect, wherever it is placed.
        if (text !== changesText(revision + 1)) return outcomeUnknown(operation) ? [revision] : [];
        reached = revision + 1;
      }
      if (outcomeUnknown(operation)) return reached === revision ? [revision] : [reached, revision];
      return answer === answerOf(operation) && revisionOf(operation) === reached ? [reached] : [];
    },
  };
}

/** One key as clients see it without revisions: its value, and how many times it was written since it exists. */
export interface Register {
  readonly value: string;
  readonly version: number;
}

/**
 * One register: puts, reads, and compare-and-set txns of the shape "if value(key) = old then put". It trusts the key's
 * version and no revision.
 */
export const registerModel: SequentialModel<Register> = {
  initial: { value: "", version: 0 },
  key: ({ value, version }) => `${version}=${value}`,
  step(state, operation) {
    const after = (value: string): Register => ({ value, version: state.version + 1 });
    switch (operation.kind) {
      case "put":
        return [after(toBinaryString(operation.request.value))];
      case "range": {
        if (operation.outcome.kind !== "replied") return [state];
        const [kv] = operation.outcome.reply.kvs;
        const same =
          kv === undefined
            ? state.version === 0
            : Number(kv.version) === state.version && toBinaryString(kv.value) === state.value;
        return same ? [state] : [];
      }
      case "txn": {
        const given = operation.request.compare[0]?.targetUnion;
        const put = operation.request.success[0]?.request;
        if (given?.case !== "value" || put?.case !== "requestPut") return [];
        const holds = state.version > 0 && state.value === toBinaryString(given.value);
        if (operation.outcome.kind === "replied" && operation.outcome.reply.succeeded !== holds) return [];
        return [holds ? after(toBinaryString(put.value.value)) : state];
      }
      default:
        return [state];
    }
  },
};

/** The one key that an operation of the register workload speaks of. */
export function registerKey(operation: Operation): string | undefined {
  if (operation.kind === "put" || operation.kind === "range") return toBinaryString(operation.request.key);
  if (operation.kind !== "txn") return undefined;
  const [compare] = operation.request.compare;
  return compare === undefined ? undefined : toBinaryString(compare.key);
}
