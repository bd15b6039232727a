import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import fc from "fast-check";
import { eventually, tcp, type WireFrame, wireFrames } from "../grpc/testing";
import { integerBytes } from "./hpack";
import { OutputBudget } from "./output";
import { errorCode, flag, frameType, preface, setting, writeFrameHeader } from "./protocol";
import type { RequestHeaders } from "./request";
import type { SessionHandler, StreamReceiver } from "./handler";
import { Http2Session } from "./session";
import type { Http2Stream } from "./stream";

/** What the server saw of one stream, and what the test may do with it. */
class Seen implements StreamReceiver {
  body = "";
  ended = false;
  abandoned = false;
  finished = false;
  drains = 0;

  constructor(
    readonly stream: Http2Stream,
    readonly headers: RequestHeaders,
  ) {}

  onData(bytes: Uint8Array, start: number, end: number): void {
    this.body += Buffer.from(bytes.subarray(start, end)).toString("latin1");
  }
  onEnd(): void {
    this.ended = true;
    if (this.headers.path === "/answer") this.answer(Buffer.from(this.body, "latin1"));
  }
  onDrain(): void {
    this.drains++;
  }
  onFinished(): void {
    this.finished = true;
  }
  abandon(): void {
    this.abandoned = true;
  }
  answer(bytes: Uint8Array): void {
    this.stream.respond("application/grpc");
    this.stream.send([bytes], bytes.length);
    this.stream.finishOk();
  }
}

const budget = new OutputBudget(64 * 1024 ** 2);
const streamsMax = 50;
let server: Server;
let port = 0;
let sessions: Http2Session[] = [];
let seen: Seen[] = [];
let failures: string[] = [];
let closedSessions = 0;

beforeAll(async () => {
  server = createServer((socket) => {
    const session = new Http2Session(socket, {
      maxConcurrentStreams: streamsMax,
      headerListBytesMax: 64 * 1024,
      budget,
      failed: (reason) => failures.push(reason),
    });
    const handler: SessionHandler = {
      request: (stream, headers) => {
        const one = new Seen(stream, headers);
        seen.push(one);
        stream.receiver = one;
      },
      ping: () => true,
      wrote: () => {},
      closed: () => closedSessions++,
    };
    sessions.push(session);
    session.start(handler);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as { port: number }).port;
});

const clients: Client[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await eventually("every session has gone", () => closedSessions === sessions.length);
  expect(budget.inFlight).toBe(0);
  expect(sessions.every((session) => session.queuedBytes === 0)).toBe(true);
  expect(sessions.every((session) => [...session.streams].length === 0)).toBe(true);
  sessions = [];
  seen = [];
  failures = [];
  closedSessions = 0;
});

afterAll(() => server.close());

function frameOf(type: number, flags: number, id: number, payload: Uint8Array | string = ""): Buffer {
  const body = Buffer.from(payload as string, "latin1");
  const frame = Buffer.alloc(9 + body.length);
  writeFrameHeader(frame, 0, body.length, type, flags, id);
  body.copy(frame, 9);
  return frame;
}

function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeUInt32BE(value, 4 * i));
  return bytes;
}

function settingOf(name: number, value: number): Buffer {
  return Buffer.concat([Buffer.of(0, name), uint32(value)]);
}

/** A header written out, without any table. */
function field(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.of(0),
    integerBytes(0, 7, name.length),
    Buffer.from(name, "latin1"),
    integerBytes(0, 7, value.length),
    Buffer.from(value, "latin1"),
  ]);
}

const post = Buffer.of(0x83, 0x86);

function request(path = "/answer", more: readonly Buffer[] = []): Buffer {
  return Buffer.concat([post, field(":path", path), ...more]);
}

class Client {
  #bytes: Buffer = Buffer.alloc(0);
  ended = false;

