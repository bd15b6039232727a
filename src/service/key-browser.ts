/** Lists of keys for people, with a bound on what one request may cost, and reads that go on without a leader. */
import { refuse } from "../errors";
import type { Revision } from "../ids";
import type { Member } from "../member/member";
import type { ListedRow, ListingQuery } from "../state/mvcc/listing";
import { Gate } from "./gate";

export type { ListedKey, ListedPrefix, ListedRow, ListingQuery } from "../state/mvcc/listing";

/** Keys that one slice looks at, a millisecond or two: between slices a busy member does a turn's work. */
const sliceVisitsMax = 8_000;
/** Keys that one page may look at, and the time that it may take, before it says how far it came. */
const pageVisitsMax = 100_000;
const pageMs = 20;
/** A page looks at so many keys however long that takes. */
const pageVisitsMin = 15_000;
/** Pages that are put together at the same time; more wait. */
const pagesMax = 4;
/** How long a page waits for the leader before it shows what this member holds. */
const confirmMs = 1_500;

export interface KeyPage {
  /** The store's revision when the page was read. */
  readonly revision: Revision;
  /** The revision that the page shows. */
  readonly at: Revision;
  readonly rows: readonly ListedRow[];
  /** Where the next page begins, as a binary string; undefined: this was all. */
  readonly next: string | undefined;
  /** Keys that were looked at. */
  readonly visited: number;
  /** False: the page ended because it had looked at enough keys, not because it was full. */
  readonly full: boolean;
}

export class KeyBrowser {
  readonly #member: Member;
  readonly #gate = new Gate(pagesMax);

  constructor(member: Member) {
    this.#member = member;
  }

  /**
   * True when what this member holds is confirmed to be the newest; false when nobody could say so in time, and what
   * is read next may be old.
   */
  async confirm(): Promise<boolean> {
    const member = this.#member;
    if (member.leader === 0n) return false;
    const confirmed = member.linearizable().then(
      () => true,
      () => false,
    );
    return Promise.race([confirmed, member.pause(confirmMs).then(() => false)]);
  }

  /**
   * One page from what this member holds at a revision, 0 for the newest. Throws the refusals `compacted`, `futureRev`
   * and `corrupt`.
   */
  page(query: ListingQuery, revision: Revision, canceled: () => boolean = () => false): Promise<KeyPage> {
    return this.#gate.pass(() => this.#page(query, revision, canceled));
  }

  async #page(query: ListingQuery, revision: Revision, canceled: () => boolean): Promise<KeyPage> {
    if (this.#member.consistency.damaged) throw refuse("corrupt");
    const run = this.#member.state.listing(query, revision);
    try {
      const rows: ListedRow[] = [];
      const untilMs = this.#member.monotonicMs() + pageMs;
      for (let visited = 0; ;) {
        const slice = run.next(sliceVisitsMax);
        rows.push(...slice.rows);
        visited += slice.visited;
        const late = visited >= pageVisitsMin && this.#member.monotonicMs() >= untilMs;
        const enough = late || visited >= pageVisitsMax;
        if (slice.done || enough) {
          return { revision: run.revision, at: run.at, rows, next: slice.next, visited, full: slice.done };
        }
        await this.#member.soon();
        if (this.#member.stopping) throw refuse("stopped");
        if (canceled()) throw refuse("canceled");
      }
    } finally {
      run.close();
    }
  }
}
