/** The Watch service: drives one hub stream for each stream of a client. */
import type { WatchRequestSchema, WatchResponseSchema } from "../proto/gen/etcd/rpc_pb";
import type { StreamHandler } from "../transport/call";
import type { WatchBackend } from "./backend";

export class WatchService {
  constructor(readonly backend: WatchBackend) {}
  readonly watch: StreamHandler<typeof WatchRequestSchema, typeof WatchResponseSchema> = async () => {
    throw new Error("not yet");
  };
}
