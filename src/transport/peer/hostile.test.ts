/** Whoever comes to the peer port without being a member, and whoever a member reaches that is none. */
import { afterEach, describe, expect, test } from "bun:test";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import fc from "fast-check";
import { hexId } from "../../ids";
import { tcp, wireFrames } from "../grpc/testing";
import { frameType, preface, writeFrameHeader } from "../http2/protocol";
import { ByteWriter } from "./bytes";
import { encodeMessage } from "./codec";
import { connectionsMax } from "./limits";
import { clusterId, TestMember, type TestMemberOptions, until } from "./testing";

const members: TestMember[] = [];
const servers: Server[] = [];
const sockets: Socket[] = [];
const sessions: ClientHttp2Session[] = [];

afterEach(async () => {
  for (const session of sessions.splice(0)) session.destroy();
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(members.splice(0).map((member) => member.transport.close()));
  for (const server of servers.splice(0)) server.close();
});

const pages = {
  clusterId,
  members: () => [
    { id: 2n ** 63n, peerUrls: ["http://a:1"], name: "a", clientUrls: ["http://a:2"], isLearner: false },
    { id: 3n, peerUrls: ["http://b:1", "http://b:3"], name: "", clientUrls: [], isLearner: true },
  ],
  versions: () => ({ etcdserver: "3.6.16", etcdcluster: "3.6.0", storage: "3.6.0" }),
  clientUrls: () => ["http://127.0.0.1:2379"],
};

/** A member 2 that knows a member 1, which is not there. */
async function alone(options: TestMemberOptions = {}): Promise<TestMember> {
  const member = await TestMember.open(2n, { pages, ...options });
  members.push(member);
  member.start({ id: 1n, peerUrls: ["https://nowhere:1"] });
  return member;
}

const portOf = (member: TestMember): number => Number(new URL(member.url).port);

async function raw(member: TestMember): Promise<{ socket: Socket; text: () => string; bytes: () => Buffer }> {
  const socket = await tcp(portOf(member));
  sockets.push(socket);
  let got: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => (got = Buffer.concat([got, chunk])));
  return { socket, text: () => got.toString("latin1"), bytes: () => got };
}

const hello = {
  "keelson-protocol": "1-1",
  "keelson-version": "0.1.0",
  "keelson-cluster": hexId(clusterId),
  "keelson-from": "1",
  "keelson-to": "2",
  "keelson-incarnation": "7",
};

interface Answer {
  status: number;
  body: string;
  closed: boolean;
  write(bytes: Uint8Array): void;
}

/** Asks over HTTP/2 by another implementation, and answers when the headers came. */
async function ask(
  member: TestMember,
  headers: Readonly<Record<string, string>>,
  session = connectHttp2(member.url),
): Promise<Answer> {
  sessions.push(session);
  if (session.listenerCount("error") === 0) session.on("error", () => {});
  const stream = session.request({ [constants.HTTP2_HEADER_METHOD]: "POST", ...headers });
  const answer: Answer = { status: 0, body: "", closed: false, write: (bytes) => void stream.write(bytes) };
  stream.on("response", (fields) => (answer.status = Number(fields[":status"])));
  stream.on("data", (chunk: Buffer) => (answer.body += chunk.toString("utf8")));
  stream.on("error", () => {});
  stream.on("close", () => (answer.closed = true));
  await until("an answer", () => answer.status !== 0 || answer.closed);
  if (answer.status !== 200) await until("the whole answer", () => answer.body !== "" || answer.closed);
  return answer;
}

const urgent = { ":path": "/keelson/peer/messages/urgent", ...hello };

function messages(...rounds: number[]): Buffer {
  const writer = new ByteWriter();
  for (const readRound of rounds) {
    encodeMessage(writer, { kind: "heartbeat", from: 1n, to: 2n, term: 1, commit: 0, readRound });
  }
  return Buffer.from(writer.bytes.subarray(0, writer.end));
}

