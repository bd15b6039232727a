import { afterEach, describe, expect, test } from "bun:test";
import { pieceQuery, readPieceRequest } from "./files";
import { pieceBytesMax } from "./limits";
import { TestMember, type TestMemberOptions, until } from "./testing";

const members: TestMember[] = [];

afterEach(async () => {
  await Promise.all(members.splice(0).map((member) => member.transport.close()));
});

async function pair(offers: TestMemberOptions["handler"]): Promise<[TestMember, TestMember]> {
  const one = await TestMember.open(1n);
  const two = await TestMember.open(2n, offers === undefined ? {} : { handler: offers });
  members.push(one, two);
  one.start(two);
  two.start(one);
  await until("both are connected", () => one.connected(two) && two.connected(one));
  return [one, two];
}

/** A file whose bytes tell their place. */
function fileOf(bytes: number): Buffer {
  const file = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) file.writeUInt32LE(at, at);
  return file;
}

const piecesOf = (file: Buffer) => ({
  readPiece: (_from: bigint, name: string, offset: number, bytesMax: number) =>
    name === "state-7 copy"
      ? Promise.resolve(file.subarray(offset, offset + bytesMax))
      : Promise.reject(new Error(`there is no file ${name}`)),
});

describe("pieces", () => {
  test("of a file come from any offset, and none from its end", async () => {
    const file = fileOf(1000);
    const [one] = await pair(piecesOf(file));
    const piece = (offset: number, bytes: number) =>
      one.transport.fetchPiece(2n, "state-7 copy", offset, bytes);
    expect(await piece(0, 100)).toEqual(file.subarray(0, 100));
    expect(await piece(990, 100)).toEqual(file.subarray(990));
    expect(await piece(1000, 100)).toHaveLength(0);
    await expect(one.transport.fetchPiece(2n, "another", 0, 1)).rejects.toThrow("there is no file another");
    await expect(one.transport.fetchPiece(9n, "another", 0, 1)).rejects.toThrow("9 is no member");
    expect(await piece(4, 4)).toEqual(file.subarray(4, 8));
  });

  test("are asked for as far as they go in one answer", async () => {
    const file = fileOf(pieceBytesMax + 100);
    const [one] = await pair(piecesOf(file));
    const piece = await one.transport.fetchPiece(2n, "state-7 copy", 0, pieceBytesMax + 100);
    expect(piece.length).toBe(pieceBytesMax);
  });

  test("of 100 MB pass beside heartbeats, which do not wait for them", async () => {
    const file = fileOf(100 * 1024 ** 2);
    const sentAtMs: number[] = [];
    const delaysMs: number[] = [];
    const one = await TestMember.open(1n, {
      handler: {
        receive(message) {
          if (message.kind === "heartbeat") {
            delaysMs.push(performance.now() - sentAtMs[message.readRound]!);
          }
        },
      },
    });
    const two = await TestMember.open(2n, { handler: piecesOf(file) });
    members.push(one, two);
    one.start(two);
    two.start(one);
    await until("both are connected", () => one.connected(two) && two.connected(one));
    const timer = setInterval(() => {
      two.transport.send([two.heartbeat(one, sentAtMs.length)]);
      sentAtMs.push(performance.now());
    }, 5);
    const got = Buffer.alloc(file.length);
    try {
      for (let offset = 0; ;) {
        const piece = await one.transport.fetchPiece(2n, "state-7 copy", offset, 1024 ** 2);
        if (piece.length === 0) break;
        got.set(piece, offset);
        offset += piece.length;
      }
    } finally {
      clearInterval(timer);
    }
    expect(got.equals(file)).toBe(true);
    await until("the last heartbeat", () => delaysMs.length === sentAtMs.length);
    expect(delaysMs.length).toBeGreaterThan(10);
    delaysMs.sort((a, b) => a - b);
    expect(delaysMs[Math.floor(delaysMs.length / 2)]).toBeLessThan(20);
    expect(delaysMs.at(-1)).toBeLessThan(250);
  }, 20_000);

  test("go on after the connection was lost", async () => {
    const file = fileOf(4 * 1024 ** 2);
    const [one, two] = await pair(piecesOf(file));
    const first = await one.transport.fetchPiece(2n, "state-7 copy", 0, 1024 ** 2);
    const port = new URL(two.url).port;
    await two.transport.close();
    members.splice(members.indexOf(two), 1);
    await expect(one.transport.fetchPiece(2n, "state-7 copy", first.length, 1024)).rejects.toThrow(
      "member 2",
    );
    const again = await TestMember.open(2n, {
      listenUrl: `http://127.0.0.1:${port}`,
      incarnation: 2n,
      handler: piecesOf(file),
    });
    members.push(again);
    again.start(one);
    const rest = await one.transport.fetchPiece(2n, "state-7 copy", first.length, 3 * 1024 ** 2);
    expect(Buffer.concat([first, rest]).equals(file)).toBe(true);
  });

  test("that wait for their turn wait, and fail with the member", async () => {
    const { promise: turn, resolve } = Promise.withResolvers<Uint8Array>();
    let asked = 0;
    const [one, two] = await pair({
      readPiece: () => {
        asked++;
        return turn;
      },
    });
    const pieces = Array.from({ length: 6 }, () =>
      one.transport.fetchPiece(2n, "a", 0, 10).catch((error: Error) => error.message),
    );
    await until("they are asked for", () => asked === 4);
    expect(await Promise.race(pieces)).toContain("not-ready");
    resolve(Buffer.from("late"));
    const answers = await Promise.all(pieces);
    expect(answers.filter((one) => typeof one !== "string").map(String)).toEqual(Array(4).fill("late"));
    const never = one.transport.fetchPiece(2n, "a", 0, 1).catch((error: Error) => error.message);
    // "late" is longer than one byte: the offer is refused on its own side.
    expect(await never).toContain("longer than was asked for");
    await two.transport.close();
    members.splice(members.indexOf(two), 1);
  });
});

test("a question is read as it was written, and nothing else is a question", () => {
  const question = { name: "a b/ü&=%", offset: Number.MAX_SAFE_INTEGER, bytesMax: 17 };
  expect(readPieceRequest(pieceQuery(question))).toEqual(question);
  for (const wrong of [
    "",
    "name=a&offset=0",
    "name=&offset=0&bytes=1",
    "name=a&offset=-1&bytes=1",
    "name=a&offset=0&bytes=0",
    "name=a&offset=1e3&bytes=1",
    "name=a&offset=9007199254740992&bytes=1",
    `name=${"x".repeat(513)}&offset=0&bytes=1`,
  ]) {
    expect(readPieceRequest(wrong)).toBeUndefined();
  }
});
