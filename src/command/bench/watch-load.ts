/** Load of watches: puts on watched keys, and every event counted at every watcher. */
import { create, toBinary } from "@bufbuild/protobuf";

import { WatchRequestSchema } from "../../proto/gen/etcd/rpc_pb";
import { type Connection, type Stream } from "./http2/connection";
import { Histogram } from "./histogram";
import { benchKey, methodPaths } from "./requests";
import type { BenchOptions } from "./options";
import { readWatchResponse } from "./watch-response";

/** Watchers on their streams, one stream for each connection. */
export class Watchers {
  /** Events delivered to all watchers together. */
  delivered = 0;
  /** From the put's start to the arrival of the event, when the value carries its time. */
  readonly latency = new Histogram();
  failure: string | undefined;
  lastDeliveryAtMs = 0;
  readonly #streams: Stream[] = [];
  #created = 0;

  /** Opens all watchers; resolves when the server has confirmed each. */
  async open(connections: readonly Connection[], options: BenchOptions): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (reason: string): void => {
      this.failure ??= reason;
      reject(new Error(reason));
    };
    const handler = {
      message: (bytes: Uint8Array): void => {
        const response = readWatchResponse(bytes);
        if (response.canceled) fail("the server cancelled a watch");
        if (response.created && ++this.#created === options.watchers) resolve();
        if (response.events === 0) return;
        const nowMs = performance.now();
        this.delivered += response.events;
        this.lastDeliveryAtMs = nowMs;
        if (response.lastValue !== undefined) {
          const sentAtMs = readTime(response.lastValue);
          if (sentAtMs !== undefined) this.latency.record(nowMs - sentAtMs, response.events);
        }
      },
      end: (code: number, text: string): void => {
        if (!this.#closing) fail(`a watch stream ended with ${code}: ${text}`);
      },
    };
    for (const connection of connections) {
      this.#streams.push(await connection.openStream(methodPaths.watch, handler));
    }
    for (let watcher = 0; watcher < options.watchers; watcher++) {
      const request = create(WatchRequestSchema, {
        requestUnion: {
          case: "createRequest",
          value: { key: benchKey(options, watcher % options.keySpace) },
        },
      });
      this.#streams[watcher % this.#streams.length]!.send(toBinary(WatchRequestSchema, request));
    }
    const late = setTimeout(
      () => fail(`only ${this.#created} of ${options.watchers} watchers were confirmed within 30 s`),
      30_000,
    );
    try {
      await promise;
    } finally {
      clearTimeout(late);
    }
  }

  #closing = false;

  close(): void {
    this.#closing = true;
    for (const stream of this.#streams) stream.cancel();
  }

  /** Waits until `expected` events have come, or none has for `patienceMs`. */
  async settle(expected: number, patienceMs: number): Promise<void> {
    let quietSinceMs = performance.now();
    let seen = this.delivered;
    while (this.delivered < expected && this.failure === undefined) {
      await Bun.sleep(5);
      if (this.delivered !== seen) {
        seen = this.delivered;
        quietSinceMs = performance.now();
      } else if (performance.now() - quietSinceMs > patienceMs) return;
    }
  }
}

/** How many bytes of a value carry the time of its put. */
export const timeBytes = 16;

/** Writes the present time into the first bytes of a value. */
export function writeTime(value: Buffer, at: number): void {
  value.writeDoubleBE(performance.now(), at + 8);
  value.write("at-time:", at, "latin1");
}

function readTime(value: Buffer): number | undefined {
  if (value.length < timeBytes || value.toString("latin1", 0, 8) !== "at-time:") return undefined;
  return value.readDoubleBE(8);
}
