/** Turns the state in a snapshot into the first state of another cluster. */
import type { Database } from "bun:sqlite";
import type { ConfigurationChange } from "../consensus/types";
import type { LogIndex, Revision, Term } from "../ids";
import { ClusterTable } from "./cluster-table";
import { Journal } from "./position";
import { RowSum } from "./row-sum";

export interface RebaseOptions {
  /** The founders of the cluster, as its log would add them. */
  readonly founders: readonly ConfigurationChange[];
  /** The entry that this state is to hold: the last of the founders' own. */
  readonly index: LogIndex;
  readonly term: Term;
  /** What the revision rises by, so that watchers of the former cluster never see one twice. */
  readonly bumpRevision: number;
  /** Everything before the new revision counts as compacted, so that watchers from before are told. */
  readonly markCompacted: boolean;
}

/**
 * Keeps keys, leases and kept results; replaces the members, drops alarms, and moves the position. The database is
 * one that nobody else has open; the change is one transaction. Answers the new revision.
 */
export function rebaseState(database: Database, options: RebaseOptions): Revision {
  const journal = new Journal(database);
  const { position } = journal;
  journal.write(0);
  for (const table of ["members", "alarms"]) {
    const rows = database.query<unknown, []>(`DELETE FROM ${table} RETURNING checksum`).values() as [
      number,
    ][];
    for (const [checksum] of rows) position.rows.subtract(checksum);
  }
  const cluster = new ClusterTable(journal);
  // Reads the settings, which stay; they are in the sum already.
  cluster.load(new RowSum());
  for (const founder of options.founders) cluster.change(founder);
  position.revision += options.bumpRevision;
  if (options.markCompacted) position.compactedRevision = position.revision;
  position.appliedIndex = options.index;
  position.appliedTerm = options.term;
  // This state begins a log of its own: the former one's numbers mean nothing in it.
  journal.committedIndex = 0;
  journal.commit();
  return position.revision;
}
