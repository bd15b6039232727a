/**
 * Counters, gauges and histograms that cost an addition. prom-client's own instruments hash their labels on every
 * call (about half a microsecond); these are plain numbers and typed arrays, read only when someone scrapes. They
 * speak prom-client's metric interface, so its registry still owns uniqueness of names and the text format.
 */
import type { MetricValue } from "prom-client";

export type LabelValues = Readonly<Record<string, string>>;

/** Only grows. */
export class Counter {
  value = 0;

  inc(by = 1): void {
    this.value += by;
  }
}

/** Goes up and down. */
export class Gauge {
  value = 0;

  set(value: number): void {
    this.value = value;
  }

  inc(by = 1): void {
    this.value += by;
  }

  dec(by = 1): void {
    this.value -= by;
  }
}

/** Counts observations per bucket; `bounds` are the inclusive upper ends, ascending, without infinity. */
export class Histogram {
  readonly counts: Float64Array;
  sum = 0;

  constructor(readonly bounds: Float64Array) {
    this.counts = new Float64Array(bounds.length + 1);
  }

  /** Takes one observation in the unit of the bounds (seconds unless the series' name says otherwise). */
  observe(value: number): void {
    const bounds = this.bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    this.counts[bucket]! += 1;
    this.sum += value;
  }
}

/** Upper ends `start`, `start * 2`, ... as all of etcd's duration histograms have them. */
export function doublingBounds(start: number, steps: number): Float64Array {
  return Float64Array.from({ length: steps }, (_, step) => start * 2 ** step);
}

/** Children of one series by label values, each created once and then held by whoever increments it. */
export class Labelled<Child> {
  readonly #children = new Map<string, { labels: LabelValues; child: Child }>();

  constructor(
    readonly labelNames: readonly string[],
    private readonly create: () => Child,
  ) {}

  /** The child for these label values, in the order of `labelNames`. Look it up once, not per request. */
  of(...values: readonly string[]): Child {
    const key = values.join("\u0000");
    const known = this.#children.get(key);
    if (known !== undefined) return known.child;
    const labels = Object.fromEntries(this.labelNames.map((name, index) => [name, values[index] ?? ""]));
    const child = this.create();
    this.#children.set(key, { labels, child });
    return child;
  }

  /** Forgets a child, such as the one of a removed member. */
  drop(...values: readonly string[]): void {
    this.#children.delete(values.join("\u0000"));
  }

  clear(): void {
    this.#children.clear();
  }

  *entries(): IterableIterator<readonly [LabelValues, Child]> {
    for (const { labels, child } of this.#children.values()) yield [labels, child];
  }
}

/** A series as prom-client's registry wants to see it. */
export interface Series {
  readonly name: string;
  get(): Promise<{
    readonly name: string;
    readonly help: string;
    readonly type: string;
    readonly values: readonly Sample[];
  }>;
}

/** One sample: its labels and its value, and for histograms the suffixed name. */
export type Sample = MetricValue<string> & { metricName?: string };

/** The samples of one histogram under the names that Prometheus expects. */
export function histogramSamples(name: string, labels: LabelValues, histogram: Histogram): Sample[] {
  const samples: Sample[] = [];
  let cumulative = 0;
  for (let bucket = 0; bucket < histogram.bounds.length; bucket++) {
    cumulative += histogram.counts[bucket]!;
    samples.push({
      metricName: `${name}_bucket`,
      labels: { ...labels, le: String(histogram.bounds[bucket]) },
      value: cumulative,
    });
  }
  cumulative += histogram.counts[histogram.bounds.length]!;
  samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le: "+Inf" }, value: cumulative });
  samples.push({ metricName: `${name}_sum`, labels: { ...labels }, value: histogram.sum });
  samples.push({ metricName: `${name}_count`, labels: { ...labels }, value: cumulative });
  return samples;
}