  private constructor(readonly socket: Socket) {
    socket.on("data", (chunk: Buffer) => (this.#bytes = Buffer.concat([this.#bytes, chunk])));
    socket.on("end", () => (this.ended = true));
    socket.on("close", () => (this.ended = true));
  }

  static async open(...settings: Buffer[]): Promise<Client> {
    const client = new Client(await tcp(port));
    clients.push(client);
    client.socket.write(preface, "latin1");
    client.send(frameOf(frameType.settings, 0, 0, Buffer.concat(settings)));
    return client;
  }

  static async raw(): Promise<Client> {
    const client = new Client(await tcp(port));
    clients.push(client);
    return client;
  }

  send(...frames: Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** Opens a stream with a body. */
  call(id: number, body: string, path = "/answer"): void {
    this.send(
      frameOf(frameType.headers, flag.endHeaders, id, request(path)),
      frameOf(frameType.data, flag.endStream, id, body),
    );
  }

  get frames(): WireFrame[] {
    return wireFrames(this.#bytes);
  }

  of(type: number, id?: number): WireFrame[] {
    return this.frames.filter((one) => one.type === type && (id === undefined || one.stream === id));
  }

  body(id: number): Buffer {
    return Buffer.concat(this.of(frameType.data, id).map(({ payload }) => payload));
  }

  finished(id: number): boolean {
    return this.of(frameType.headers, id).some(({ flags }) => (flags & flag.endStream) !== 0);
  }

  async goneAway(code: number): Promise<WireFrame> {
    await eventually(`GOAWAY ${code}`, () => this.of(frameType.goAway).length > 0);
    const goAway = this.of(frameType.goAway)[0]!;
    expect(goAway.payload.readUInt32BE(4)).toBe(code);
    await eventually("the end of the connection", () => this.ended);
    return goAway;
  }

  async reset(id: number, code: number): Promise<void> {
    await eventually(`RST_STREAM ${code} on ${id}`, () => this.of(frameType.resetStream, id).length > 0);
    expect(this.of(frameType.resetStream, id)[0]!.payload.readUInt32BE(0)).toBe(code);
    await this.works();
  }

  #pings = 0;

  /** The connection still answers. */
  async works(): Promise<void> {
    const payload = uint32(0x7071, ++this.#pings);
    this.send(frameOf(frameType.ping, 0, 0, payload));
    await eventually("the answer to a ping", () =>
      this.of(frameType.ping).some((one) => one.flags === flag.acknowledge && one.payload.equals(payload)),
    );
  }
}

const headers = (id: number, block = request(), flags: number = flag.endHeaders | flag.endStream): Buffer =>
  frameOf(frameType.headers, flags, id, block);

describe("a connection", () => {
  test("begins with the server's settings and an acknowledgement, and answers calls in one turn", async () => {
    const client = await Client.open();
    client.call(1, "one");
    client.call(3, "two");
    await eventually("both answers", () => client.finished(1) && client.finished(3));
    expect(client.frames.slice(0, 3).map(({ type, flags }) => [type, flags])).toEqual([
      [frameType.settings, 0],
      [frameType.windowUpdate, 0],
      [frameType.settings, flag.acknowledge],
    ]);
    expect(client.body(1).toString("latin1")).toBe("\0\0\0\0\u0003one");
    // The first answer enters its headers into the client's table, the second only names them.
    expect(client.of(frameType.headers, 3).map(({ payload }) => payload.toString("hex"))).toEqual([
      "88bf",
      "be",
    ]);
  });

  test("takes every byte on its own", async () => {
    const client = await Client.raw();
    const padded = frameOf(
      frameType.data,
      flag.padded | flag.endStream,
      1,
      Buffer.concat([Buffer.of(3), Buffer.from("body"), Buffer.alloc(3)]),
    );
    const block = request();
    const all = Buffer.concat([
      Buffer.from(preface, "latin1"),
      frameOf(frameType.settings, 0, 0, settingOf(setting.initialWindowSize, 100)),
      frameOf(frameType.headers, flag.priority, 1, Buffer.concat([Buffer.alloc(5), block.subarray(0, 4)])),
      frameOf(frameType.continuation, 0, 1, ""),
      frameOf(frameType.continuation, flag.endHeaders, 1, block.subarray(4)),
      padded,
    ]);
    for (const byte of all) {
      client.send(Buffer.of(byte));
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await eventually("the answer", () => client.finished(1));
    expect(client.body(1).subarray(5).toString()).toBe("body");
  });

  test.each(["GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"])(
    "%j is no preface",
    async (text) => {
      const client = await Client.raw();
      client.socket.write(text, "latin1");
      await client.goneAway(errorCode.protocolError);
    },
  );

  test("a client without a table gets written-out headers behind a size update", async () => {
    const client = await Client.open(settingOf(setting.headerTableSize, 0));
    client.call(1, "x");
    client.call(3, "y");
    await eventually("the answers", () => client.finished(1) && client.finished(3));
    const [first, second, third] = client
      .of(frameType.headers)
      .map(({ payload }) => payload.toString("latin1"));
    expect(first).toStartWith("\u0020\u0088");
    expect(second).toContain("grpc-status");
    expect(third).toContain("application/grpc");
  });
});

describe("what breaks the connection", () => {
  const huge = Buffer.alloc(16_385);
  const cases: [string, () => Buffer[], number][] = [
    ["a first frame that is not SETTINGS", () => [], errorCode.protocolError],
    ["a frame above the size limit", () => [frameOf(0x40, 0, 0, huge)], errorCode.frameSizeError],
    ["DATA on stream 0", () => [frameOf(frameType.data, 0, 0, "x")], errorCode.protocolError],
    ["DATA on an idle stream", () => [frameOf(frameType.data, 0, 1, "x")], errorCode.protocolError],
    ["HEADERS on stream 0", () => [headers(0)], errorCode.protocolError],
    ["HEADERS on an even stream", () => [headers(2)], errorCode.protocolError],
    ["HEADERS on a stream that ended", () => [headers(1), headers(3), headers(1)], errorCode.streamClosed],
    ["a smaller stream id", () => [headers(5), headers(3)], errorCode.streamClosed],
    ["RST_STREAM on stream 0", () => [frameOf(3, 0, 0, uint32(8))], errorCode.protocolError],
    ["RST_STREAM on an idle stream", () => [frameOf(3, 0, 1, uint32(8))], errorCode.protocolError],
    [
      "RST_STREAM of another length",
      () => [headers(1, request("/x")), frameOf(3, 0, 1, "abc")],
      errorCode.frameSizeError,
    ],
    ["SETTINGS on a stream", () => [frameOf(4, 0, 1)], errorCode.protocolError],
    ["SETTINGS of another length", () => [frameOf(4, 0, 0, "12345")], errorCode.frameSizeError],
    ["an acknowledgement with content", () => [frameOf(4, 1, 0, Buffer.alloc(6))], errorCode.frameSizeError],
    ["ENABLE_PUSH of 2", () => [frameOf(4, 0, 0, settingOf(2, 2))], errorCode.protocolError],
    [
      "a stream window above 2^31-1",
      () => [frameOf(4, 0, 0, settingOf(4, 2 ** 31))],
      errorCode.flowControlError,
    ],
    ["a frame size below 16384", () => [frameOf(4, 0, 0, settingOf(5, 16_383))], errorCode.protocolError],
    ["a frame size above 2^24-1", () => [frameOf(4, 0, 0, settingOf(5, 2 ** 24))], errorCode.protocolError],
    ["PUSH_PROMISE", () => [frameOf(5, 4, 1, uint32(2))], errorCode.protocolError],
    ["PING on a stream", () => [frameOf(6, 0, 1, Buffer.alloc(8))], errorCode.protocolError],
    ["PING of another length", () => [frameOf(6, 0, 0, Buffer.alloc(7))], errorCode.frameSizeError],
    ["GOAWAY on a stream", () => [frameOf(7, 0, 1, uint32(0, 0))], errorCode.protocolError],
    ["WINDOW_UPDATE of nothing", () => [frameOf(8, 0, 0, uint32(0))], errorCode.protocolError],
    ["WINDOW_UPDATE of another length", () => [frameOf(8, 0, 0, "abc")], errorCode.frameSizeError],
    ["WINDOW_UPDATE on an idle stream", () => [frameOf(8, 0, 7, uint32(1))], errorCode.protocolError],
    ["a window that overflows", () => [frameOf(8, 0, 0, uint32(2 ** 31 - 1))], errorCode.flowControlError],
    ["CONTINUATION of nothing", () => [frameOf(9, 4, 1, "x")], errorCode.protocolError],
    [
      "a frame within a header block",
      () => [headers(1, request(), 0), frameOf(6, 0, 0, Buffer.alloc(8))],
      errorCode.protocolError,
    ],
    [
      "CONTINUATION of another stream",
      () => [headers(1, request(), 0), frameOf(9, 4, 3, "")],
      errorCode.protocolError,
    ],
    ["PRIORITY on stream 0", () => [frameOf(2, 0, 0, Buffer.alloc(5))], errorCode.protocolError],
    [
      "padding above the payload",
      () => [headers(1, request(), 4), frameOf(0, 8, 1, "\u0009x")],
      errorCode.protocolError,
    ],
    [
      "padding without its length",
      () => [headers(1, request(), 4), frameOf(0, 8, 1)],
      errorCode.frameSizeError,
    ],
    [
      "HEADERS padded above the payload",
      () => [headers(1, Buffer.of(9, 0x83), 0xc)],
      errorCode.protocolError,
    ],
    ["a header index that is not there", () => [headers(1, Buffer.of(0xfe))], errorCode.compressionError],
    [
      "a header block that ends early",
      () => [headers(1, Buffer.of(0x40, 5, 0x61))],
      errorCode.compressionError,
    ],
    ["a table above 4096", () => [headers(1, Buffer.of(0x3f, 0xe2, 0x1f))], errorCode.compressionError],
    ["a broken Huffman string", () => [headers(1, Buffer.of(0x04, 0x81, 0))], errorCode.compressionError],
    [
      "a header block without end",
      () => [
        headers(1, Buffer.alloc(0), 0),
        ...Array.from({ length: 6 }, () => frameOf(9, 0, 1, Buffer.alloc(16_384))),
      ],
      errorCode.enhanceYourCalm,
    ],
    [
      "a flood of empty CONTINUATION",
      () => [headers(1, Buffer.alloc(0), 0), ...Array.from({ length: 200 }, () => frameOf(9, 0, 1))],
      errorCode.enhanceYourCalm,
    ],
    [
      "a flood of SETTINGS",
      () => Array.from({ length: 300 }, () => frameOf(4, 0, 0)),
      errorCode.enhanceYourCalm,
    ],
    [
      "a flood of empty DATA",
      () => [
        headers(1, request(), 4),
        Buffer.concat(Array.from({ length: 210_000 }, () => frameOf(0, 0, 1))),
      ],
      errorCode.enhanceYourCalm,
    ],
    [
      "a flood of PRIORITY",
      () => [Buffer.concat(Array.from({ length: 210_000 }, () => frameOf(2, 0, 1, Buffer.alloc(5))))],
      errorCode.enhanceYourCalm,
    ],
    [
      "streams begun and reset in a flood",
      () =>
        Array.from({ length: 22_000 }, (_, i) =>
          Buffer.concat([headers(2 * i + 1, request("/x")), frameOf(3, 0, 2 * i + 1, uint32(8))]),
        ),
      errorCode.enhanceYourCalm,
    ],
    [
      "streams begun and made to be reset in a flood",
      () =>
        Array.from({ length: 22_000 }, (_, i) =>
          Buffer.concat([headers(2 * i + 1, request("/x")), frameOf(8, 0, 2 * i + 1, uint32(0))]),
        ),
      errorCode.enhanceYourCalm,
    ],
    [
      "more streams than allowed, again and again",
      () => Array.from({ length: 210_000 }, (_, i) => headers(2 * i + 1, request("/x"))),
      errorCode.enhanceYourCalm,
    ],
  ];
  test.each(cases)("%s", async (name, frames, code) => {
    let client: Client;
    if (name.startsWith("a first frame")) {
      client = await Client.raw();
      client.send(Buffer.from(preface, "latin1"), frameOf(frameType.ping, 0, 0, Buffer.alloc(8)));
    } else {
      client = await Client.open();
      client.send(...frames());
    }
    await client.goneAway(code);
    expect(failures.length).toBe(1);
  });

  test("more DATA than the stream's window, or the connection's", async () => {
    const client = await Client.open();
    client.send(headers(1, request("/x"), 4));
    await eventually("the stream", () => seen.length === 1);
    seen[0]!.stream.pause();
    const frames = Array.from({ length: 65 }, () => frameOf(frameType.data, 0, 1, Buffer.alloc(16_384)));
    client.send(...frames);
    await client.reset(1, errorCode.flowControlError);
    expect(seen[0]!.abandoned).toBe(true);
  });

  test("GOAWAY names the last stream that was taken up", async () => {
    const client = await Client.open();
    client.send(headers(1, request("/x")), headers(7, request("/x")), frameOf(6, 0, 1, Buffer.alloc(8)));
    const goAway = await client.goneAway(errorCode.protocolError);
    expect(goAway.payload.readUInt32BE(0)).toBe(7);
    expect(seen.map(({ abandoned }) => abandoned)).toEqual([true, true]);
  });
});

describe("what breaks a stream only", () => {
  const open = (id: number): Buffer => headers(id, request("/x"), flag.endHeaders);
  const cases: [string, () => Buffer[], number][] = [
    ["DATA behind the end", () => [headers(1, request("/x")), frameOf(0, 0, 1, "x")], errorCode.streamClosed],
    [
      "HEADERS behind the end",
      () => [headers(1, request("/x")), headers(1, request("/x"))],
      errorCode.streamClosed,
    ],
    ["trailers without END_STREAM", () => [open(1), headers(1, field("a", "b"), 4)], errorCode.protocolError],
    ["pseudo headers in trailers", () => [open(1), headers(1, request())], errorCode.protocolError],
    ["WINDOW_UPDATE of nothing", () => [open(1), frameOf(8, 0, 1, uint32(0))], errorCode.protocolError],
    [
      "a window that overflows",
      () => [open(1), frameOf(8, 0, 1, uint32(2 ** 31 - 1))],
      errorCode.flowControlError,
    ],
    ["PRIORITY of another length", () => [open(1), frameOf(2, 0, 1, "abc")], errorCode.frameSizeError],
    ["no path", () => [headers(1, post)], errorCode.protocolError],
    ["an empty path", () => [headers(1, request(""))], errorCode.protocolError],
    ["two paths", () => [headers(1, request("/", [field(":path", "/")]))], errorCode.protocolError],
    [
      "no method",
      () => [headers(1, Buffer.concat([Buffer.of(0x86), field(":path", "/")]))],
      errorCode.protocolError,
    ],
    [
      "an unknown pseudo header",
      () => [headers(1, request("/", [field(":x", "y")]))],
      errorCode.protocolError,
    ],
    [
      "a pseudo header of answers",
      () => [headers(1, request("/", [Buffer.of(0x88)]))],
      errorCode.protocolError,
    ],
    [
      "a pseudo header behind others",
      () => [headers(1, Buffer.concat([post, field("a", "b"), field(":path", "/")]))],
      errorCode.protocolError,
    ],
    ["an upper-case name", () => [headers(1, request("/", [field("Upper", "y")]))], errorCode.protocolError],
    ["an empty name", () => [headers(1, request("/", [field("", "y")]))], errorCode.protocolError],
    [
      "a line break in a value",
      () => [headers(1, request("/", [field("a", "b\r\nc: d")]))],
      errorCode.protocolError,
    ],
    [
      "a header of the connection",
      () => [headers(1, request("/", [field("connection", "close")]))],
      errorCode.protocolError,
    ],
    [
      "te other than trailers",
      () => [headers(1, request("/", [field("te", "gzip")]))],
      errorCode.protocolError,
    ],
    [
      "a header list above the limit, from a block far below it",
      () => [
        headers(
          1,
          Buffer.concat([
            post,
            Buffer.of(0x40),
            field("a", "b".repeat(3_000)).subarray(1),
            Buffer.alloc(5_000, 0xbe),
            field(":path", "/"),
          ]),
        ),
      ],
      errorCode.enhanceYourCalm,
    ],
  ];
  test.each(cases)("%s", async (_name, frames, code) => {
    const client = await Client.open();
    client.send(...frames());
    await client.reset(1, code);
    expect(seen.every(({ abandoned }) => abandoned)).toBe(true);
    // The tables of both sides still agree.
    client.call(3, "still");
    await eventually("the next answer", () => client.finished(3));
  });

  test("streams above the limit are refused, and taken again when others have ended", async () => {
    const client = await Client.open();
    const ids = Array.from({ length: streamsMax + 1 }, (_, i) => 2 * i + 1);
    client.send(...ids.map((id) => headers(id, request("/x"))));
    await client.reset(ids.at(-1)!, errorCode.refusedStream);
    expect(seen.length).toBe(streamsMax);
    client.send(frameOf(frameType.resetStream, 0, 1, uint32(8)));
    client.call(201, "again");
    await eventually("the answer", () => client.finished(201));
  });
});

describe("what is let pass", () => {
  test("unknown frames, unknown settings, PRIORITY, RST_STREAM and WINDOW_UPDATE on closed streams", async () => {
    const client = await Client.open(settingOf(0x99, 5));
    client.send(frameOf(0x77, 0xff, 5, "whatever"), frameOf(2, 0, 9, Buffer.alloc(5)));
    client.call(1, "x");
    await eventually("the answer", () => client.finished(1));
    client.send(frameOf(3, 0, 1, uint32(8)), frameOf(8, 0, 1, uint32(9)), frameOf(0, 0, 1, "late"));
    await client.works();
  });

  test("trailers end a request", async () => {
    const client = await Client.open();
    client.send(headers(1, request(), 4), frameOf(0, 0, 1, "abc"), headers(1, field("x", "y")));
    await eventually("the answer", () => client.finished(1));
    expect(client.body(1).subarray(5).toString()).toBe("abc");
  });

  test("what a client sends on a stream that this side just reset", async () => {
    const client = await Client.open();
    client.send(headers(1, request("/x"), 4));
    await eventually("the stream", () => seen.length === 1);
    seen[0]!.answer(Buffer.from("early"));
    await client.reset(1, errorCode.noError);
    client.send(frameOf(0, 0, 1, "late"), headers(1, field("x", "y")));
    await client.works();
    expect(client.finished(1)).toBe(true);
  });
});

describe("windows", () => {
  test("are kept to the byte, and opened by the client bit by bit", async () => {
    const client = await Client.open(settingOf(setting.initialWindowSize, 7));
    client.call(1, "0123456789");
    await eventually("the first seven bytes", () => client.body(1).length === 7);
    await client.works();
    expect(client.body(1).length).toBe(7);
    client.send(frameOf(8, 0, 1, uint32(3)));
    await eventually("three more", () => client.body(1).length === 10);
    // The initial window shrinks below what was used, and must be made up for.
    client.send(frameOf(4, 0, 0, settingOf(setting.initialWindowSize, 0)), frameOf(8, 0, 1, uint32(7)));
    await client.works();
    expect([client.body(1).length, client.finished(1)]).toEqual([10, false]);
    client.send(frameOf(8, 0, 1, uint32(5)));
    await eventually("the end", () => client.finished(1));
    expect(client.body(1).subarray(5).toString()).toBe("0123456789");
  });

  test("of the connection hold back all streams, which then go on in turns", async () => {
    const client = await Client.open(settingOf(setting.initialWindowSize, 2 ** 30));
    client.send(headers(1, request("/x")), headers(3, request("/x")));
    await eventually("both streams", () => seen.length === 2);
    const large = Buffer.alloc(500_000, 1);
    for (const one of seen) one.answer(large);
    await eventually("a full window", () => client.body(1).length + client.body(3).length === 65_535);
    // Neither waited for the other.
    expect(Math.min(client.body(1).length, client.body(3).length)).toBeGreaterThan(16_000);
    client.send(frameOf(8, 0, 0, uint32(2 ** 30)));
    await eventually("everything", () => client.finished(1) && client.finished(3));
    expect(client.body(3).subarray(5).equals(large)).toBe(true);
    expect(client.of(frameType.data).every(({ payload }) => payload.length <= 16_384)).toBe(true);
  });

  test("are opened again for what was received, unless the stream is paused", async () => {
    const client = await Client.open();
    client.send(headers(1, request("/x"), 4));
    await eventually("the stream", () => seen.length === 1);
    const half = Array.from({ length: 32 }, () => frameOf(0, 0, 1, Buffer.alloc(16_384, 0x61)));
    const given = (): number =>
      client.of(frameType.windowUpdate, 1).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
    client.send(...half);
    await eventually("the window is given back", () => given() === 32 * 16_384);
    seen[0]!.stream.pause();
    client.send(...half);
    await client.works();
    expect(given()).toBe(32 * 16_384);
    seen[0]!.stream.resume();
    await eventually("the rest is given back", () => given() === 64 * 16_384);
    expect(seen[0]!.body.length).toBe(64 * 16_384);
  });
});

describe("sending", () => {
  test("small messages of one stream and turn share a frame", async () => {
    const client = await Client.open();
    client.send(headers(1, request("/x")));
    await eventually("the stream", () => seen.length === 1);
    const { stream } = seen[0]!;
    stream.respond("application/grpc");
    for (let i = 0; i < 100; i++) expect(stream.send([Buffer.from("abc")], 3)).toBe(true);
    stream.finishOk();
    await eventually("the end", () => client.finished(1));
    expect(client.of(frameType.data, 1).map(({ payload }) => payload.length)).toEqual([800]);
  });

  test("a client that does not read is held back, bounded, and served when it goes on", async () => {
    const client = await Client.open(settingOf(setting.initialWindowSize, 2 ** 31 - 1));
    client.send(frameOf(8, 0, 0, uint32(2 ** 31 - 1 - 65_535)), headers(1, request("/x")));
    await eventually("the stream", () => seen.length === 1);
    client.socket.pause();
    const { stream } = seen[0]!;
    stream.respond("application/grpc");
    const message = Buffer.alloc(16_000, 5);
    let sent = 0;
    const fill = async (): Promise<void> => {
      for (let idle = 0; idle < 20;) {
        if (stream.waiting) idle++;
        else idle = 0;
        while (stream.send([message], message.length)) sent++;
        sent++;
        await Bun.sleep(2);
        if (stream.session.queuedBytes > 1_000_000) break;
      }
    };
    await fill();
    expect(stream.session.output.end).toBeLessThanOrEqual(512 * 1024);
    stream.finishOk();
    client.socket.resume();
    await eventually("the end", () => client.finished(1));
    expect(client.body(1).length).toBe(sent * (message.length + 5));
  });

  test("trailers longer than a frame are continued", async () => {
    const client = await Client.open();
    client.send(headers(1, request("/x")));
    await eventually("the stream", () => seen.length === 1);
    seen[0]!.stream.refuse([
      [":status", "200"],
      ["grpc-message", "m".repeat(40_000)],
    ]);
    await eventually("the end", () => client.of(frameType.continuation, 1).length === 2);
    expect(client.of(frameType.continuation, 1).map(({ flags }) => flags)).toEqual([0, flag.endHeaders]);
    expect(client.of(frameType.headers, 1)[0]!.flags).toBe(flag.endStream);
  });

  test("an answer that waits is dropped with its stream", async () => {
    const client = await Client.open(settingOf(setting.initialWindowSize, 0));
    client.call(1, "never");
    await eventually("it waits", () => sessions[0]!.queuedBytes === 10);
    client.send(frameOf(3, 0, 1, uint32(8)));
    await client.works();
    expect([sessions[0]!.queuedBytes, seen[0]!.abandoned]).toEqual([0, true]);
  });
});

test("any frames in any pieces never throw, and nothing is left of them", async () => {
  const heavy = process.env["KEELSON_TEST_HEAVY"] !== undefined;
  const id = fc.integer({ min: 0, max: 9 });
  const block = fc.oneof(
    fc.constant(request()),
    fc.constant(request("/x", [field("a", "b")])),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  );
  const flags = fc.oneof(fc.constantFrom(0, 1, 4, 5), fc.integer({ min: 0, max: 255 }));
  const someFrame = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(flags, id, block).map(([f, i, b]) => frameOf(1, f, i, b)) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(flags, id, fc.uint8Array({ maxLength: 60 }))
        .map(([f, i, b]) => frameOf(0, f, i, b)),
    },
    {
      weight: 2,
      arbitrary: fc
        .tuple(
          fc.integer({ min: 1, max: 6 }),
          fc.constantFrom(0, 1, 16_384, 65_535, 2 ** 31 - 1, 2 ** 32 - 1),
        )
        .map(([name, value]) => frameOf(4, 0, 0, settingOf(name, value))),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(id, fc.nat({ max: 2 ** 31 - 1 })).map(([i, n]) => frameOf(8, 0, i, uint32(n))),
    },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.integer({ min: 0, max: 255 }), flags, id, fc.uint8Array({ maxLength: 20 }))
        .map(([type, f, i, b]) => frameOf(type, f, i, b)),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(someFrame, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 }),
      async (frames, cuts) => {
        const client = await Client.open();
        const bytes = Buffer.concat(frames);
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = Math.min(bytes.length, at + cuts[i % cuts.length]!);
          client.socket.write(bytes.subarray(at, end));
          at = end;
        }
        await Bun.sleep(1);
        client.socket.destroy();
        clients.length = 0;
      },
    ),
    { numRuns: heavy ? 5_000 : 400 },
  );
  await eventually("every session has gone", () => closedSessions === sessions.length);
  // A reason without words would be an exception of our own.
  expect(failures.filter((reason) => /undefined|not a function|Cannot read/.test(reason))).toEqual([]);
  const client = await Client.open();
  client.call(1, "fine");
  await eventually("a good client is served", () => client.finished(1));
}, 60_000);
