/** Load of lease keep-alives: each client keeps one lease alive over its own stream. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import {
  LeaseGrantRequestSchema,
  LeaseGrantResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  LeaseRevokeRequestSchema,
  LeaseRevokeResponseSchema,
} from "../../proto/gen/etcd/rpc_pb";
import { callOnce } from "./client";
import type { CallHandler, Connection, Stream } from "./http2/connection";
import type { Measurement, Pace } from "./measurement";
import { methodPaths } from "./requests";

export interface LeaseLoad {
  readonly connections: readonly Connection[];
  readonly clients: number;
  readonly inFlight: number;
  readonly ttlSeconds: number;
  readonly pace: () => Pace;
  readonly measurement: Measurement;
}

const notFoundCode = 5;

class Keeper implements CallHandler {
  #stream: Stream | undefined;
  readonly #request: Uint8Array;
  /** When each open keep-alive was due, oldest first; answers come in order. */
  readonly #open: number[] = [];
  #running = 0;
  #pace: Pace | undefined;
  #done: (() => void) | undefined;
  #over = false;

  constructor(
    private readonly load: LeaseLoad,
    readonly connection: Connection,
    readonly leaseId: bigint,
  ) {
    this.#request = toBinary(
      LeaseKeepAliveRequestSchema,
      create(LeaseKeepAliveRequestSchema, { ID: leaseId }),
    );
  }

  async open(): Promise<void> {
    this.#stream = await this.connection.openStream(methodPaths.leaseKeepAlive, this);
  }

  run(pace: Pace): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pace = pace;
    this.#done = resolve;
    this.#running = this.load.inFlight;
    for (let i = 0; i < this.load.inFlight; i++) this.#next();
    return promise;
  }

  #next(): void {
    const nowMs = performance.now();
    const dueAtMs = this.#over ? undefined : this.#pace!.next(nowMs);
    if (dueAtMs === undefined) {
      if (--this.#running === 0) this.#done!();
    } else if (dueAtMs > nowMs)
      setTimeout(() => this.#send(Math.min(dueAtMs, performance.now())), dueAtMs - nowMs);
    else this.#send(dueAtMs);
  }

  #send(dueAtMs: number): void {
    this.#open.push(dueAtMs);
    this.#stream!.send(this.#request);
  }

  message(bytes: Uint8Array): void {
    const answer = fromBinary(LeaseKeepAliveResponseSchema, bytes);
    const dueAtMs = this.#open.shift();
    if (dueAtMs === undefined) return;
    if (answer.ID !== this.leaseId || answer.TTL <= 0n) {
      this.load.measurement.failure(notFoundCode, "the lease was not kept alive");
    } else this.load.measurement.success(performance.now() - dueAtMs);
    this.#next();
  }

  end(code: number, text: string): void {
    this.#over = true;
    for (const _ of this.#open.splice(0)) {
      this.load.measurement.failure(code, text);
      this.#next();
    }
  }

  close(): void {
    this.#stream?.finish();
  }
}

/** Grants the leases, keeps them alive until the pace ends, and revokes them. */
export async function runLeaseLoad(load: LeaseLoad): Promise<void> {
  const keepers = await Promise.all(
    Array.from({ length: load.clients }, async (_, client) => {
      const connection = load.connections[client % load.connections.length]!;
      const { ID } = await callOnce(
        connection,
        methodPaths.leaseGrant,
        LeaseGrantRequestSchema,
        create(LeaseGrantRequestSchema, { TTL: BigInt(load.ttlSeconds) }),
        LeaseGrantResponseSchema,
      );
      const keeper = new Keeper(load, connection, ID);
      await keeper.open();
      return keeper;
    }),
  );
  try {
    const pace = load.pace();
    await Promise.all(keepers.map((keeper) => keeper.run(pace)));
    pace.end();
  } finally {
    await Promise.allSettled(
      keepers.map((keeper) => {
        keeper.close();
        return callOnce(
          keeper.connection,
          methodPaths.leaseRevoke,
          LeaseRevokeRequestSchema,
          create(LeaseRevokeRequestSchema, { ID: keeper.leaseId }),
          LeaseRevokeResponseSchema,
        );
      }),
    );
  }
}
