/** The last hour of one member in numbers, one point every five seconds; always kept, for 64 KB. */

export const seriesNames = [
  "requestsPerSecond",
  "requestP99Ms",
  "fsyncP99Ms",
  "applyP99Ms",
  "commitsPerSecond",
  "roundTripMs",
  "watchEventsPerSecond",
  "databaseBytes",
  "memoryBytes",
  "term",
] as const;
export type SeriesName = (typeof seriesNames)[number];

export const seriesStepMs = 5_000;
export const seriesPoints = 720;

/** A point: figures that were not measured are null. */
export type SeriesPoint = readonly (number | null)[];

/** Points by the step of the wall clock that they belong to; steps without a point are gaps. */
export interface SeriesPiece {
  /** The step of the first point: milliseconds since 1970 divided by the step. */
  readonly from: number;
  readonly points: readonly (SeriesPoint | null)[];
}

export class Series {
  readonly #steps = new Float64Array(seriesPoints).fill(-1);
  readonly #points: (SeriesPoint | null)[] = Array.from({ length: seriesPoints }, () => null);
  #last = -1;

  /** The latest step that has a point; -1 before the first. */
  get last(): number {
    return this.#last;
  }

  add(wallMs: number, figures: Readonly<Partial<Record<SeriesName, number>>>): void {
    this.put(
      Math.floor(wallMs / seriesStepMs),
      seriesNames.map((name) => {
        const figure = figures[name];
        // Three digits are what a plot can show, and travel well.
        return figure === undefined || !Number.isFinite(figure) ? null : Number(figure.toPrecision(4));
      }),
    );
  }

  put(step: number, point: SeriesPoint): void {
    const slot = step % seriesPoints;
    this.#steps[slot] = step;
    this.#points[slot] = point;
    this.#last = Math.max(this.#last, step);
  }

  at(step: number): SeriesPoint | null {
    const slot = step % seriesPoints;
    return this.#steps[slot] === step && step > this.#last - seriesPoints ? this.#points[slot]! : null;
  }

  /** Points after a step, at most an hour of them. */
  after(step: number): SeriesPiece {
    const from = Math.max(step + 1, this.#last - seriesPoints + 1, 0);
    const points: (SeriesPoint | null)[] = [];
    for (let at = from; at <= this.#last; at++) points.push(this.at(at));
    return { from, points };
  }

  take({ from, points }: SeriesPiece): void {
    points.slice(-seriesPoints).forEach((point, at, kept) => {
      if (point !== null) this.put(from + points.length - kept.length + at, point);
    });
  }

  /** One figure for the steps from `from` to `to`; null where there is none. */
  column(name: SeriesName, from: number, to: number): (number | null)[] {
    const column = seriesNames.indexOf(name);
    const values: (number | null)[] = [];
    for (let step = from; step <= to; step++) values.push(this.at(step)?.[column] ?? null);
    return values;
  }
}

/** How often each bucket was hit, since the start; `bounds` are upper ends in seconds. */
export interface Buckets {
  readonly bounds: ArrayLike<number>;
  readonly counts: ArrayLike<number>;
}

/** What was counted between two readings of the same buckets. */
export class BucketWindow {
  #before: Float64Array | undefined;

  /** The counts since the last call; undefined at the first one. */
  next({ counts }: Buckets): Float64Array | undefined {
    const now = Float64Array.from(counts);
    const before = this.#before;
    this.#before = now;
    return before === undefined || before.length !== now.length
      ? undefined
      : now.map((count, at) => count - before[at]!);
  }
}

/** The value below which a share of the observations lies, in milliseconds, as far as buckets tell; undefined for none. */
export function quantileMs(
  bounds: ArrayLike<number>,
  counts: ArrayLike<number>,
  share: number,
): number | undefined {
  let total = 0;
  for (let at = 0; at < counts.length; at++) total += counts[at]!;
  if (total === 0) return undefined;
  let left = total * share;
  for (let at = 0; at < counts.length; at++) {
    const count = counts[at]!;
    if (left > count) {
      left -= count;
      continue;
    }
    const low = at === 0 ? 0 : bounds[at - 1]!;
    const high = at < bounds.length ? bounds[at]! : low * 2;
    return (low + (high - low) * (count === 0 ? 1 : left / count)) * 1_000;
  }
  return undefined;
}
