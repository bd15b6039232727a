/** The grpc_server_* series: one typed array per series, indexed by the method's place in the method table. */
import { GrpcCode } from "../errors";
import type { GrpcObserver } from "../transport/grpc/options";
import type { Method } from "../transport/methods";
import type { Catalogue } from "./catalogue";
import { Counter, Histogram, histogramSamples, type Labelled, type Sample } from "./instruments";

const codeNames: readonly string[] = Object.entries(GrpcCode)
  .sort(([, left], [, right]) => left - right)
  .map(([name]) => (name === "ok" ? "OK" : name.charAt(0).toUpperCase() + name.slice(1)));

/** prometheus.DefBuckets, which the Go middleware uses. */
const handlingBounds = Float64Array.of(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10);

/** Clients choose the text of their version header; beyond this many texts they share one label. */
const clientVersionsMax = 64;

export interface GrpcMetricsOptions {
  /** etcd's --metrics=extensive: adds the latency histogram. */
  readonly extensive: boolean;
}

/** Counts calls of every door that serves the method table; hand it to each as its observer. */
export class GrpcMetrics implements Required<GrpcObserver> {
  /** `etcd_network_client_grpc_received_bytes_total`: payload bytes from clients. */
  readonly receivedBytes: Counter;
  /** `etcd_network_client_grpc_sent_bytes_total`: payload bytes to clients. */
  readonly sentBytes: Counter;

  readonly #index = new Map<Method, number>();
  readonly #started: Float64Array;
  readonly #handled: Float64Array;
  readonly #received: Float64Array;
  readonly #sent: Float64Array;
  readonly #handling: readonly Histogram[] | undefined;
  readonly #clientRequests: Labelled<Counter>;
  readonly #clientVersions = {
    unary: new Map<string, Counter>(),
    stream: new Map<string, Counter>(),
  };
  readonly #streamFailures: Labelled<Counter>;

  constructor(catalogue: Catalogue, methods: readonly Method[], options: GrpcMetricsOptions) {
    methods.forEach((method, index) => this.#index.set(method, index));
    this.#started = new Float64Array(methods.length);
    this.#handled = new Float64Array(methods.length * codeNames.length);
    this.#received = new Float64Array(methods.length);
    this.#sent = new Float64Array(methods.length);

    const perMethod = (values: Float64Array) => (): Sample[] =>
      methods.map((method, index) => ({ labels: { ...method.labels }, value: values[index]! }));
    catalogue.series(
      "grpc_server_started_total",
      "counter",
      "Calls that began, whatever became of them.",
      perMethod(this.#started),
    );
    catalogue.series("grpc_server_handled_total", "counter", "Calls that ended, by status code.", () =>
      methods.flatMap((method, index) =>
        codeNames.map((code, number) => ({
          labels: { ...method.labels, grpc_code: code },
          value: this.#handled[index * codeNames.length + number]!,
        })),
      ),
    );
    catalogue.series(
      "grpc_server_msg_received_total",
      "counter",
      "Messages received from clients.",
      perMethod(this.#received),
    );
    catalogue.series(
      "grpc_server_msg_sent_total",
      "counter",
      "Messages sent to clients.",
      perMethod(this.#sent),
    );
    if (options.extensive) {
      const handling = methods.map(() => new Histogram(handlingBounds));
      this.#handling = handling;
      catalogue.series(
        "grpc_server_handling_seconds",
        "histogram",
        "Time from a call's start to its status.",
        () =>
          methods.flatMap((method, index) =>
            histogramSamples("grpc_server_handling_seconds", method.labels, handling[index]!),
          ),
      );
    }
    this.receivedBytes = catalogue.counter(
      "etcd_network_client_grpc_received_bytes_total",
      "Bytes received from gRPC clients.",
    );
    this.sentBytes = catalogue.counter(
      "etcd_network_client_grpc_sent_bytes_total",
      "Bytes sent to gRPC clients.",
    );
    this.#clientRequests = catalogue.counters(
      "etcd_server_client_requests_total",
      "Client requests by kind and by the API version that the client names.",
      "type",
      "client_api_version",
    );
    this.#streamFailures = catalogue.counters(
      "etcd_network_server_stream_failures_total",
      "Streams that ended because their client could not be read from or written to.",
      "Type",
      "API",
    );
    for (const direction of ["receive", "send"]) {
      for (const api of ["watch", "lease-keepalive"]) this.#streamFailures.of(direction, api);
    }
  }

  started(method: Method): void {
    this.#started[this.#index.get(method)!]! += 1;
  }

  handled(method: Method, code: GrpcCode, durationMs: number): void {
    const index = this.#index.get(method)!;
    this.#handled[index * codeNames.length + code]! += 1;
    if (this.#handling !== undefined) this.#handling[index]!.observe(durationMs / 1000);
  }

  received(method: Method, bytes: number): void {
    this.#received[this.#index.get(method)!]! += 1;
    this.receivedBytes.value += bytes;
  }

  sent(method: Method, bytes: number): void {
    this.#sent[this.#index.get(method)!]! += 1;
    this.sentBytes.value += bytes;
  }

  clientRequest(type: "unary" | "stream", clientApiVersion: string): void {
    const known = this.#clientVersions[type];
    let counter = known.get(clientApiVersion);
    if (counter === undefined) {
      if (known.size >= clientVersionsMax) {
        counter = this.#clientRequests.of(type, "other");
      } else {
        counter = this.#clientRequests.of(type, clientApiVersion);
        known.set(clientApiVersion, counter);
      }
    }
    counter.value += 1;
  }

  streamFailed(method: Method, direction: "receive" | "send"): void {
    const api =
      method.desc.localName === "leaseKeepAlive"
        ? "lease-keepalive"
        : method.labels.grpc_service === "etcdserverpb.Watch"
          ? "watch"
          : undefined;
    if (api !== undefined) this.#streamFailures.of(direction, api).inc();
  }
}
