/**
 * Keys of arbitrary bytes and values up to the limit come back as they went in, through every route that takes them.
 * KEELSON_REST_KEYS keys go through about nine requests each.
 */
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { SeededRng } from "../../src/rng";
import { at, RestHarness } from "./harness";

const keys = Number(process.env["KEELSON_REST_KEYS"] ?? 4_200);
const seed = Number(process.env["KEELSON_REST_SEED"] ?? 4);

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
});
afterAll(() => store.stop());

/** Bytes that break careless code come often. */
const troubles: readonly (readonly number[])[] = [
  [0x2f],
  [0x2f, 0x2f],
  [0x2e],
  [0x2e, 0x2e],
  [0x2f, 0x2e, 0x2e, 0x2f],
  [0x25],
  [0x25, 0x32, 0x46],
  [0x25, 0x30, 0x30],
  [0],
  [0xff],
  [0xc0, 0x80],
  [0xed, 0xa0, 0x80],
  [0xef, 0xbb, 0xbf],
  [0xf0, 0x9f, 0x92, 0xa9],
  [0x3f],
  [0x23],
  [0x2b],
  [0x20],
  [0x26],
  [0x3d],
  [0x22],
  [0x5c],
  [0x0a],
  [0x0d, 0x0a],
  [0x7f],
  [0x80],
  [0xc3],
  [0x3b],
  [0x40],
  [0x3a],
  [0x5f],
];

function someKey(rng: SeededRng): Buffer {
  const kind = rng.below(20);
  if (kind === 0) return Buffer.from(Array.from({ length: 4096 }, () => rng.below(256)));
  const pieces = 1 + rng.below(kind < 15 ? 6 : 40);
  const bytes: number[] = [];
  for (let at = 0; at < pieces; at++) {
    const pick = rng.below(3);
    if (pick === 0) bytes.push(...troubles[rng.below(troubles.length)]!);
    else if (pick === 1) bytes.push(rng.below(256));
    else bytes.push(0x61 + rng.below(26));
  }
  return Buffer.from(bytes);
}

function someValue(rng: SeededRng): Buffer {
  const kind = rng.below(600);
  // Once in a while as much as a request may carry.
  const length = kind === 0 ? 1_500_000 : kind < 300 ? rng.below(16) : rng.below(600);
  const value = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1 + rng.below(3)) value[at] = rng.below(256);
  return value;
}

