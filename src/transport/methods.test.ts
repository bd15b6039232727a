import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { GrpcCode } from "../errors";
import type { RangeRequest, RangeResponse } from "../proto/gen/etcd/rpc_pb";
import { RangeResponseSchema } from "../proto/gen/etcd/rpc_pb";
import { bindMethods, methods, unimplemented } from "./methods";

class Ranges {
  readonly answered = 7n;
  range(_request: RangeRequest): RangeResponse {
    return create(RangeResponseSchema, { count: this.answered });
  }
}

describe("the method table", () => {
  test("names every RPC of etcd's eight services once, with the path of the wire", () => {
    const etcd = methods.filter((method) => !method.labels.grpc_service.startsWith("grpc."));
    // etcd-wire section 2: 48 RPCs at the 3.6 level, and KV.RangeStream from 3.7.
    expect(etcd.length).toBe(49);
    expect(new Set(methods.map((method) => method.path)).size).toBe(methods.length);
    expect(methods.find((method) => method.desc.localName === "hashKV")?.path).toBe(
      "/etcdserverpb.Maintenance/HashKV",
    );
  });

  test("gives every etcd RPC but RangeStream a gateway path, and no path twice", () => {
    const without = methods.filter((method) => method.gatewayPaths.length === 0);
    expect(without.map((method) => method.path).sort()).toEqual([
      "/etcdserverpb.KV/RangeStream",
      "/grpc.health.v1.Health/Check",
      "/grpc.health.v1.Health/List",
      "/grpc.health.v1.Health/Watch",
      "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ]);
    const paths = methods.flatMap((method) => method.gatewayPaths);
    expect(new Set(paths).size).toBe(paths.length);
    expect(paths.every((path) => path.startsWith("/v3/"))).toBe(true);
  });

  test("lets a learner serve status, snapshot and serializable ranges of etcd's calls", () => {
    const served = methods.filter((method) => method.learner !== "refuse");
    expect(served.map((method) => [method.path, method.learner])).toEqual([
      ["/etcdserverpb.KV/Range", "serializable"],
      ["/etcdserverpb.Maintenance/Status", "serve"],
      ["/etcdserverpb.Maintenance/Snapshot", "serve"],
      ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "serve"],
    ]);
  });

  test("needs no login only for logging in, health and reflection", () => {
    const open = methods.filter((method) => method.permission === "open");
    expect(open.map((method) => method.desc.name)).toEqual([
      "Authenticate",
      "Check",
      "List",
      "Watch",
      "ServerReflectionInfo",
    ]);
  });
});

describe("bound methods", () => {
  test("call the handler with its service as this", () => {
    const bound = bindMethods({ kv: new Ranges() });
    const range = bound.get("/etcdserverpb.KV/Range");
    expect(range?.kind).toBe("unary");
    const answer = range?.handle({} as never, {} as never) as unknown as RangeResponse;
    expect(answer.count).toBe(7n);
  });

  test("leave out what has no handler, and say so in the transport's words", () => {
    const bound = bindMethods({ kv: new Ranges() });
    expect([...bound.keys()]).toEqual(["/etcdserverpb.KV/Range"]);
    expect(unimplemented(bound, "/etcdserverpb.KV/Put").message).toBe(
      "unknown method Put for service etcdserverpb.KV",
    );
    expect(unimplemented(bound, "/etcdserverpb.Auth/RoleGet").message).toBe(
      "unknown service etcdserverpb.Auth",
    );
    expect(unimplemented(bound, "nonsense").code).toBe(GrpcCode.unimplemented);
  });
});
