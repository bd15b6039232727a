/** What the state machine gives to the rest of a member. */
import type { Revision } from "../ids";

/** One change of one key. Changes of a revision are ordered by `sub`. */
export interface Change {
  readonly type: "put" | "delete";
  /** The key as a binary string (`bytes.ts`). */
  readonly key: string;
  readonly revision: Revision;
  readonly sub: number;
  /** True for the put that brings a key into existence. */
  readonly created: boolean;
  /** The mvccpb.KeyValue as etcd encodes it; of a delete only key and mod_revision. */
  readonly record: Uint8Array;
}

/** Everything that one revision changed; watchers see it together or not at all. */
export interface RevisionChanges {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/** How watchers read the past. Implemented by the MVCC store. */
export interface History {
  readonly revision: Revision;
  readonly compactedRevision: Revision;
  /**
   * Changes of revisions in [from, to], oldest first, whole revisions only, cut after about `revisionsMax`
   * revisions or `bytesMax` bytes of records. `next` is the first revision not covered. Throws the `compacted`
   * refusal when `from` is at or below what physical compaction already removed.
   */
  changes(
    from: Revision,
    to: Revision,
    revisionsMax: number,
    bytesMax: number,
  ): { readonly revisions: readonly RevisionChanges[]; readonly next: Revision };
  /** The record of `key` as it was just before `revision`, or undefined when it did not exist or was compacted. */
  before(key: string, revision: Revision): Uint8Array | undefined;
}
