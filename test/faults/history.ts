/**
 * What clients did and were told, and what the store's history has to look like because of it. Pure: the tests of
 * this file's own teeth are in history.test.ts.
 */

/** What one operation writes: a value per key, or undefined for a delete. */
export type Writes = ReadonlyMap<string, string | undefined>;

export interface Operation {
  readonly id: number;
  readonly writes: Writes;
  /** The newest revision that anybody had been told of when the operation began. */
  readonly floor: number;
  outcome:
    | { readonly kind: "acknowledged"; readonly revision: number }
    /** Nobody knows: the connection broke, or the answer left it open. */
    | { readonly kind: "unknown" }
    /** The server said that it did not happen. */
    | { readonly kind: "refused" };
}

/** One change, as a watcher sees it. */
export interface HistoryEvent {
  readonly revision: number;
  readonly key: string;
  /** Undefined for a delete. */
  readonly value: string | undefined;
}

/** Values carry the operation that wrote them in front of the first colon. */
export function valueOf(operationId: number, padding: string): string {
  return `${operationId}:${padding}`;
}

function byRevision(events: readonly HistoryEvent[]): Map<number, HistoryEvent[]> {
  const grouped = new Map<number, HistoryEvent[]>();
  for (const event of events) {
    const group = grouped.get(event.revision);
    if (group === undefined) grouped.set(event.revision, [event]);
    else group.push(event);
  }
  return grouped;
}

function matches(group: readonly HistoryEvent[], writes: Writes): boolean {
  return (
    group.length === writes.size &&
    group.every((event) => writes.has(event.key) && writes.get(event.key) === event.value)
  );
}

/**
 * Everything that is wrong with a store's history from revision 2 on, given all operations ever sent:
 * - every revision up to `revision` is there, in order, none above it;
 * - every acknowledged operation is there at exactly its revision, whole;
 * - every revision belongs to one operation, wholly, that was not refused, and no operation happened twice;
 * - what began after an acknowledgement comes after it.
 */
export function violations(
  operations: readonly Operation[],
  events: readonly HistoryEvent[],
  revision: number,
): string[] {
  const found: string[] = [];
  const groups = byRevision(events);
  let expected = 2;
  for (const at of groups.keys()) {
    if (at !== expected) found.push(`revision ${at} follows ${expected - 1}`);
    expected = at + 1;
  }
  if (expected - 1 !== revision)
    found.push(`the history ends at ${expected - 1}, the store is at ${revision}`);

  const acknowledgedAt = new Map<number, Operation>();
  const open = new Map<string, Operation[]>();
  const byId = new Map<number, Operation>();
  for (const operation of operations) {
    byId.set(operation.id, operation);
    if (operation.outcome.kind === "acknowledged") {
      const at = operation.outcome.revision;
      const other = acknowledgedAt.get(at);
      if (other !== undefined)
        found.push(`operations ${other.id} and ${operation.id} were both told revision ${at}`);
      acknowledgedAt.set(at, operation);
      if (at <= operation.floor) {
        found.push(
          `operation ${operation.id} got revision ${at} although ${operation.floor} was known before it began`,
        );
      }
      const group = groups.get(at);
      if (group === undefined) found.push(`acknowledged operation ${operation.id} at revision ${at} is lost`);
      else if (!matches(group, operation.writes)) {
        found.push(`revision ${at} is not what operation ${operation.id} wrote: ${JSON.stringify(group)}`);
      }
    } else if (operation.outcome.kind === "unknown") {
      for (const key of operation.writes.keys()) open.set(key, [...(open.get(key) ?? []), operation]);
    }
  }

  const used = new Set<number>();
  for (const [at, group] of groups) {
    if (acknowledgedAt.has(at)) continue;
    const [first] = group;
    if (first === undefined) continue;
    const author = (open.get(first.key) ?? []).find(
      (operation) => !used.has(operation.id) && operation.floor < at && matches(group, operation.writes),
    );
    if (author === undefined) {
      const named = first.value === undefined ? undefined : byId.get(Number(first.value.split(":")[0]));
      const why = named === undefined ? "nobody" : `operation ${named.id}, which was ${named.outcome.kind}`;
      found.push(`revision ${at} was written by ${why}: ${JSON.stringify(group)}`);
    } else used.add(author.id);
  }
  return found;
}

/** The keys and values that the history leads to. */
export function finalState(events: readonly HistoryEvent[]): Map<string, string> {
  const state = new Map<string, string>();
  for (const { key, value } of events) {
    if (value === undefined) state.delete(key);
    else state.set(key, value);
  }
  return state;
}
