/** The JSON gateway: /v3/* over HTTP/1.1, mapped onto the method table. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "../../log";
import type { GrpcObserver, MemberView } from "../grpc/options";
import type { BoundMethods } from "../methods";

export interface GatewayOptions {
  readonly methods: BoundMethods;
  readonly log: Logger;
  /** Absent: a leader is always known and the member is a voter. */
  readonly member?: MemberView;
  /** The interval at which streams with `hasleader` look for a leader. Default 1000. */
  readonly electionTimeoutMs?: number;
  /** etcd's --max-request-bytes, of the encoded message. Default 1.5 MiB. */
  readonly requestBytesMax?: number;
  readonly observer?: GrpcObserver;
  /** A broken invariant escaped from a handler: the process must end. */
  readonly onFatal?: (error: Error) => void;
}

export interface Gateway {
  /** Answers one request whose path (without query) begins with /v3/ or /v3beta/. */
  handle(request: IncomingMessage, response: ServerResponse, path: string): void;
  /** Ends every call: streams as Unavailable. Resolves when none is left. */
  stop(): Promise<void>;
}

export function createGateway(_options: GatewayOptions): Gateway {
  throw new Error("not yet");
}