describe("the peer port", () => {
  test("answers pages as etcd does", async () => {
    const member = await alone();
    const list = await fetch(`${member.url}/members`);
    expect(await list.text()).toBe(
      '[{"id":9223372036854775808,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]},' +
        '{"id":3,"peerURLs":["http://b:1","http://b:3"],"isLearner":true}]\n',
    );
    expect(list.headers.get("content-type")).toBe("application/json");
    expect(list.headers.get("x-etcd-cluster-id")).toBe("ec7835e433d9e2c0");
    const version = await fetch(`${member.url}/version`);
    expect(await version.text()).toBe('{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}');
    for (const path of ["/health", "/", "/metrics", "/members/", "/keelson/peer/file"]) {
      const answer = await fetch(`${member.url}${path}`);
      expect([path, answer.status, await answer.text()]).toEqual([path, 404, "404 page not found\n"]);
    }
    const post = await fetch(`${member.url}/members`, { method: "POST", body: "x" });
    expect([post.status, post.headers.get("allow"), await post.text()]).toEqual([
      405,
      "GET",
      "Method Not Allowed\n",
    ]);
    const http2 = await ask(member, { ":method": "GET", ":path": "/version" });
    expect([http2.status, http2.body]).toEqual([
      200,
      '{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}',
    ]);
  });

  test("has no pages before its member has started", async () => {
    const member = await TestMember.open(2n);
    members.push(member);
    expect((await fetch(`${member.url}/members`)).status).toBe(503);
    expect((await ask(member, urgent)).status).toBe(503);
  });

  test("a list of members that is not whole yet is not told", async () => {
    const member = await alone({ pages: { ...pages, members: () => undefined } });
    expect((await fetch(`${member.url}/members`)).status).toBe(503);
    expect((await fetch(`${member.url}/version`)).status).toBe(200);
  });

  test("tells clients that came by mistake where to go", async () => {
    const member = await alone();
    const gateway = await fetch(`${member.url}/v3/kv/range`, { method: "POST", body: "{}" });
    expect(gateway.status).toBe(404);
    expect(await gateway.text()).toContain("clients are served at http://127.0.0.1:2379");
    expect(member.logged("the peer port refused a connection", "JSON client")).toBe(1);
    const etcd = await fetch(`${member.url}/raft/stream/message/1`);
    expect([etcd.status, await etcd.text()]).toEqual([
      404,
      "404 page not found: members of etcd and of Keelson cannot mix\n",
    ]);
    expect(member.logged("the peer port refused a connection", "a member of etcd")).toBe(1);
    const session = connectHttp2(member.url);
    sessions.push(session);
    for (let time = 0; time < 3; time++) {
      const call = session.request({
        ":method": "POST",
        ":path": "/etcdserverpb.KV/Range",
        "content-type": "application/grpc",
        te: "trailers",
      });
      const head = await new Promise<Record<string, unknown>>((resolve) => call.on("response", resolve));
      expect(head["grpc-status"]).toBe("9");
      expect(head["grpc-message"]).toBe(
        "this is the peer port of an etcd-compatible member; clients are served at http://127.0.0.1:2379",
      );
    }
    expect(member.logged("the peer port refused a connection", "gRPC client")).toBe(1);
  });

  test("ends what is neither HTTP/2 nor HTTP/1", async () => {
    const member = await alone();
    for (let time = 0; time < 5; time++) {
      const { socket, text } = await raw(member);
      socket.write("\u0016\u0003\u0001 this is no HTTP\r\n\r\n\r\n");
      await until("the connection ends", () => socket.closed);
      expect(text()).toStartWith("HTTP/1.1 400 ");
    }
    expect(member.logged("the peer port refused a connection", "neither")).toBe(1);
  });

  test("ends connections that do not say who they are", async () => {
    const member = await alone({ helloTimeoutMs: 300, electionTimeoutMs: 500 });
    const silent = await raw(member);
    const begun = await raw(member);
    begun.socket.write(preface, "latin1");
    const settings = Buffer.alloc(9);
    writeFrameHeader(settings, 0, 0, frameType.settings, 0, 0);
    begun.socket.write(settings);
    await until("both are closed", () => silent.socket.closed && begun.socket.closed);
    expect(wireFrames(begun.bytes()).some(({ type }) => type === frameType.goAway)).toBe(true);
    expect(member.logged("the peer port ended a connection", "no introduction")).toBe(1);
  });

  test("refuses introductions that are wrong in any field, each with its reason", async () => {
    const member = await alone();
    const cases: readonly [Readonly<Record<string, string>>, number, string][] = [
      [{ "keelson-protocol": "7-9" }, 412, "incompatible-protocol"],
      [{ "keelson-protocol": "9-7" }, 400, "malformed-hello"],
      [{ "keelson-protocol": "x" }, 400, "malformed-hello"],
      [{ "keelson-cluster": "1" }, 412, "wrong-cluster"],
      [{ "keelson-cluster": "12345678901234567" }, 400, "malformed-hello"],
      [{ "keelson-cluster": "" }, 400, "malformed-hello"],
      [{ "keelson-to": "3" }, 421, "wrong-member"],
      [{ "keelson-to": "0" }, 400, "malformed-hello"],
      [{ "keelson-from": "2" }, 409, "myself"],
      [{ "keelson-from": "5" }, 503, "unknown-member"],
      [{ "keelson-from": "-1" }, 400, "malformed-hello"],
      [{ "keelson-incarnation": "one" }, 400, "malformed-hello"],
      [{ "keelson-version": "a b" }, 400, "malformed-hello"],
    ];
    for (const [change, status, reason] of cases) {
      const answer = await ask(member, { ...urgent, ...change });
      const said = JSON.parse(answer.body) as { reason: string; message: string; retry: boolean };
      expect([change, answer.status, said.reason]).toEqual([change, status, reason]);
      expect(said.retry).toBe(status === 503);
      expect(said.message.length).toBeGreaterThan(10);
    }
    const nothing = await ask(member, { ":path": urgent[":path"] });
    expect(nothing.status).toBe(400);
    member.removedIds.add(5n);
    expect((await ask(member, { ...urgent, "keelson-from": "5" })).status).toBe(410);
    expect(member.received).toEqual([]);
  });

  test("says once and not for each of them that strangers come", async () => {
    const member = await alone();
    const session = connectHttp2(member.url);
    for (let from = 16; from < 80; from++) {
      const change = { "keelson-from": from.toString(16), "keelson-cluster": "ab" };
      expect((await ask(member, { ...urgent, ...change }, session)).status).toBe(412);
    }
    expect(member.logged("the peer port refused a connection", "wrong-cluster")).toBe(1);
  });

  test("takes a later version that also speaks this one", async () => {
    const member = await alone();
    const answer = await ask(member, { ...urgent, "keelson-protocol": "1-9" });
    expect(answer.status).toBe(200);
    answer.write(messages(1));
    await until("a message", () => member.rounds.length === 1);
  });

  test("takes one message stream per connection, and of one member", async () => {
    const member = await alone();
    const session = connectHttp2(member.url);
    expect((await ask(member, urgent, session)).status).toBe(200);
    expect((await ask(member, urgent, session)).status).toBe(400);
    const file = { ":method": "GET", ":path": "/keelson/peer/file?name=a&offset=0&bytes=1", ...hello };
    expect((await ask(member, { ...file, "keelson-incarnation": "8" }, session)).status).toBe(400);
    expect((await ask(member, file, session)).status).toBe(404);
    expect((await ask(member, { ...file, ":path": "/keelson/peer/file?name=a" }, session)).status).toBe(400);
  });

  test("ends a stream at the first byte that is wrong, without effect on anything else", async () => {
    const member = await alone();
    const damaged = messages(3);
    damaged[damaged.length - 1]! ^= 1;
    const huge = Buffer.alloc(8);
    huge.writeUInt32BE(0xffff_ffff);
    const wrong: readonly [string, Buffer][] = [
      ["checksum", damaged],
      ["bytes", huge],
      ["too short", Buffer.alloc(64)],
      // The same cause as the huge one: no further line.
      ["bytes", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ];
    for (const [reason, bytes] of wrong) {
      const answer = await ask(member, urgent);
      expect(answer.status).toBe(200);
      answer.write(Buffer.concat([messages(1, 2), bytes, messages(4)]));
      await until("the stream ends", () => answer.closed);
      expect(member.logged("the peer port ended a connection", reason)).toBe(1);
      expect(member.rounds.splice(0)).toEqual([1, 2]);
      member.received.length = 0;
    }
    expect(member.failures).toEqual([]);
    const answer = await ask(member, urgent);
    answer.write(messages(5));
    await until("it works", () => member.rounds.length === 1);
  });

  test("survives any frames behind a good introduction", async () => {
    const member = await alone();
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            type: fc.nat(12),
            flags: fc.nat(255),
            id: fc.nat(7),
            payload: fc.uint8Array({ maxLength: 40 }),
          }),
          { minLength: 1, maxLength: 10 },
        ),
        async (frames) => {
          const { socket } = await raw(member);
          socket.write(preface, "latin1");
          const parts = [
            { type: frameType.settings, flags: 0, id: 0, payload: new Uint8Array(0) },
            ...frames,
          ];
          for (const { type, flags, id, payload } of parts) {
            const head = Buffer.alloc(9);
            writeFrameHeader(head, 0, payload.length, type, flags, id);
            socket.write(Buffer.concat([head, payload]));
          }
          await Bun.sleep(1);
          socket.destroy();
        },
      ),
      { numRuns: 200 },
    );
    expect(member.failures).toEqual([]);
    expect(member.received).toEqual([]);
    expect((await ask(member, urgent)).status).toBe(200);
  });

  test("holds a bounded number of connections", async () => {
    const member = await alone();
    const opened = await Promise.all(Array.from({ length: connectionsMax + 20 }, () => raw(member)));
    await until("some are closed", () => opened.filter(({ socket }) => socket.closed).length === 20);
    for (const { socket } of opened) socket.destroy();
    await Bun.sleep(50);
    expect((await ask(member, urgent)).status).toBe(200);
  });

  test("lets the process end when its member fails", async () => {
    const failure = new Error("broken invariant");
    const member = await alone({
      handler: {
        receive: () => {
          throw failure;
        },
      },
    });
    const answer = await ask(member, urgent);
    answer.write(messages(1));
    await until("it is told", () => member.failures.length > 0);
    expect(member.failures).toEqual([failure]);
  });
});

