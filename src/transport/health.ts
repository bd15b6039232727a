/** The standard health service grpc.health.v1. */
import { create } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../errors";
import type {
  HealthCheckRequest,
  HealthCheckRequestSchema,
  HealthCheckResponse,
  HealthCheckResponseSchema,
  HealthListResponse,
} from "../proto/gen/grpc/health_pb";
import {
  HealthCheckResponseSchema as checkResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthListResponseSchema as listResponse,
} from "../proto/gen/grpc/health_pb";
import type { Call, ServerStream } from "./call";

/**
 * Answers for the server as a whole, the empty service name. Starts as SERVING; `setServing(false)` while the
 * member drains or cannot serve.
 */
export class HealthService {
  #serving = true;
  readonly #watchers = new Set<() => void>();

  /** Changes what is answered, and tells every watcher. */
  setServing(serving: boolean): void {
    if (serving === this.#serving) return;
    this.#serving = serving;
    for (const wake of this.#watchers) wake();
  }

  check(request: HealthCheckRequest): HealthCheckResponse {
    if (request.service !== "") throw new StoreError(GrpcCode.notFound, "unknown service");
    return this.#answer("");
  }

  list(): HealthListResponse {
    return create(listResponse, { statuses: { "": this.#answer("") } });
  }

  /** Sends the present status at once, and each later change. An unknown service is SERVICE_UNKNOWN for good. */
  async watch(
    stream: ServerStream<typeof HealthCheckRequestSchema, typeof HealthCheckResponseSchema>,
    call: Call,
  ): Promise<void> {
    let service = "";
    for await (const request of stream.requests) service = request.service;
    let wake: (() => void) | undefined;
    const wakeUp = (): void => wake?.();
    this.#watchers.add(wakeUp);
    call.onCancel(wakeUp);
    try {
      let last: ServingStatus | undefined;
      while (!call.canceled) {
        const answer = this.#answer(service);
        if (answer.status !== last) {
          last = answer.status;
          if (!stream.send(answer)) await stream.drained();
          continue;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      this.#watchers.delete(wakeUp);
    }
  }

  #answer(service: string): HealthCheckResponse {
    if (service !== "") return create(checkResponse, { status: ServingStatus.SERVICE_UNKNOWN });
    return create(checkResponse, {
      status: this.#serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING,
    });
  }
}
