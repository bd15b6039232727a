/** The client's side of streams: one renewal of a lease, and watch streams with readers of any speed. */
import { create } from "@bufbuild/protobuf";
import {
  LeaseKeepAliveRequestSchema,
  type WatchRequest,
  type WatchRequestSchema,
  type WatchResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { LeaseService } from "../../src/service/lease";
import type { WatchService } from "../../src/service/watch";
import { type Answer, type Call, EncodedMessage } from "../../src/transport/call";
import { fieldsOf } from "./replies";

/** Renews a lease once; resolves with its TTL in seconds, 0 when it is gone. */
export async function renewOnce(service: LeaseService, id: bigint, call: Call): Promise<number> {
  let ttlSeconds: number | undefined;
  await service.leaseKeepAlive(
    {
      requests: (async function* () {
        yield create(LeaseKeepAliveRequestSchema, { ID: id });
      })(),
      send(message) {
        ttlSeconds = message instanceof EncodedMessage ? fieldsOf(message).number(3) : Number(message.TTL);
        return true;
      },
      drained: () => Promise.resolve(),
    },
    call,
  );
  if (ttlSeconds === undefined) throw new Error("a renewal ended without an answer");
  return ttlSeconds;
}

/** One watch stream; ends when it is closed here or by the member. */
export class WatchClient {
  readonly #waiting: WatchRequest[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #cancelled: (() => void) | undefined;
  #room: number;
  #drained: PromiseWithResolvers<void> | undefined;
  readonly #capacity: number;

  /**
   * `received` gets each message; `full` is told when the reader falls behind, and calls {@link makeRoom} later.
   * `ended` is called once, when the member ends the stream.
   */
  constructor(
    service: WatchService,
    options: {
      readonly capacity: number;
      readonly received: (message: EncodedMessage) => void;
      readonly full: () => void;
      readonly ended: (error: unknown) => void;
    },
  ) {
    this.#capacity = options.capacity;
    this.#room = options.capacity;
    const call: Call = {
      method: {} as Call["method"],
      door: "internal",
      metadata: () => undefined,
      deadlineAtMs: undefined,
      canceled: false,
      onCancel: (listener) => {
        this.#cancelled = listener;
      },
    };
    service
      .watch(
        {
          requests: this.#requests(),
          send: (message: Answer<typeof WatchResponseSchema>) => {
            if (!(message instanceof EncodedMessage)) throw new Error("watch answers are encoded by the hub");
            if (!this.#ended) options.received(message);
            if (--this.#room > 0) return true;
            if (this.#drained === undefined) {
              this.#drained = Promise.withResolvers<void>();
              options.full();
            }
            return false;
          },
          drained: () => this.#drained?.promise ?? Promise.resolve(),
        } satisfies Parameters<typeof service.watch>[0],
        call,
      )
      .catch((error: unknown) => {
        if (this.#ended) return;
        this.#ended = true;
        options.ended(error);
      });
  }

  async *#requests(): AsyncGenerator<WatchRequest, void, typeof WatchRequestSchema> {
    while (!this.#ended) {
      const next = this.#waiting.shift();
      if (next !== undefined) yield next;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  get ended(): boolean {
    return this.#ended;
  }

  ask(request: WatchRequest): void {
    this.#waiting.push(request);
    this.#wake?.();
  }

  makeRoom(): void {
    this.#room = this.#capacity;
    const drained = this.#drained;
    this.#drained = undefined;
    drained?.resolve();
  }

  /** The client goes away. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#wake?.();
    this.#cancelled?.();
  }
}
