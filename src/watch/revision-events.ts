/** The changes of one revision with their events, each encoded at most once however many watchers want it. */
import type { Revision } from "../ids";
import type { Change, History, RevisionChanges } from "../state/types";
import { eventField } from "./wire";

export class RevisionEvents {
  readonly revision: Revision;
  readonly changes: readonly Change[];
  /** Bytes of records, with an allowance for what surrounds them. */
  readonly bytes: number;
  readonly #history: History;
  readonly #plain: (Uint8Array | undefined)[] = [];
  readonly #withPrevious: (Uint8Array | undefined)[] = [];

  constructor(source: RevisionChanges, history: History) {
    this.revision = source.revision;
    this.changes = source.changes;
    this.#history = history;
    let bytes = 0;
    for (const change of source.changes) bytes += change.record.length + 64;
    this.bytes = bytes;
  }

  /** The encoded `events` field of the change at `index`, with the value before it if asked for and still known. */
  event(index: number, withPrevious: boolean): Uint8Array {
    const change = this.changes[index]!;
    // The previous value belongs to the revision before; where that is compacted, etcd shows none, and what was
    // encoded earlier does not count.
    if (withPrevious && !change.created && this.revision - 1 >= this.#history.compactedRevision) {
      return (this.#withPrevious[index] ??= eventField(
        change.type,
        change.record,
        this.#history.before(change.key, this.revision),
      ));
    }
    return (this.#plain[index] ??= eventField(change.type, change.record, undefined));
  }
}
