/**
 * The list of all changes, as every member tells it: one watch of everything on each, straight to the member and not
 * through the network of the faults, taken up again wherever it broke. Members must tell the same.
 */
import { toBinaryString } from "../../src/bytes";
import { toBinary } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import { Watch, type WatchResponse } from "../../src/proto/gen/etcd/rpc_pb";
import type { Change, RevisionChanges } from "../../src/state/types";
import type { Sighting } from "../check/leases";
import { GrpcClient } from "../tools/grpc-client";
import type { Endpoint } from "./recorder";

const everything = Buffer.from("\0");

export class Auditor {
  readonly #log = new Map<number, RevisionChanges>();
  readonly #told = new Map<string, number>();
  readonly #stopping = new AbortController();
  readonly #following: Promise<void>[] = [];
  readonly problems: string[] = [];
  readonly sightings: Sighting[] = [];
  /** Every revision up to this one is known. */
  through = 1;

  /** Follows one more member until the end of the run. */
  follow(endpoint: Endpoint): void {
    this.#following.push(this.#follow(endpoint));
  }

  /** The newest revision that a member has told of. */
  told(member: string): number {
    return this.#told.get(member) ?? 1;
  }

  get log(): RevisionChanges[] {
    const log: RevisionChanges[] = [];
    for (let revision = 2; revision <= this.through; revision++) log.push(this.#log.get(revision)!);
    return log;
  }

  async #follow(endpoint: Endpoint): Promise<void> {
    let from = 2;
    while (!this.#stopping.signal.aborted) {
      const client = new GrpcClient(endpoint.url);
      const stream = client.stream(Watch.method.watch);
      try {
        const value = { key: everything, rangeEnd: everything, startRevision: BigInt(from) };
        stream.send({ requestUnion: { case: "createRequest", value } });
        while (!this.#stopping.signal.aborted && !stream.closed) {
          const message = stream.received.shift();
          if (message === undefined) {
            await stream.activity(100);
            continue;
          }
          if (message.canceled && message.compactRevision > 0n) from = Number(message.compactRevision);
          if (message.canceled) break;
          from = Math.max(from, this.#take(endpoint.member, message) + 1);
        }
      } finally {
        client.close();
      }
      await Bun.sleep(100);
    }
  }

  /** Takes in one response; the newest revision in it. */
  #take(member: string, { events }: WatchResponse): number {
    const revisions = new Map<number, Change[]>();
    for (const { type, kv } of events) {
      if (kv === undefined) continue;
      const revision = Number(kv.modRevision);
      const changes = revisions.get(revision) ?? [];
      revisions.set(revision, changes);
      changes.push({
        type: type === 0 ? "put" : "delete",
        key: toBinaryString(kv.key),
        revision,
        sub: changes.length,
        created: type === 0 && kv.version === 1n,
        record: toBinary(KeyValueSchema, kv),
      });
    }
    let newest = 0;
    const at = performance.now();
    for (const [revision, changes] of revisions) {
      newest = Math.max(newest, revision);
      const known = this.#log.get(revision);
      if (known === undefined) {
        this.#log.set(revision, { revision, changes });
        this.sightings.push({ revision, at });
      } else if (!same(known.changes, changes)) {
        this.problems.push(
          `${member} says of revision ${revision}: ${text(changes)}; others say: ${text(known.changes)}`,
        );
      }
    }
    while (this.#log.has(this.through + 1)) this.through++;
    if (newest > this.told(member)) this.#told.set(member, newest);
    return newest;
  }

  /** Waits until everything up to a revision is known, and each of these members has told of it. */
  async reach(revision: number, members: readonly string[], timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const behind = members.filter((member) => this.told(member) < revision);
      if (this.through >= revision && behind.length === 0) return;
      if (performance.now() > deadline) {
        throw new Error(
          `after ${timeoutMs} ms the watches of everything are at ${this.through} of ${revision}` +
            (behind.length > 0
              ? `; behind: ${behind.map((name) => `${name} at ${this.told(name)}`).join(", ")}`
              : ""),
        );
      }
      await Bun.sleep(20);
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#following);
  }
}

function same(one: readonly Change[], other: readonly Change[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ record }, index) => Buffer.compare(record, other[index]!.record) === 0)
  );
}

const text = (changes: readonly Change[]): string =>
  changes.map(({ type, key }) => `${type} ${key}`).join(", ") || "nothing";
