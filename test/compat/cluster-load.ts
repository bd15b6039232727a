/** Writers, readers and a watcher on a cluster that changes under them, and what they may conclude in the end. */
import { KV, Watch } from "../../src/proto/gen/etcd/rpc_pb";
import type { Cluster } from "../tools/cluster";
import { ClusterClient } from "../tools/cluster-client";
import { GrpcClient, type StreamCall } from "../tools/grpc-client";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const rangeEnd = encoder.encode("x0");

interface Acknowledged {
  readonly key: string;
  readonly value: string;
  readonly revision: bigint;
}

type WatchCall = StreamCall<(typeof Watch.method.watch)["input"], (typeof Watch.method.watch)["output"]>;

export class ClusterLoad {
  readonly acknowledged: Acknowledged[] = [];
  /** Texts of what clients were told that etcd's client would not have hidden from them. */
  readonly errors: string[] = [];
  /** Puts of unknown outcome, by value. */
  readonly unknown = new Set<string>();
  reads = 0;
  retries = 0;
  readonly #cluster: Cluster;
  #stop = false;
  #work: Promise<unknown>[] = [];

  constructor(cluster: Cluster, writers = 8, readers = 2) {
    this.#cluster = cluster;
    for (let number = 0; number < writers; number++) this.#work.push(this.#write(number));
    for (let number = 0; number < readers; number++) this.#work.push(this.#read(number));
  }

  readonly #endpoints = () => this.#cluster.running.map(({ clientUrl }) => clientUrl);

  async #write(writer: number): Promise<void> {
    const client = new ClusterClient(this.#endpoints, writer);
    for (let count = 1; !this.#stop; count++) {
      const key = `x/${writer}`;
      const value = `${writer}.${count}`;
      const reply = await client.unary("write", KV.method.put, {
        key: encoder.encode(key),
        value: encoder.encode(value),
      });
      if (reply.ok) this.acknowledged.push({ key, value, revision: reply.message.header!.revision });
      else {
        this.unknown.add(value);
        this.errors.push(`put: ${reply.code} ${reply.text}`);
      }
      await Bun.sleep(2);
    }
    this.retries += client.retries;
    client.close();
  }

  /** Linearizable reads never go back, whichever member answers. */
  async #read(reader: number): Promise<void> {
    const client = new ClusterClient(this.#endpoints, reader + 1);
    let seen = 0n;
    while (!this.#stop) {
      const acknowledged = this.acknowledged.at(-1)?.revision ?? 0n;
      const reply = await client.unary("read", KV.method.range, { key: encoder.encode("x/"), rangeEnd });
      if (reply.ok) {
        const { revision } = reply.message.header!;
        if (revision < seen || revision < acknowledged) {
          this.errors.push(`a stale read: revision ${revision} after ${seen} and ${acknowledged}`);
        }
        seen = revision;
        this.reads++;
      } else this.errors.push(`range: ${reply.code} ${reply.text}`);
      await Bun.sleep(5);
    }
    this.retries += client.retries;
    client.close();
  }

  /** Ends the load; waits for what is under way. */
  async stop(): Promise<void> {
    this.#stop = true;
    await Promise.all(this.#work);
  }

  /** What is wrong with the history that a watch from revision 1 shows on `url`; nothing, if all is well. */
  async check(url: string): Promise<string[]> {
    const wrong: string[] = [];
    const client = new GrpcClient(url);
    const { header } = await client.call(KV.method.range, { key: encoder.encode("x/"), rangeEnd });
    const watch: WatchCall = client.stream(Watch.method.watch);
    watch.send({
      requestUnion: {
        case: "createRequest",
        value: { key: new Uint8Array(1), rangeEnd: new Uint8Array(1), startRevision: 1n },
      },
    });
    const byRevision = new Map<bigint, string>();
    const values = new Set<string>();
    let last = 1n;
    while (last < header!.revision) {
      const { events } = await watch.next();
      for (const { kv } of events) {
        const value = decoder.decode(kv!.value);
        if (kv!.modRevision !== last + 1n) wrong.push(`revision ${kv!.modRevision} follows ${last}`);
        if (values.has(value)) wrong.push(`${value} was written twice`);
        values.add(value);
        byRevision.set(kv!.modRevision, value);
        last = kv!.modRevision;
      }
    }
    client.close();
    for (const { value, revision } of this.acknowledged) {
      if (byRevision.get(revision) !== value) {
        wrong.push(
          `${value} was acknowledged at ${revision}, where there is ${String(byRevision.get(revision))}`,
        );
      }
    }
    const known = new Set([...this.acknowledged.map(({ value }) => value), ...this.unknown]);
    for (const value of values) if (!known.has(value)) wrong.push(`${value} was never written`);
    return wrong;
  }
}

/** A watch that follows a cluster from member to member as etcd's client does: from the revision after the last. */
export class FollowingWatch {
  readonly wrong: string[] = [];
  events = 0;
  #last = 1n;
  #stop = false;
  readonly #done: Promise<void>;

  constructor(cluster: Cluster) {
    this.#done = this.#follow(cluster);
  }

  get revision(): bigint {
    return this.#last;
  }

  async #follow(cluster: Cluster): Promise<void> {
    for (let attempt = 0; !this.#stop; attempt++) {
      const urls = cluster.running.map(({ clientUrl }) => clientUrl);
      const client = new GrpcClient(urls[attempt % urls.length]!);
      try {
        const watch: WatchCall = client.stream(Watch.method.watch);
        watch.send({
          requestUnion: {
            case: "createRequest",
            value: {
              key: new Uint8Array(1),
              rangeEnd: new Uint8Array(1),
              startRevision: this.#last + 1n,
              progressNotify: true,
            },
          },
        });
        while (!this.#stop && !client.leaving) {
          const message = watch.received.shift();
          if (message === undefined) {
            if (watch.closed) break;
            await watch.activity(200);
            continue;
          }
          for (const { kv } of message.events) {
            if (kv!.modRevision !== this.#last + 1n) {
              this.wrong.push(`revision ${kv!.modRevision} follows ${this.#last}`);
            }
            this.#last = kv!.modRevision;
            this.events++;
          }
        }
      } catch {
        // The member went away; the next one goes on.
      }
      client.close();
      await Bun.sleep(20);
    }
  }

  async stop(): Promise<void> {
    this.#stop = true;
    await this.#done;
  }
}
