import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { SeededRng } from "../../rng";
import { runDoor, type RunningDoor } from "../http/door-fixture";
import type { HttpDoorOptions, RestHandler } from "../http/door";
import { answerBytes } from "./answer-bytes";
import type { LaneHandler } from "./key-lane";
import { headBytesMax, readFields, readHead } from "./request-head";

/** What both ways answer: what they understood, so that a different understanding shows. */
const understood = (method: string, target: string, host: string, body: string): string =>
  JSON.stringify({ method, target, host, body });

/** The lane's side; counts what it answered. */
class Lane implements LaneHandler {
  answered = 0;
  left = 0;
  size = 0;
  wait: Promise<void> | undefined;
  admitted: boolean[] = [];

  takes(target: string): boolean {
    return target.startsWith("/api/v1/kv/");
  }
  async answer({
    method,
    target,
    headers,
    body,
    admitted,
    admit,
    onClose,
  }: Parameters<LaneHandler["answer"]>[0]) {
    this.answered++;
    this.admitted.push(admitted);
    admit();
    onClose(() => this.left++);
    await this.wait;
    const text = understood(method, target, headers.host ?? "", Buffer.from(body).toString("latin1"));
    return {
      status: 200,
      headers: { "content-type": "text/plain" },
      body: this.size > 0 ? Buffer.alloc(this.size) : text,
    };
  }
}

/** The full server's side of the same. */
const full: RestHandler = {
  owns: (target) => target.startsWith("/api/v1/"),
  async handle(request, response) {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString("latin1");
    const text = understood(request.method ?? "", request.url ?? "", request.headers.host ?? "", body);
    response.writeHead(200, { "content-type": "text/plain", "content-length": text.length });
    response.end(text);
  },
};

const timeouts = { headersMs: 250, idleMs: 250, bodyMs: 250 };
const run = (more: Partial<HttpDoorOptions> = {}): Promise<RunningDoor> =>
  runDoor({}, { rest: full, timeouts, ...more });

let lane: Lane;
let short: RunningDoor;
let long: RunningDoor;
beforeAll(async () => {
  lane = new Lane();
  short = await run({ keys: lane });
  long = await run();
});
afterAll(async () => {
  await short.close();
  await long.close();
});

interface Essence {
  readonly statuses: readonly (string | undefined)[];
  readonly understood: readonly string[];
}

const joined = (first: Essence, second: Essence): Essence => ({
  statuses: [...first.statuses, ...second.statuses],
  understood: [...first.understood, ...second.understood],
});

/** What matters of everything that a connection answered: the statuses, and what was understood. */
function essence(text: string): Essence {
  return {
    statuses: [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status),
    understood: [...text.matchAll(/\{"method".*?\}/g)].map(([found]) => found),
  };
}

const get = (rest = ""): string => `GET /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${rest}\r\n`;
const put = (body: string, rest = ""): string =>
  `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${rest}Content-Length: ${body.length}\r\n\r\n${body}`;
const close = "Connection: close\r\n";

