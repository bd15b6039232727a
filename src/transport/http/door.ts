/** The HTTP/1.1 door of a client port. */
import type { Server } from "node:http";
import type { Logger } from "../../log";
import type { Metrics } from "../../metrics/metrics";
import type { Gateway } from "../gateway/gateway";
import type { HealthSource } from "./health-source";

export interface HttpDoorOptions {
  readonly health: HealthSource;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Serves /v3/*; absent when it is switched off, and on listeners for metrics only. */
  readonly gateway?: Gateway;
  /** True for --listen-metrics-urls: health and metrics only. Default false. */
  readonly metricsOnly?: boolean;
  /** etcd's --cors: origins that browsers may call from; "*" is all. Default ["*"]. */
  readonly cors?: readonly string[];
  /** etcd's --host-whitelist: Host names accepted on plain HTTP; "*" is all. Default ["*"]. */
  readonly hostWhitelist?: readonly string[];
}

/** Creates the server; it does not listen itself, a listener hands it connections. */
export function createHttpDoor(_options: HttpDoorOptions): Server {
  throw new Error("not yet");
}
