/** The client's side, against the HTTP/2 of the runtime, and frame by frame against a raw socket. */
import { afterEach, describe, expect, test } from "bun:test";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { connect, createServer, type Server, type Socket } from "node:net";
import { eventually, type WireFrame, wireFrames } from "../grpc/testing";
import { Http2ClientSession } from "./client-session";
import type { ClientReceiver, ClientStream } from "./client-stream";
import { OutputBudget } from "./output";
import { errorCode, flag, frameType, preface, setting, writeFrameHeader } from "./protocol";

const servers: (Server | Http2Server)[] = [];
const sockets: Socket[] = [];
const budget = new OutputBudget(64 * 1024 ** 2);

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  await Bun.sleep(5);
  expect(budget.inFlight).toBe(0);
});

/** What came of one request; sends `body` as far as there is room. */
class Heard implements ClientReceiver {
  status = 0;
  headers: ReadonlyMap<string, string> = new Map();
  bytes = 0;
  text = "";
  ended = false;
  abandoned: string | undefined;
  sent = 0;

  constructor(readonly body: Uint8Array = new Uint8Array(0)) {}

  onHeaders(status: number, headers: ReadonlyMap<string, string>): void {
    this.status = status;
    this.headers = headers;
  }
  onData(bytes: Uint8Array, start: number, end: number): void {
    this.bytes += end - start;
    if (this.text.length < 1000) this.text += Buffer.from(bytes.subarray(start, end)).toString("latin1");
  }
  onEnd(): void {
    this.ended = true;
  }
  onAbandoned(reason: string): void {
    this.abandoned = reason;
  }
  onRoom(stream: ClientStream): void {
    this.sent += stream.write(this.body, this.sent, this.body.length);
    if (this.sent < this.body.length) stream.wantRoom();
  }
}

interface Client {
  readonly session: Http2ClientSession;
  readonly closed: string[];
  pings: number;
}

async function clientOf(port: number): Promise<Client> {
  const socket = connect(port, "127.0.0.1");
  sockets.push(socket);
  await new Promise((resolve) => socket.on("connect", resolve));
  const client: Client = {
    closed: [],
    pings: 0,
    session: new Http2ClientSession(socket, {
      budget,
      authority: `127.0.0.1:${port}`,
      closed: (reason) => void client.closed.push(reason),
      pinged: () => void client.pings++,
    }),
  };
  client.session.start();
  return client;
}

async function listening(server: Server | Http2Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  return (server.address() as { port: number }).port;
}

describe("with the runtime's server", () => {
  async function serving(
    handle: (stream: ServerHttp2Stream, headers: Readonly<Record<string, unknown>>) => void,
    initialWindowSize = 65_535,
  ): Promise<Client> {
    const server = createHttp2Server({ settings: { initialWindowSize } });
    server.on("stream", (stream, headers) => {
      stream.on("error", () => {});
      handle(stream as ServerHttp2Stream, headers);
    });
    return clientOf(await listening(server));
  }

  test("a GET gets its headers and its body", async () => {
    let asked: Readonly<Record<string, unknown>> = {};
    const { session, closed } = await serving((stream, headers) => {
      asked = headers;
      stream.respond({ ":status": 203, "x-some": "thing" });
      stream.end("hello");
    });
    const heard = new Heard();
    session.request("GET", "/a?b=c", [["x-own", "1"]], false, heard);
    await eventually("the end", () => heard.ended);
    expect([heard.status, heard.text, heard.headers.get("x-some")]).toEqual([203, "hello", "thing"]);
    expect([asked[":method"], asked[":path"], asked["x-own"]]).toEqual(["GET", "/a?b=c", "1"]);
    expect(String(asked[":authority"])).toStartWith("127.0.0.1:");
    expect(session.openStreams).toBe(0);
    expect(closed).toEqual([]);
  });

  test("bodies larger than every window go there and come back whole", async () => {
    const bytes = 20 * 1024 ** 2;
    const { session } = await serving((stream) => {
      let received = 0;
      stream.respond({ ":status": 200 });
      stream.on("data", (chunk: Buffer) => {
        received += chunk.length;
        if (received === bytes) stream.end(Buffer.alloc(bytes, 1));
      });
    }, 30_000);
    const heard = new Heard(Buffer.alloc(bytes, 7));
    session.request("POST", "/", [], true, heard).wantRoom();
    await eventually("the end", () => heard.ended);
    expect([heard.sent, heard.bytes]).toEqual([bytes, bytes]);
  });

  test("pings are answered", async () => {
    const client = await serving((stream) => {
      stream.respond({ ":status": 200 });
      stream.end("fine");
    });
    const heard = new Heard();
    client.session.request("GET", "/fine", [], false, heard);
    client.session.ping();
    await eventually("both answers", () => heard.ended && client.pings === 1);
  });

  test("a cancelled stream hears nothing more", async () => {
    let closedThere = false;
    const { session } = await serving((stream) => {
      stream.respond({ ":status": 200 });
      stream.write("begin");
      stream.on("close", () => (closedThere = true));
    });
    const heard = new Heard();
    const stream = session.request("GET", "/", [], false, heard);
    await eventually("the begin", () => heard.text === "begin");
    stream.cancel();
    await eventually("the other side knows", () => closedThere);
    expect([heard.ended, heard.abandoned, session.openStreams]).toEqual([false, undefined, 0]);
  });
});