/** One of the many ways to write a key in a path; undefined when it has dot segments, which no path can say. */
function pathOf(key: Buffer, rng: SeededRng): string | undefined {
  const segments = key.toString("latin1").split("/");
  if (segments.some((segment) => segment === "." || segment === "..")) return undefined;
  const escapeMore = rng.below(4);
  let path = "";
  for (const byte of key) {
    const character = String.fromCharCode(byte);
    const plain = /[A-Za-z0-9._~!$&'()*+,;=:@/-]/.test(character) && rng.below(4) >= escapeMore;
    const hex = byte.toString(16).padStart(2, "0");
    path += plain ? character : `%${rng.below(2) === 0 ? hex : hex.toUpperCase()}`;
  }
  return path;
}

const coded = (key: Buffer, rng: SeededRng): string => {
  const text = key.toString("base64url");
  return rng.below(3) === 0 ? text.padEnd(Math.ceil(text.length / 4) * 4, "=") : text;
};
const queryText = (key: Buffer): string =>
  [...key].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
const isText = (bytes: Buffer): boolean => Buffer.from(bytes.toString("utf8")).equals(bytes);

/** The bytes behind `name` or `name64` of a JSON object. */
function bytesIn(json: unknown, name: string): Buffer {
  const object = json as Record<string, string | undefined>;
  const text = object[name];
  const text64 = object[`${name}64`];
  expect([text === undefined, text64 === undefined].filter(Boolean)).toHaveLength(1);
  return text === undefined ? Buffer.from(text64!, "base64url") : Buffer.from(text, "utf8");
}

/** As JSON takes bytes: as text where that is possible, and sometimes not even then. */
function field(name: string, bytes: Buffer, rng: SeededRng): Record<string, string> {
  return isText(bytes) && rng.below(2) === 0
    ? { [name]: bytes.toString("utf8") }
    : { [`${name}64`]: coded(bytes, rng) };
}

/** Puts and gets over one connection, byte by byte as written here; resolves with the status and body of both. */
function overSocket(target: string, value: Buffer): Promise<{ status: number; body: Buffer }[]> {
  const head = (method: string, more: string): string =>
    `${method} /api/v1${target} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(store.url).port), "127.0.0.1", () => {
      socket.write(head("PUT", `Content-Length: ${value.length}\r\n`));
      socket.write(value);
      socket.write(head("GET", "Connection: close\r\n"));
    });
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("close", () => {
      let rest = Buffer.concat(chunks);
      const answers: { status: number; body: Buffer }[] = [];
      while (rest.length > 0) {
        const end = rest.indexOf("\r\n\r\n") + 4;
        const text = rest.toString("latin1", 0, end);
        const bytes = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1]);
        answers.push({ status: Number(text.slice(9, 12)), body: rest.subarray(end, end + bytes) });
        rest = rest.subarray(end + bytes);
      }
      resolve(answers);
    });
  });
}

test("keys of any bytes and values of any size survive the way over a socket", async () => {
  const rng = new SeededRng(seed + 1);
  for (let round = 0; round < keys / 7; round++) {
    const key = someKey(rng);
    const value = someValue(rng);
    const path = pathOf(key, rng);
    for (const route of [`/kv64/${coded(key, rng)}`, ...(path === undefined ? [] : [`/kv/${path}`])]) {
      const where = `seed ${seed}, round ${round}, ${value.length} bytes, ${route.slice(0, 200)}`;
      const [put, got] = await overSocket(route, value);
      expect([where, put!.status < 300, got!.status, Buffer.compare(got!.body, value)]).toEqual([
        where,
        true,
        200,
        0,
      ]);
    }
  }
}, 120_000);

test("keys of any bytes and values of any size survive every route", async () => {
  const rng = new SeededRng(seed);
  let requests = 0;
  const ask: RestHarness["ask"] = (...asked) => {
    requests++;
    return store.ask(...asked);
  };
  for (let round = 0; round < keys; round++) {
    const key = someKey(rng);
    const value = someValue(rng);
    const where = `seed ${seed}, round ${round}, key ${key.toString("hex").slice(0, 200)}`;
    const path = pathOf(key, rng);
    const routes = [`/kv64/${coded(key, rng)}`, ...(path === undefined ? [] : [`/kv/${path}`])];
    const any = (): string => routes[rng.below(routes.length)]!;

    const kind = rng.below(3);
    const put =
      kind === 0 && value.length < 100_000
        ? await ask("POST", "/txn", {
            body: { then: [{ put: { ...field("key", key, rng), ...field("value", value, rng) } }] },
          })
        : await ask("PUT", any(), { body: value });
    expect([where, put.status < 300]).toEqual([where, true]);
    for (const route of routes) {
      const got = await ask("GET", route);
      expect([where, got.status, Buffer.compare(got.bytes, value)]).toEqual([where, 200, 0]);
    }

    const parameter =
      isText(key) && rng.below(2) === 0 ? `prefix=${queryText(key)}` : `prefix64=${coded(key, rng)}`;
    const page = await ask("GET", `/keys?${parameter}&limit=1`);
    const listed = (page.json as { keys: unknown[] }).keys[0];
    expect([
      where,
      Buffer.compare(bytesIn(listed, "key"), key),
      Buffer.compare(bytesIn(listed, "value"), value),
    ]).toEqual([where, 0, 0]);

    const after = Number(at(put.json, "revision")) - 1;
    if (rng.below(2) === 0) {
      const watched =
        isText(key) && rng.below(2) === 0 ? `key=${queryText(key)}` : `key64=${coded(key, rng)}`;
      const seen = await ask("GET", `/watch?${watched}&revision=${after + 1}`, {
        headers: { accept: "application/x-ndjson" },
        leaveAfterFirst: true,
      });
      const message = JSON.parse(seen.text.split("\n")[0]!) as { events: unknown[] };
      expect([
        where,
        Buffer.compare(bytesIn(message.events[0], "key"), key),
        Buffer.compare(bytesIn(message.events[0], "value"), value),
      ]).toEqual([where, 0, 0]);
    }

    if (value.length < 100_000) {
      const compared = await ask("POST", "/txn", {
        body: {
          compare: [{ ...field("key", key, rng), target: "value", ...field("value", value, rng) }],
          then: [{ get: field("key", key, rng) }],
        },
      });
      expect([where, at(compared.json, "succeeded")]).toEqual([where, "true"]);
      expect(
        bytesIn(
          (compared.json as { results: { get: { keys: unknown[] } }[] }).results[0]!.get.keys[0],
          "key",
        ).equals(key),
      ).toBe(true);
    }

    const removed = await ask("DELETE", `${any()}?prev`);
    const { prev } = removed.json as { prev: unknown };
    expect([
      where,
      Buffer.compare(bytesIn(prev, "key"), key),
      Buffer.compare(bytesIn(prev, "value"), value),
    ]).toEqual([where, 0, 0]);
    expect([where, (await ask("GET", any())).status]).toEqual([where, 404]);
    if (path === undefined) {
      // What a path cannot say is refused, never taken for another key.
      const raw = [...key]
        .map((byte) =>
          byte === 0x2f || byte === 0x2e
            ? String.fromCharCode(byte)
            : `%${byte.toString(16).padStart(2, "0")}`,
        )
        .join("");
      expect([where, (await ask("GET", `/kv/${raw}`)).status]).toEqual([where, 400]);
    }
  }
  console.log(`${requests} requests`);
  expect(requests).toBeGreaterThan(keys * 6);
}, 300_000);
