/** What the state says when stored bytes are not what was written. */

/** Rows are changed, missing or contradict each other; the message says which and what to do. */
export class DamagedStateError extends Error {
  override readonly name = "DamagedStateError";

  constructor(what: string) {
    super(
      `the state database is damaged: ${what}. Nothing was answered from it. Check the disk, then restore this ` +
        "member from a snapshot, or remove it from the cluster and add it anew",
    );
  }
}