function frameOf(type: number, flags: number, id: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const head = Buffer.alloc(9);
  writeFrameHeader(head, 0, payload.length, type, flags, id);
  return Buffer.concat([head, payload]);
}

function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, at) => bytes.writeUInt32BE(value, 4 * at));
  return bytes;
}

function settingOf(name: number, value: number): Buffer {
  return Buffer.concat([Buffer.of(0, name), uint32(value)]);
}

const ok = Buffer.of(0x88);

describe("with a raw server", () => {
  async function raw(...settings: Buffer[]): Promise<Client & { there: Socket; frames: () => WireFrame[] }> {
    const { promise, resolve } = Promise.withResolvers<Socket>();
    const server = createServer(resolve);
    const client = await clientOf(await listening(server));
    const there = await promise;
    sockets.push(there);
    let got: Buffer = Buffer.alloc(0);
    there.on("data", (chunk: Buffer) => (got = Buffer.concat([got, chunk])));
    there.on("error", () => {});
    there.write(frameOf(frameType.settings, 0, 0, Buffer.concat(settings)));
    await eventually("the preface", () => got.length > preface.length);
    expect(got.subarray(0, preface.length).toString("latin1")).toBe(preface);
    return Object.assign(client, { there, frames: () => wireFrames(got.subarray(preface.length)) });
  }

  test("what is sent keeps to the windows, of the stream and of the connection", async () => {
    const client = await raw(settingOf(setting.initialWindowSize, 100_000));
    const sentBytes = () =>
      client
        .frames()
        .filter(({ type }) => type === frameType.data)
        .reduce((sum, { payload }) => sum + payload.length, 0);
    await eventually("the settings", () => client.frames().some(({ flags }) => flags === flag.acknowledge));
    const heard = new Heard(Buffer.alloc(300_000));
    client.session.request("POST", "/", [], true, heard).wantRoom();
    await eventually("the connection's window", () => sentBytes() === 65_535);
    client.there.write(frameOf(frameType.windowUpdate, 0, 0, uint32(1_000_000)));
    await eventually("the stream's window", () => sentBytes() === 100_000);
    client.there.write(frameOf(frameType.windowUpdate, 0, 1, uint32(50_000)));
    await eventually("a little more", () => sentBytes() === 150_000);
    // A smaller window makes what may be sent negative; more than that must come before anything leaves.
    client.there.write(frameOf(frameType.settings, 0, 0, settingOf(setting.initialWindowSize, 50_000)));
    client.there.write(frameOf(frameType.windowUpdate, 0, 1, uint32(50_000)));
    await Bun.sleep(30);
    expect(sentBytes()).toBe(150_000);
    client.there.write(frameOf(frameType.settings, 0, 0, settingOf(setting.initialWindowSize, 250_000)));
    await eventually("everything", () => sentBytes() === 300_000);
    expect(client.frames().every(({ payload }) => payload.length <= 16_384)).toBe(true);
  });

  test("padding, priority and continuations are understood, byte by byte", async () => {
    const client = await raw();
    const heard = new Heard();
    client.session.request("GET", "/", [], false, heard);
    const bytes = Buffer.concat([
      frameOf(
        frameType.headers,
        flag.padded | flag.priority,
        1,
        Buffer.concat([Buffer.of(2), Buffer.alloc(5), ok, Buffer.alloc(2)]),
      ),
      frameOf(frameType.continuation, flag.endHeaders, 1, Buffer.of(0x0f, 0x0d, 0x01, 0x35)),
      frameOf(frameType.data, flag.padded, 1, Buffer.from("\u0003ab\0\0\0", "latin1")),
      frameOf(frameType.data, flag.endStream, 1, Buffer.from("cde")),
    ]);
    for (const byte of bytes) client.there.write(Buffer.of(byte));
    await eventually("the end", () => heard.ended);
    expect([heard.status, heard.text, heard.headers.get("content-length")]).toEqual([200, "abcde", "5"]);
  });

  test("a reset ends its stream alone", async () => {
    const client = await raw();
    const [reset, fine] = [new Heard(), new Heard()];
    client.session.request("GET", "/reset", [], false, reset);
    client.session.request("GET", "/fine", [], false, fine);
    client.there.write(frameOf(frameType.resetStream, 0, 1, uint32(errorCode.internalError)));
    client.there.write(frameOf(frameType.headers, flag.endHeaders | flag.endStream, 3, ok));
    await eventually("both ends", () => reset.abandoned !== undefined && fine.ended);
    expect(reset.abandoned).toBe("stream reset with code 2");
    expect(client.closed).toEqual([]);
  });

  test("GOAWAY without an error lets open streams end, and begins no more", async () => {
    const client = await raw();
    const heard = new Heard();
    client.session.request("GET", "/", [], false, heard);
    client.there.write(frameOf(frameType.goAway, 0, 0, uint32(1, errorCode.noError)));
    await eventually("it is told", () => !client.session.usable);
    client.there.write(frameOf(frameType.headers, flag.endHeaders | flag.endStream, 1, ok));
    await eventually("the end", () => heard.ended);
    expect(client.closed).toEqual([]);
  });

  test("whatever breaks the protocol ends the connection once, with its streams", async () => {
    const broken: readonly [string, Buffer][] = [
      ["too large", Buffer.concat([Buffer.of(0xff, 0xff, 0xff, 0, 0), uint32(1)])],
      ["HEADERS on stream 0", frameOf(frameType.headers, flag.endHeaders, 0, ok)],
      ["DATA on stream 0", frameOf(frameType.data, 0, 0)],
      ["SETTINGS", frameOf(frameType.settings, 0, 0, Buffer.alloc(5))],
      ["PING", frameOf(frameType.ping, 0, 0, Buffer.alloc(7))],
      ["PUSH_PROMISE", frameOf(frameType.pushPromise, flag.endHeaders, 1, uint32(2))],
      ["WINDOW_UPDATE of nothing", frameOf(frameType.windowUpdate, 0, 0, uint32(0))],
      ["overflows", frameOf(frameType.windowUpdate, 0, 0, uint32(2 ** 31 - 1))],
      ["HPACK", frameOf(frameType.headers, flag.endHeaders, 1, Buffer.of(0xff, 0xff, 0xff))],
      ["CONTINUATION of nothing", frameOf(frameType.continuation, 0, 1)],
      ["interrupted", Buffer.concat([frameOf(frameType.headers, 0, 1, ok), frameOf(frameType.data, 0, 1)])],
      ["more padding", frameOf(frameType.data, flag.padded, 1, Buffer.of(9, 1))],
      ["code 11", frameOf(frameType.goAway, 0, 0, uint32(0, errorCode.enhanceYourCalm))],
      ["without content", Buffer.concat(Array.from({ length: 20_001 }, () => frameOf(frameType.data, 0, 1)))],
    ];
    for (const [reason, bytes] of broken) {
      const client = await raw();
      const heard = new Heard();
      client.session.request("GET", "/", [], false, heard);
      client.there.write(bytes);
      await eventually(`the end for ${reason}`, () => client.closed.length > 0);
      expect(client.closed).toEqual([expect.stringContaining(reason)]);
      expect(heard.abandoned).toContain(reason);
      expect([client.session.closed, client.session.usable]).toEqual([true, false]);
    }
  });

  test("an answer in HTTP/1 is named as such", async () => {
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    const client = await clientOf(await listening(server));
    await eventually("the end", () => client.closed.length > 0);
    expect(client.closed).toEqual(["the answer is HTTP/1, not HTTP/2"]);
  });

  test("what was written before the end leaves, and then the end", async () => {
    const client = await raw();
    await eventually("the settings", () => client.frames().some(({ flags }) => flags === flag.acknowledge));
    const heard = new Heard(Buffer.from("last words"));
    client.session.request("POST", "/", [], true, heard).wantRoom();
    let ended = false;
    client.there.on("end", () => (ended = true));
    client.session.finish();
    await eventually("the end", () => ended);
    expect(client.frames().at(-1)?.payload.toString()).toBe("last words");
    client.there.end();
    await eventually("both ends", () => client.session.closed);
  });
});
