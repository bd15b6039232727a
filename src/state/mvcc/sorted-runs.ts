/** Sorting in slices: short sorted runs, merged while they are taken. */

export interface Candidate {
  readonly sequence: number;
  /** Place in key order; settles ties. */
  readonly position: number;
  /** Of one kind for all candidates. */
  readonly rank: number | string | Uint8Array;
}

interface Run {
  readonly candidates: readonly Candidate[];
  at: number;
}

export class SortedRuns {
  /** A binary heap by each run's next candidate. */
  readonly #heap: Run[] = [];
  #position = 0;

  constructor(readonly descending: boolean) {}

  /** Numbers candidates in the order in which they are found. */
  nextPosition(): number {
    return this.#position++;
  }

  /** Adds candidates in any order; the array is kept. */
  add(candidates: Candidate[]): void {
    if (candidates.length === 0) return;
    candidates.sort((a, b) => this.#compare(a, b));
    this.#heap.push({ candidates, at: 0 });
    this.#up(this.#heap.length - 1);
  }

  /** The row numbers of the next candidates in order; fewer at the end. */
  take(max: number): number[] {
    const sequences: number[] = [];
    while (sequences.length < max && this.#heap.length > 0) {
      const run = this.#heap[0]!;
      sequences.push(run.candidates[run.at++]!.sequence);
      if (run.at === run.candidates.length) {
        const last = this.#heap.pop()!;
        if (this.#heap.length === 0) break;
        if (last !== run) this.#heap[0] = last;
      }
      this.#down();
    }
    return sequences;
  }

  #compare(a: Candidate, b: Candidate): number {
    const order = orderOf(a.rank, b.rank);
    if (order === 0) return a.position - b.position;
    return this.descending ? -order : order;
  }

  #before(a: number, b: number): boolean {
    const runA = this.#heap[a]!;
    const runB = this.#heap[b]!;
    return this.#compare(runA.candidates[runA.at]!, runB.candidates[runB.at]!) < 0;
  }

  #swap(a: number, b: number): void {
    const run = this.#heap[a]!;
    this.#heap[a] = this.#heap[b]!;
    this.#heap[b] = run;
  }

  #up(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >> 1;
      if (!this.#before(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #down(): void {
    for (let at = 0; ;) {
      const left = at * 2 + 1;
      const right = left + 1;
      let least = at;
      if (left < this.#heap.length && this.#before(left, least)) least = left;
      if (right < this.#heap.length && this.#before(right, least)) least = right;
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }
}

function orderOf<Rank extends Candidate["rank"]>(a: Rank, b: Candidate["rank"]): number {
  if (typeof a === "number") return a - (b as number);
  if (typeof a === "string") return a < (b as string) ? -1 : a > (b as string) ? 1 : 0;
  return Buffer.compare(a, b as Uint8Array);
}
