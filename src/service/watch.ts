/** The Watch service: drives one hub stream for each stream of a client (etcd-wire 8.5). */
import { GrpcCode, refuse } from "../errors";
import type { WatchRequest, WatchRequestSchema, WatchResponseSchema } from "../proto/gen/etcd/rpc_pb";
import type { Call, ServerStream } from "../transport/call";
import type { WatchStream } from "../watch/hub";
import type { WatchBackend } from "./backend";

/** The names of codes as Go's gRPC prints them inside an error's text. */
const codeNames: ReadonlyMap<GrpcCode, string> = new Map([
  [GrpcCode.permissionDenied, "PermissionDenied"],
  [GrpcCode.unauthenticated, "Unauthenticated"],
  [GrpcCode.invalidArgument, "InvalidArgument"],
]);

type ClientStream = ServerStream<typeof WatchRequestSchema, typeof WatchResponseSchema>;

export class WatchService {
  readonly #backend: WatchBackend;

  constructor(backend: WatchBackend) {
    this.#backend = backend;
  }

  /**
   * Serves one stream until the client cancels, its connection breaks, or the member stops. A half-closed stream
   * goes on receiving events, as with etcd.
   */
  async watch(stream: ClientStream, call: Call): Promise<void> {
    const backend = this.#backend;
    const watching: WatchStream = backend.hub.openStream(
      {
        send(message) {
          if (stream.send(message)) return true;
          void stream.drained().then(() => watching.drained());
          return false;
        },
      },
      backend.monotonicMs(),
    );
    let removeStop = () => {};
    try {
      await new Promise<void>((_resolve, reject) => {
        call.onCancel(() => reject(refuse(backend.stopping ? "stopped" : "watchCanceled")));
        removeStop = backend.onStop(() => reject(refuse("stopped")));
        this.#read(stream, watching, call).catch(reject);
      });
    } finally {
      removeStop();
      watching.close();
    }
  }

  async #read(stream: ClientStream, watching: WatchStream, call: Call): Promise<void> {
    for await (const request of stream.requests) {
      if (watching.closed) return;
      this.#handle(request, watching, call);
      // Answers to a client that does not read them must not pile up.
      while (watching.paused && !watching.closed) await stream.drained();
    }
  }

  #handle({ requestUnion }: WatchRequest, watching: WatchStream, call: Call): void {
    switch (requestUnion.case) {
      case "createRequest": {
        const request = requestUnion.value;
        const refusal = request.startRevision < 0n ? undefined : this.#backend.refusal?.(request, call);
        if (refusal === undefined) return watching.create(request);
        const code = codeNames.get(refusal.code) ?? "Unknown";
        return watching.reject(`rpc error: code = ${code} desc = ${refusal.message}`);
      }
      case "cancelRequest":
        return watching.cancel(requestUnion.value.watchId);
      case "progressRequest":
        return watching.requestProgress();
      default:
        // A request of a later version: ignored, like etcd does.
        return;
    }
  }
}
