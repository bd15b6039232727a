/** Ranges of keys to which more are added while keys are looked up in them. */

/** Disjoint ranges in order: the first key of each, and the first key behind it. */
interface Run {
  readonly lows: string[];
  readonly highs: string[];
}

/**
 * Runs of falling length: a new range becomes a run, and runs of about the same length are merged. So adding costs
 * the logarithm of what is there, and a lookup its square, whatever the order in which a client mixes the two.
 */
export class KeyRanges {
  readonly #runs: Run[] = [];

  /** Adds [low, high). An empty range adds nothing. */
  add(low: string, high: string): void {
    if (low < high) this.#addRun({ lows: [low], highs: [high] });
  }

  addAll(other: KeyRanges): void {
    for (const run of other.#runs) this.#addRun(run);
  }

  holds(key: string): boolean {
    return this.#runs.some((run) => runHolds(run, key));
  }

  #addRun(added: Run): void {
    let run = added;
    for (;;) {
      const last = this.#runs.at(-1);
      if (last === undefined || last.lows.length > run.lows.length) break;
      this.#runs.pop();
      run = merged(last, run);
    }
    this.#runs.push(run);
  }
}

function runHolds({ lows, highs }: Run, key: string): boolean {
  let from = 0;
  let to = lows.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (lows[middle]! <= key) from = middle + 1;
    else to = middle;
  }
  return from > 0 && key < highs[from - 1]!;
}

/** One run of what two hold, ranges that touch joined. */
function merged(a: Run, b: Run): Run {
  const lows: string[] = [];
  const highs: string[] = [];
  for (let atA = 0, atB = 0; atA < a.lows.length || atB < b.lows.length;) {
    const takeA = atB === b.lows.length || (atA < a.lows.length && a.lows[atA]! <= b.lows[atB]!);
    const low = takeA ? a.lows[atA]! : b.lows[atB]!;
    const high = takeA ? a.highs[atA++]! : b.highs[atB++]!;
    const end = highs.at(-1);
    if (end === undefined || low > end) {
      lows.push(low);
      highs.push(high);
    } else if (high > end) {
      highs[highs.length - 1] = high;
    }
  }
  return { lows, highs };
}