describe("plain requests", () => {
  test("are answered in order however they are cut", async () => {
    const bytes = Buffer.from(
      `${get()}${put("one")}${put("")}${get("Connection: Keep-Alive\r\n")}${put("two\r\n\r\nGET", close)}`,
    );
    const whole = essence(await long.raw(bytes));
    expect(whole.understood).toHaveLength(5);
    const before = lane.answered;
    const cuts = Array.from({ length: 40 }, (_, at) => 1 + Math.floor((at * bytes.length) / 40));
    const answers = await Promise.all(
      cuts.map(async (cut) => {
        const socket = await short.connect();
        let text = "";
        socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
        const over = new Promise((resolve) => socket.on("close", resolve));
        socket.setNoDelay(true);
        socket.write(bytes.subarray(0, cut));
        await new Promise((resolve) => setTimeout(resolve, 5));
        socket.write(bytes.subarray(cut));
        await over;
        return text;
      }),
    );
    for (const answer of answers) expect(essence(answer)).toEqual(whole);
    expect(lane.answered - before).toBe(40 * 5);
  });

  test("are checked anew when their headers differ", async () => {
    lane.admitted = [];
    await short.raw(get() + get() + get("Authorization: x\r\n") + get("Authorization: x\r\n") + get(close));
    expect(lane.admitted).toEqual([false, true, false, true, false]);
  });

  test("keep their connection for the full server's requests that follow", async () => {
    const before = lane.answered;
    const text = await short.raw(
      `${get()}GET /api/v1/other HTTP/1.1\r\nHost: localhost\r\n\r\n${get()}${put("x", close)}`,
    );
    expect(essence(text)).toMatchObject({ statuses: ["200", "200", "200", "200"] });
    expect(text).toContain("/api/v1/other");
    expect(lane.answered - before).toBe(1);
  });

  test("of an unknown Host, or of a page elsewhere, are refused", async () => {
    const before = lane.answered;
    expect(
      await short.raw("GET /api/v1/kv/a HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
    ).toStartWith("HTTP/1.1 421 ");
    expect(await short.raw(get(`Origin: http://evil.example\r\n${close}`))).toStartWith("HTTP/1.1 403 ");
    expect(await short.raw(get(`Sec-Fetch-Site: cross-site\r\n${close}`))).toStartWith("HTTP/1.1 403 ");
    expect(lane.answered).toBe(before);
  });

  test("are counted", async () => {
    await short.raw(get(close));
    expect(await short.metrics.text()).toMatch(/keelson_http_requests_total\{route="rest",.*"200"\} [1-9]/);
  });
});

const hostile: Readonly<Record<string, string>> = {
  "both lengths": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  chunked: `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
  "chunked in disguise": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
  "two lengths": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`,
  "a list of lengths": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: 1, 1\r\n\r\na`,
  "a signed length": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: +1\r\n\r\na`,
  "a negative length": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: -1\r\n\r\n`,
  "a hexadecimal length": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: 0x1\r\n\r\na`,
  "an immense length": `PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: 99999999999999999999\r\n\r\n`,
  "no Host": `GET /api/v1/kv/a HTTP/1.1\r\n${close}\r\n`,
  "two Hosts": get(`Host: other\r\n${close}`),
  "a folded line": get(`A: b\r\n c\r\n${close}`),
  "a bare line feed": `GET /api/v1/kv/a HTTP/1.1\nHost: localhost\n${close}\n\n`,
  "a NUL in a value": get(`A: b\u0000c\r\n${close}`),
  "a bare CR in a value": get(`A: b\rc\r\n${close}`),
  "a space before the colon": get(`A : b\r\n${close}`),
  "no name": get(`: b\r\n${close}`),
  "no colon": get(`abc\r\n${close}`),
  "version 1.0": `GET /api/v1/kv/a HTTP/1.0\r\nHost: localhost\r\n\r\n`,
  "version 2.0": `GET /api/v1/kv/a HTTP/2.0\r\nHost: localhost\r\n\r\n`,
  "a lower-case method": `get /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}\r\n`,
  "two spaces": `GET  /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}\r\n`,
  "absolute form": `GET http://localhost/api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}\r\n`,
  HEAD: `HEAD /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}\r\n`,
  "a body of GET": `GET /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\n${close}Content-Length: 3\r\n\r\nabc`,
  "a wish to go on": put("abc", `Expect: 100-continue\r\n${close}`),
  "a long head": get(`A: ${"a".repeat(20_000)}\r\n${close}`),
  "a long body": put("b".repeat(100_000), close),
  "an upgrade": get(`Connection: Upgrade\r\nUpgrade: h2c\r\n`),
  "a leading empty line": `\r\n${get(close)}`,
};

describe("requests that are not plain", () => {
  for (const [name, bytes] of Object.entries(hostile)) {
    test(`${name}: the full server's, as if there were no other`, async () => {
      const before = lane.answered;
      const [answer, expected] = await Promise.all([short.raw(bytes), long.raw(bytes)]);
      expect(essence(answer)).toEqual(essence(expected));
      expect(lane.answered).toBe(before);
      // Behind a plain one the same holds, which has its answer then.
      const plain = essence(await long.raw(get(close)));
      const behind = await short.raw(get() + bytes);
      expect(essence(behind)).toEqual(joined(plain, essence(expected)));
    });
  }

  test("however they are bent, nobody understands anything else", async () => {
    const rng = new SeededRng(20_261);
    const bends = [
      "\r",
      "\n",
      " ",
      "\t",
      ":",
      "\u0000",
      "\u00ff",
      ",",
      "0",
      "chunked",
      "Host: b\r\n",
      "\r\n",
    ];
    const bent = Array.from({ length: 400 }, () => {
      let text = rng.below(2) === 0 ? get(close) : put("abc", close);
      for (let count = 1 + rng.below(2); count > 0; count--) {
        const at = rng.below(text.length);
        const cut = rng.below(3) === 0 ? 1 + rng.below(4) : 0;
        text =
          text.slice(0, at) +
          (rng.below(4) === 0 ? "" : bends[rng.below(bends.length)]!) +
          text.slice(at + cut);
      }
      return text;
    });
    for (let at = 0; at < bent.length; at += 100) {
      await Promise.all(
        bent.slice(at, at + 100).map(async (text) => {
          const bytes = Buffer.from(text, "latin1");
          // Where the message ends before the text does, the full server may hold the rest against it.
          const length = Number(/content-length: *(\d+)\r/i.exec(text)?.[1] ?? 0);
          const message = bytes.subarray(0, bytes.indexOf("\r\n\r\n") + 4 + length);
          const [answer, whole, cut] = await Promise.all([
            short.raw(bytes),
            long.raw(bytes),
            long.raw(message),
          ]);
          const expected = [essence(whole), essence(cut)].map((one) => JSON.stringify({ text, ...one }));
          expect(expected).toContain(JSON.stringify({ text, ...essence(answer) }));
        }),
      );
    }
  }, 30_000);
});

describe("clients that hold or flood", () => {
  test("heads and bodies that do not arrive, and silence, are cut", async () => {
    const beganMs = performance.now();
    const [head, body, silent] = await Promise.all([
      short.raw("GET /api/v1/kv/a HTTP/1.1\r\nHo"),
      short.raw("PUT /api/v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab"),
      short.raw(get()),
    ]);
    expect(performance.now() - beganMs).toBeLessThan(3_000);
    expect([head, body]).toEqual(["", ""]);
    expect(silent).toStartWith("HTTP/1.1 200 ");
  });

  test("an answered connection whose client does not close its side is let go", async () => {
    const socket = connect({ port: short.port, host: "127.0.0.1", allowHalfOpen: true });
    let text = "";
    const client = { gone: false };
    socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
    socket.on("error", () => (client.gone = true));
    socket.write(get(close));
    const begunMs = performance.now();
    // What is sent to a connection that is gone is answered with a reset.
    while (!client.gone && performance.now() - begunMs < 4_000) {
      await Bun.sleep(50);
      if (text.includes('"method"') && !socket.destroyed) socket.write("x");
    }
    expect(essence(text).statuses).toEqual(["200"]);
    expect(client.gone).toBe(true);
    expect(performance.now() - begunMs).toBeGreaterThan(200);
    socket.destroy();
  });

  test("a client that asks and does not read is not answered without end", async () => {
    const slow = new Lane();
    slow.size = 60_000;
    const door = await run({ keys: slow, timeouts: { ...timeouts, idleMs: 5_000 } });
    const socket = await door.connect();
    socket.pause();
    socket.write(get().repeat(5_000));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const stuck = slow.answered;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(slow.answered).toBe(stuck);
    expect(stuck).toBeLessThan(1_000);
    // Once it reads, it gets all of them.
    let bytes = 0;
    socket.on("data", (chunk: Buffer) => (bytes += chunk.length));
    socket.resume();
    for (let waited = 0; slow.answered < 5_000 && waited < 400; waited++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect(slow.answered).toBe(5_000);
    expect(bytes).toBeGreaterThan(4_000 * 60_000);
    socket.destroy();
    await door.close();
  }, 15_000);

  test("whoever leaves before the answer is noticed, and nothing is kept", async () => {
    const waiting = new Lane();
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.wait = promise;
    const door = await run({ keys: waiting });
    const socket = await door.connect();
    socket.write(get() + get());
    while (waiting.answered === 0) await new Promise((next) => setTimeout(next, 5));
    socket.destroy();
    for (let waited = 0; waiting.left === 0 && waited < 200; waited++)
      await new Promise((next) => setTimeout(next, 10));
    expect(waiting.left).toBe(1);
    resolve();
    await new Promise((next) => setTimeout(next, 20));
    expect(waiting.answered).toBe(1);
    await door.close();
  });
});

describe("heads", () => {
  test("values are trimmed of tabs and spaces alone, however many there are", () => {
    const value = `a${" \t".repeat(100_000)}b\xa0`;
    const beganMs = performance.now();
    expect(readFields(`Host:\t x \t\r\nX-Wide: ${value} \r\n`)?.headers).toEqual({
      host: "x",
      "x-wide": value,
    });
    // Each space looked at anew took twenty seconds.
    expect(performance.now() - beganMs).toBeLessThan(2_000);
  });

  test("are read or left alone", () => {
    const read = (text: string) => readHead(Buffer.from(text, "latin1"), undefined);
    expect(read("GET /x HT")).toBe("incomplete");
    expect(read(`GET /x HTTP/1.1\r\nA: ${"a".repeat(headBytesMax)}`)).toBe("unusual");
    expect(read("GET /x HTTP/1.1\r\n\r\n")).toBe("unusual");
    expect(read("GET /x HTTP/1.1\r\nHost:  a b \t\r\n\r\nrest")).toMatchObject({ target: "/x", end: 33 });
    expect(readFields("Host: a\r\nContent-Length: 010\r\n")).toBeUndefined();
    expect(readFields("Host: a\r\nhost: a\r\n")).toBeUndefined();
    expect(readFields("Host: a\r\n__proto__: b\r\n")?.headers.host).toBe("a");
  });
});

describe("answers", () => {
  test("say how long they are, and hold no line ends of others", () => {
    const text = (answer: Parameters<typeof answerBytes>[0]): string =>
      answerBytes(answer, false).toString("utf8");
    expect(text({ status: 200, headers: { a: "b" }, body: "ä" })).toMatch(
      /^HTTP\/1\.1 200 OK\r\na: b\r\ndate: .*GMT\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nä$/,
    );
    expect(text({ status: 304, headers: {} })).not.toContain("content-length");
    expect(() => answerBytes({ status: 200, headers: { a: "b\r\nc: d" } }, false)).toThrow("control");
  });
});
