/**
 * What a leader believes about one other member, and how fast it may send to it.
 *
 *     probe      one append at a time, until its answer tells where the logs meet
 *     replicate  appends flow ahead of their answers, within the bounds of `Inflights`
 *     snapshot   the log no longer reaches back far enough; appends wait for a snapshot
 */
import { assert } from "../assert";
import type { LogIndex, MemberId, Term } from "../ids";
import { Inflights } from "./inflights";

export class Progress {
  state: "probe" | "replicate" | "snapshot" = "probe";
  /** The highest entry known to be durable there. */
  match: LogIndex = 0;
  /** The next entry to send. */
  next: LogIndex;
  /** The highest commit index that a message carried which the member can act on. */
  sentCommit: LogIndex = 0;
  /** In probe: an append waits for its answer. */
  probeSent = false;
  /** Send an append at the next opportunity even if it is empty. */
  appendDue = true;
  /** Heard from since the last check for a quorum. */
  recentlyActive: boolean;
  /** The newest read round that this member answered. */
  readRound = 0;
  /** In snapshot: the index of the snapshot on its way; 0 while there is none to send. */
  snapshotIndex: LogIndex = 0;
  /** The range of entries asked for from storage for this member begins here; 0 when none is. */
  wantedLow: LogIndex = 0;
  /** Term of an entry outside the known positions, learned from storage on the way. */
  learned: { readonly index: LogIndex; readonly term: Term } = { index: -1, term: 0 };
  readonly inflights: Inflights;

  constructor(
    readonly id: MemberId,
    public learner: boolean,
    next: LogIndex,
    recentlyActive: boolean,
    inflights: Inflights,
  ) {
    this.next = next;
    this.recentlyActive = recentlyActive;
    this.inflights = inflights;
  }

  get paused(): boolean {
    switch (this.state) {
      case "probe":
        return this.probeSent;
      case "replicate":
        return this.inflights.full;
      case "snapshot":
        return true;
    }
  }

  #become(state: "probe" | "replicate" | "snapshot"): void {
    this.state = state;
    this.probeSent = false;
    this.snapshotIndex = 0;
    this.wantedLow = 0;
    this.inflights.clear();
  }

  /** Looks for the place where the logs meet, from `next` backwards. */
  becomeProbe(next: LogIndex): void {
    this.#become("probe");
    this.next = Math.max(this.match + 1, next);
    this.sentCommit = Math.min(this.sentCommit, this.match);
    this.appendDue = true;
  }

  becomeReplicate(): void {
    this.#become("replicate");
    this.next = this.match + 1;
  }

  becomeSnapshot(): void {
    this.#become("snapshot");
  }

  /** An append with entries up to `lastIndex` (none: `next - 1`) left for this member. */
  sent(lastIndex: LogIndex, bytes: number, commit: LogIndex): void {
    this.appendDue = false;
    this.sentCommit = Math.max(this.sentCommit, Math.min(commit, lastIndex));
    if (this.state === "probe") {
      this.probeSent = true;
      return;
    }
    assert(this.state === "replicate", () => `append sent in state ${this.state}`);
    if (bytes === 0) return;
    this.inflights.add(lastIndex, bytes);
    this.next = lastIndex + 1;
  }

  /** The member holds everything up to `index`. False when that was known. */
  acknowledged(index: LogIndex): boolean {
    if (index >= this.next) this.next = index + 1;
    if (index <= this.match) return false;
    this.match = index;
    return true;
  }

  /**
   * The member refused an append after `previous`; `hint` is where the logs may meet. False when the refusal is
   * old: of an append before the known match, or not of the outstanding probe.
   */
  refused(previous: LogIndex, hint: LogIndex): boolean {
    switch (this.state) {
      case "replicate":
        if (previous <= this.match) return false;
        this.becomeProbe(Math.min(previous, hint + 1));
        return true;
      case "probe":
        if (previous !== this.next - 1) return false;
        this.becomeProbe(Math.min(previous, hint + 1));
        return true;
      case "snapshot":
        return false;
    }
  }
}
