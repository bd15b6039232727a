/** What a probe of the wire contract is, and what it works with. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  KV,
  Watch,
  type RequestOpSchema,
  type WatchCreateRequestSchema,
  type WatchResponse,
} from "../../src/proto/gen/etcd/rpc_pb";
import { type GrpcClient, type StreamCall } from "../tools/grpc-client";
import type { Server } from "../tools/server";

export interface Probe {
  /** As in the contract. */
  readonly number: number;
  readonly title: string;
  run(probe: Context): Promise<void>;
}

export const utf8 = (text: string): Uint8Array => Buffer.from(text);
export type Op = MessageInitShape<typeof RequestOpSchema>;
type WatchCall = StreamCall<typeof Watch.method.watch.input, typeof Watch.method.watch.output>;

/** What a probe works with: one server, and keys under a prefix of its own. */
export class Context {
  constructor(
    readonly server: Server,
    readonly client: GrpcClient,
    readonly prefix: string,
  ) {}

  key(name: string): Uint8Array {
    return utf8(`${this.prefix}/${name}`);
  }

  get all(): { key: Uint8Array; rangeEnd: Uint8Array } {
    return { key: utf8(`${this.prefix}/`), rangeEnd: utf8(`${this.prefix}0`) };
  }

  async put(name: string, value = "v", lease = 0n): Promise<bigint> {
    const answer = await this.client.call(KV.method.put, { key: this.key(name), value: utf8(value), lease });
    return answer.header?.revision ?? 0n;
  }

  async revision(): Promise<bigint> {
    const answer = await this.client.call(KV.method.range, { key: utf8("\0"), countOnly: true });
    return answer.header?.revision ?? 0n;
  }

  putOp(name: string, value = "v"): Op {
    return { request: { case: "requestPut", value: { key: this.key(name), value: utf8(value) } } };
  }

  rangeOp(name: string): Op {
    return { request: { case: "requestRange", value: { key: this.key(name) } } };
  }

  watch(): WatchCall {
    return this.client.stream(Watch.method.watch);
  }

  create(
    call: WatchCall,
    request: MessageInitShape<typeof WatchCreateRequestSchema> = {},
  ): Promise<WatchResponse> {
    call.send({ requestUnion: { case: "createRequest", value: { ...this.all, ...request } } });
    return call.next();
  }

  async post(
    path: string,
    body: unknown,
    verb = "POST",
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const answer = await fetch(this.server.url + path, {
      method: verb,
      ...(verb === "POST" ? { body: JSON.stringify(body) } : {}),
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  }
}

export const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
