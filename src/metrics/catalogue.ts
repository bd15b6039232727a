/** Declares series: name, type, help and labels once, and hands out the instrument that the owner increments. */
import { Registry, type Metric } from "prom-client";
import {
  Counter,
  Gauge,
  Histogram,
  Labelled,
  histogramSamples,
  type LabelValues,
  type Sample,
  type Series,
} from "./instruments";

type SeriesType = "counter" | "gauge" | "histogram";

/** The registry together with the callbacks that refresh sampled values before a scrape. */
export class Catalogue {
  readonly #registry = new Registry();
  readonly #beforeScrape: (() => void | Promise<void>)[] = [];

  counter(name: string, help: string): Counter {
    const counter = new Counter();
    this.series(name, "counter", help, () => [{ labels: {}, value: counter.value }]);
    return counter;
  }

  gauge(name: string, help: string): Gauge {
    const gauge = new Gauge();
    this.series(name, "gauge", help, () => [{ labels: {}, value: gauge.value }]);
    return gauge;
  }

  histogram(name: string, help: string, bounds: Float64Array): Histogram {
    const histogram = new Histogram(bounds);
    this.series(name, "histogram", help, () => histogramSamples(name, {}, histogram));
    return histogram;
  }

  counters(name: string, help: string, ...labelNames: readonly string[]): Labelled<Counter> {
    return this.#values(name, "counter", help, new Labelled(labelNames, () => new Counter()));
  }

  gauges(name: string, help: string, ...labelNames: readonly string[]): Labelled<Gauge> {
    return this.#values(name, "gauge", help, new Labelled(labelNames, () => new Gauge()));
  }

  histograms(
    name: string,
    help: string,
    bounds: Float64Array,
    ...labelNames: readonly string[]
  ): Labelled<Histogram> {
    const labelled = new Labelled(labelNames, () => new Histogram(bounds));
    this.series(name, "histogram", help, () => {
      const samples: Sample[] = [];
      for (const [labels, histogram] of labelled.entries()) {
        for (const sample of histogramSamples(name, labels, histogram)) samples.push(sample);
      }
      return samples;
    });
    return labelled;
  }

  /** A series whose samples are made when it is scraped. */
  series(name: string, type: SeriesType, help: string, collect: () => Sample[]): void {
    const series: Series = {
      name,
      get: () => Promise.resolve({ name, help, type, values: collect() }),
    };
    // The registry asks a metric for nothing but its name and this, whatever its type says.
    this.#registry.registerMetric(series as unknown as Metric);
  }

  /** Runs before each scrape; a callback that fails is reported once by the caller of {@link text}. */
  onScrape(callback: () => void | Promise<void>): void {
    this.#beforeScrape.push(callback);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The whole exposition in Prometheus' text format. */
  async text(): Promise<string> {
    for (const callback of this.#beforeScrape) await callback();
    return this.#registry.metrics();
  }

  #values<Instrument extends { readonly value: number }>(
    name: string,
    type: SeriesType,
    help: string,
    labelled: Labelled<Instrument>,
  ): Labelled<Instrument> {
    this.series(name, type, help, () => {
      const samples: { labels: LabelValues; value: number }[] = [];
      for (const [labels, instrument] of labelled.entries())
        samples.push({ labels, value: instrument.value });
      return samples;
    });
    return labelled;
  }
}
