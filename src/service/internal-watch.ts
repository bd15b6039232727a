/** Watches that the services themselves hold, for as long as a caller waits. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { concatBytes } from "../bytes";
import type { StoreError } from "../errors";
import { refuse } from "../errors";
import type { WatchResponse } from "../proto/gen/etcd/rpc_pb";
import {
  WatchCreateRequest_FilterType as Filter,
  WatchCreateRequestSchema,
  WatchResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { Call } from "../transport/call";
import type { WatchStream } from "../watch/hub";
import type { WatchBackend } from "./backend";

/** Responses that may wait for {@link InternalWatch.next}; the hub keeps the rest in history. */
const waitingMax = 16;

/** How long a call may wait: until its caller is gone or the member stops. Registers with both once. */
export class Lifeline {
  #ended: StoreError | undefined;
  readonly #listeners = new Set<(why: StoreError) => void>();
  readonly #removeStop: () => void;

  constructor(call: Call, backend: WatchBackend) {
    this.#removeStop = backend.onStop(() => this.#end(refuse("stopped")));
    call.onCancel(() => this.#end(refuse(backend.stopping ? "stopped" : "canceled")));
  }

  /** Why waiting is over, if it is. */
  get ended(): StoreError | undefined {
    return this.#ended;
  }

  /** Throws when waiting is over. */
  check(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  /** Tells the listener of the end; the answer removes it. */
  onEnd(listener: (why: StoreError) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The call is answered. */
  release(): void {
    this.#removeStop();
    this.#listeners.clear();
  }

  #end(why: StoreError): void {
    if (this.#ended !== undefined) return;
    this.#ended = why;
    for (const listener of this.#listeners) listener(why);
  }
}

/** One hub stream, read response by response. */
export class InternalWatch {
  readonly #stream: WatchStream;
  readonly #lifeline: Lifeline;
  readonly #removeEnd: () => void;
  readonly #waiting: WatchResponse[] = [];
  #wake: (() => void) | undefined;

  constructor(backend: WatchBackend, lifeline: Lifeline) {
    this.#lifeline = lifeline;
    this.#stream = backend.hub.openStream(
      {
        send: (message) => {
          this.#waiting.push(fromBinary(WatchResponseSchema, concatBytes(message.chunks)));
          this.#wake?.();
          return this.#waiting.length < waitingMax;
        },
      },
      backend.monotonicMs(),
    );
    this.#removeEnd = lifeline.onEnd(() => this.#wake?.());
  }

  /** Watches a key, or a range, from a revision on; its answers carry this id. */
  watch(
    watchId: bigint,
    range: { readonly key: Uint8Array; readonly rangeEnd?: Uint8Array },
    startRevision: bigint,
    only?: "puts" | "deletes",
  ): void {
    const filters = only === "puts" ? [Filter.NODELETE] : only === "deletes" ? [Filter.NOPUT] : [];
    this.#stream.create(create(WatchCreateRequestSchema, { ...range, watchId, startRevision, filters }));
  }

  /** The next response that is more than a plain created answer. Throws when the lifeline ends. */
  async next(): Promise<WatchResponse> {
    for (;;) {
      this.#lifeline.check();
      const response = this.#waiting.shift();
      if (response === undefined) {
        if (this.#stream.paused) this.#stream.drained();
        else await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      if (!response.created || response.canceled) return response;
    }
  }

  close(): void {
    this.#removeEnd();
    this.#stream.close();
  }
}