describe("a member that reaches something else", () => {
  async function fake(talk: (socket: Socket) => void): Promise<{ url: string; accepted: () => number }> {
    let accepted = 0;
    const server = createServer((socket) => {
      accepted++;
      sockets.push(socket);
      socket.on("error", () => {});
      talk(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    servers.push(server);
    return {
      url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
      accepted: () => accepted,
    };
  }

  async function dialing(url: string): Promise<TestMember> {
    const member = await TestMember.open(2n);
    members.push(member);
    member.start({ id: 1n, peerUrls: [url] });
    return member;
  }

  test("says so once, and keeps trying", async () => {
    const http1 = await fake((socket) => {
      socket.on("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    const member = await dialing(http1.url);
    await until("several attempts", () => http1.accepted() > 6);
    expect(member.log.lines.length).toBeLessThanOrEqual(3);
    expect(member.logged("a member cannot be reached", "the answer is HTTP/1, not HTTP/2")).toBe(1);
    expect(member.transport.roundTripMs(1n)).toBeUndefined();
  });

  test("gives up on silence", async () => {
    const mute = await fake((socket) => socket.resume());
    const member = await dialing(mute.url);
    await until("it says so", () => member.logged("a member cannot be reached", "no answer from") > 0);
  });

  test("survives whatever it is answered", async () => {
    const frames = fc.sample(
      fc.array(
        fc.record({
          type: fc.nat(10),
          flags: fc.nat(255),
          id: fc.nat(4),
          payload: fc.uint8Array({ maxLength: 40 }),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      100,
    );
    let at = 0;
    const babbling = await fake((socket) => {
      const settings = { type: frameType.settings, flags: 0, id: 0, payload: new Uint8Array(0) };
      for (const { type, flags, id, payload } of [settings, ...frames[at++ % frames.length]!]) {
        const head = Buffer.alloc(9);
        writeFrameHeader(head, 0, payload.length, type, flags, id);
        socket.write(Buffer.concat([head, payload]));
      }
      setTimeout(() => socket.destroy(), 5);
    });
    const urls = Array.from({ length: 100 }, (_, position) => `${babbling.url}/?${position}`);
    const member = await TestMember.open(2n);
    members.push(member);
    member.start({ id: 1n, peerUrls: urls });
    await until("a hundred attempts", () => babbling.accepted() > 100, 8000);
    expect(member.failures).toEqual([]);
    await expect(member.transport.fetchPiece(1n, "a", 0, 10)).rejects.toThrow("member 1");
  }, 10_000);
});
