/** The Election service: a program over KV, leases and watches (etcd-wire section 9). */
import type {
  CampaignRequestSchema,
  CampaignResponseSchema,
  LeaderRequestSchema,
  LeaderResponseSchema,
  ProclaimRequestSchema,
  ProclaimResponseSchema,
  ResignRequestSchema,
  ResignResponseSchema,
} from "../proto/gen/etcd/election_pb";
import type { StreamHandler, UnaryHandler } from "../transport/call";
import type { KvBackend, WatchBackend } from "./backend";

export class ElectionService {
  constructor(
    readonly kv: KvBackend,
    readonly watch: WatchBackend,
  ) {}
  readonly campaign: UnaryHandler<typeof CampaignRequestSchema, typeof CampaignResponseSchema> = async () => {
    throw new Error("not yet");
  };
  readonly proclaim: UnaryHandler<typeof ProclaimRequestSchema, typeof ProclaimResponseSchema> = async () => {
    throw new Error("not yet");
  };
  readonly leader: UnaryHandler<typeof LeaderRequestSchema, typeof LeaderResponseSchema> = async () => {
    throw new Error("not yet");
  };
  readonly observe: StreamHandler<typeof LeaderRequestSchema, typeof LeaderResponseSchema> = async () => {
    throw new Error("not yet");
  };
  readonly resign: UnaryHandler<typeof ResignRequestSchema, typeof ResignResponseSchema> = async () => {
    throw new Error("not yet");
  };
}
