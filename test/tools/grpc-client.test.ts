import { expect, test } from "bun:test";
import { once } from "node:events";
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { Watch } from "../../src/proto/gen/etcd/rpc_pb";
import { ConnectionLost, GrpcClient } from "./grpc-client";

test("a server that goes away takes nothing new, although its old streams still run", async () => {
  const server = createServer();
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = new GrpcClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  try {
    const old = client.stream(Watch.method.watch);
    await once(old.http2Stream, "response");
    expect(client.leaving).toBe(false);

    sessions[0]!.goaway(0, 1);
    await once(client.session, "goaway");
    expect(client.leaving).toBe(true);
    expect(old.closed).toBe(false);
    for (const attempt of [
      async () => client.stream(Watch.method.watch),
      async () => client.raw("/etcdserverpb.KV/Put", new Uint8Array(5)),
    ]) {
      const refusal: unknown = await attempt().then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(refusal).toBeInstanceOf(ConnectionLost);
      expect((refusal as ConnectionLost).sent).toBe(false);
    }
  } finally {
    client.close();
    sessions[0]?.destroy();
    server.close();
  }
});
