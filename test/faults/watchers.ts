/** Watchers of every kind beside the load: each stream is recorded as its client saw it, for `test/check`. */
import { create } from "@bufbuild/protobuf";
import {
  Watch,
  WatchCreateRequestSchema,
  WatchCreateRequest_FilterType as Filter,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { SeededRng } from "../../src/rng";
import type { WatchMessage, WatchStreamRecord } from "../check/watches";
import { GrpcClient } from "../tools/grpc-client";
import type { Endpoint, Recorder } from "./recorder";
import { utf8 } from "./workloads";

const prefixes = [
  ["r/", "r0"],
  ["g/", "g0"],
  ["g/1", ""],
  ["/registry/", "/registry0"],
  ["a/", "b"],
  ["\0", "\0"],
] as const;

interface OpenStream {
  readonly client: number;
  readonly member: string;
  readonly messages: WatchMessage[];
  live: boolean;
}

/** Clients that open streams with several watchers each, and open new ones where those broke. */
export class Watchers {
  readonly #streams: OpenStream[] = [];
  readonly #running: Promise<void>[] = [];
  /** No new streams any more; those that are open go on. */
  settling = false;
  #stopped = false;

  constructor(
    readonly recorder: Recorder,
    readonly rng: SeededRng,
    readonly endpoints: () => readonly Endpoint[],
  ) {}

  start(clients: number): void {
    for (let index = 0; index < clients; index++) this.#running.push(this.#run(index));
    this.#running.push(this.#churn());
  }

  get records(): readonly WatchStreamRecord[] {
    return this.#streams;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  #pick(): Endpoint {
    const endpoints = this.endpoints();
    return endpoints[this.rng.below(endpoints.length)]!;
  }

  #draw(resumeAt: number | undefined) {
    const { rng, recorder } = this;
    const [key, rangeEnd] = prefixes[rng.below(prefixes.length)]!;
    const starts = [
      0,
      Math.max(2, recorder.revision - rng.below(200)),
      recorder.revision + 1 + rng.below(100),
    ];
    return create(WatchCreateRequestSchema, {
      key: utf8(key),
      rangeEnd: utf8(rangeEnd),
      startRevision: BigInt(resumeAt ?? starts[rng.below(3)]!),
      prevKv: rng.below(2) === 0,
      progressNotify: rng.below(2) === 0,
      filters: [[], [], [], [Filter.NOPUT], [Filter.NODELETE]][rng.below(5)]!,
    });
  }

  async #run(client: number): Promise<void> {
    let resumeAt: number | undefined;
    while (!this.#stopped && !this.settling) {
      const endpoint = this.#pick();
      const connection = new GrpcClient(endpoint.url);
      const record: OpenStream = { client, member: endpoint.member, messages: [], live: true };
      this.#streams.push(record);
      const stream = connection.stream(Watch.method.watch);
      for (let watchers = 1 + this.rng.below(4); watchers > 0; watchers--) {
        const request = this.#draw(resumeAt);
        record.messages.push({ kind: "asked", request, at: performance.now() });
        stream.send({ requestUnion: { case: "createRequest", value: request } });
      }
      let nextProgressAt = performance.now() + 500;
      // Now and then a client gives up a good stream, as one that moves to another member does.
      const giveUpAt = this.rng.below(2) === 0 ? performance.now() + 2_000 + this.rng.below(4_000) : Infinity;
      while (!this.#stopped && !stream.closed && (this.settling || performance.now() < giveUpAt)) {
        await stream.activity(50);
        for (const response of stream.received.splice(0)) {
          record.messages.push({ kind: "received", response, at: performance.now() });
          resumeAt = Number(response.header?.revision ?? 0n) + 1;
        }
        if (performance.now() > nextProgressAt && !stream.closed) {
          nextProgressAt = performance.now() + 500;
          stream.send({ requestUnion: { case: "progressRequest", value: {} } });
        }
      }
      record.live = !stream.closed && this.settling;
      connection.close();
      await Bun.sleep(20 + this.rng.below(200));
    }
  }

  /** Watchers that come and go at once, which is where events were lost before (etcd #20655). */
  async #churn(): Promise<void> {
    while (!this.#stopped && !this.settling) {
      const endpoint = this.#pick();
      const connection = new GrpcClient(endpoint.url);
      for (let round = 0; round < 20 && !this.settling && !connection.leaving; round++) {
        const record: OpenStream = { client: 1_000, member: endpoint.member, messages: [], live: false };
        this.#streams.push(record);
        const stream = connection.stream(Watch.method.watch);
        const request = this.#draw(undefined);
        record.messages.push({ kind: "asked", request, at: performance.now() });
        stream.send({ requestUnion: { case: "createRequest", value: request } });
        await stream.activity(100);
        await stream.activity(10);
        for (const response of stream.received.splice(0)) {
          record.messages.push({ kind: "received", response, at: performance.now() });
        }
        stream.cancel();
      }
      connection.close();
      await Bun.sleep(100);
    }
  }
}
