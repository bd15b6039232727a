/** The past of one key. */
import type { Revision } from "../../ids";
import type { MvccStore } from "./store";

export interface KeyVersions {
  /** Encoded mvccpb.KeyValue messages; a deletion has only key and mod revision. */
  readonly records: readonly Uint8Array[];
  /** Older versions are retained. */
  readonly more: boolean;
}

/** Versions of a key that readers may still ask for: down to the one that lives at the compacted revision. */
export function versionsOf(
  store: MvccStore,
  key: string,
  before: Revision,
  versionsMax: number,
  bytesMax: number,
): KeyVersions {
  const records: Uint8Array[] = [];
  let bytes = 0;
  const { compactedRevision, revision } = store;
  for (const [main, sequence] of store.index.find(key)?.below(Math.min(before, revision + 1)) ?? []) {
    // A deletion at or before the compacted revision is no history any more.
    if (sequence < 0 && main <= compactedRevision) break;
    if (records.length >= versionsMax || bytes >= bytesMax) return { records, more: true };
    const record = store.rows.read(Math.abs(sequence));
    records.push(record);
    bytes += record.length;
    if (main <= compactedRevision) break;
  }
  return { records, more: false };
}
