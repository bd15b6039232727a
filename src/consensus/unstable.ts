/**
 * What of the log and the hard state is on disk, what is on its way there, and what has not been handed out.
 *
 * A completion names its batch by sequence, term and index. Batches become durable in order, so one completion
 * covers all earlier ones. When the log is overwritten while a batch is in flight, the batch's claim is cut back
 * to what the overwriting left of it: even if entries with the same index and term are appended again later, an
 * old completion cannot vouch for them (the ABA race of asynchronous log writes).
 */
import { assert } from "../assert";
import type { LogIndex, MemberId, Term } from "../ids";

export interface Completion {
  readonly term: Term;
  readonly index: LogIndex;
  readonly sequence: number;
}

interface Batch extends Completion {
  /** Up to where the batch still vouches for the log. */
  covers: LogIndex;
  readonly hardTerm: Term;
  readonly hardVote: MemberId;
}

export class Unstable {
  /** The last entry handed out for persisting. */
  handed: LogIndex;
  /** The last entry known to be on disk. */
  persisted: LogIndex;
  /** Term and vote as they are on disk. */
  persistedTerm: Term;
  persistedVote: MemberId;
  readonly #inFlight: Batch[] = [];
  #sequence = 0;

  constructor(lastIndex: LogIndex, term: Term, vote: MemberId) {
    this.handed = lastIndex;
    this.persisted = lastIndex;
    this.persistedTerm = term;
    this.persistedVote = vote;
  }

  get anyInFlight(): boolean {
    return this.#inFlight.length > 0;
  }

  /** A batch leaves that makes the log durable up to `lastIndex`. */
  begin(lastIndex: LogIndex, lastTerm: Term, hardTerm: Term, hardVote: MemberId): Completion {
    this.handed = lastIndex;
    this.#sequence++;
    const completion = { term: lastTerm, index: lastIndex, sequence: this.#sequence };
    this.#inFlight.push({ ...completion, covers: lastIndex, hardTerm, hardVote });
    return completion;
  }

  /** Takes note of a completion; false when it is stale or unknown and changed nothing. */
  complete(completion: Completion): boolean {
    const batches = this.#inFlight;
    const at = batches.findIndex((batch) => batch.sequence === completion.sequence);
    if (at < 0) return false;
    const batch = batches[at]!;
    if (batch.index !== completion.index || batch.term !== completion.term) return false;
    for (let i = 0; i <= at; i++) this.persisted = Math.max(this.persisted, batches[i]!.covers);
    this.persistedTerm = batch.hardTerm;
    this.persistedVote = batch.hardVote;
    batches.splice(0, at + 1);
    assert(
      this.persisted <= this.handed,
      () => `persisted ${this.persisted} is beyond handed ${this.handed}`,
    );
    return true;
  }

  /** The log is being overwritten from `index` on. */
  truncateFrom(index: LogIndex): void {
    this.handed = Math.min(this.handed, index - 1);
    this.persisted = Math.min(this.persisted, index - 1);
    for (const batch of this.#inFlight) batch.covers = Math.min(batch.covers, index - 1);
  }

  /** A durable snapshot replaced the log. */
  resetTo(index: LogIndex): void {
    for (const batch of this.#inFlight) batch.covers = Math.min(batch.covers, index);
    this.handed = index;
    this.persisted = index;
  }
}
