/** The Lock service: a program over KV, leases and watches (etcd-wire section 9). */
import type {
  LockRequestSchema,
  LockResponseSchema,
  UnlockRequestSchema,
  UnlockResponseSchema,
} from "../proto/gen/etcd/lock_pb";
import type { UnaryHandler } from "../transport/call";
import type { KvBackend, WatchBackend } from "./backend";

export class LockService {
  constructor(
    readonly kv: KvBackend,
    readonly watch: WatchBackend,
  ) {}
  readonly lock: UnaryHandler<typeof LockRequestSchema, typeof LockResponseSchema> = async () => {
    throw new Error("not yet");
  };
  readonly unlock: UnaryHandler<typeof UnlockRequestSchema, typeof UnlockResponseSchema> = async () => {
    throw new Error("not yet");
  };
}
