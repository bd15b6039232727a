/** Frames of clients: cut anywhere, broken in any way. */
import { describe, expect, test } from "bun:test";
import { SeededRng } from "../../rng";
import { FrameError, FrameReader, Opcode } from "./web-socket-frames";

/** A frame as a client sends it. */
function masked(opcode: number, payload: Buffer, final = true): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = (final ? 0x80 : 0) | opcode;
  if (length < 126) head[1] = 0x80 | length;
  else if (length < 65_536) {
    head[1] = 0x80 | 126;
    head.writeUInt16BE(length, 2);
  } else {
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  const mask = Buffer.from([1, 2, 3, 4]);
  return Buffer.concat([head, mask, payload.map((byte, at) => byte ^ mask[at & 3]!)]);
}

describe("frames of a client", () => {
  test("are the same however they are cut", () => {
    const rng = new SeededRng(1);
    const messages = [0, 1, 125, 126, 70_000].map((bytes) => Buffer.alloc(bytes, bytes % 251));
    const sent = Buffer.concat([
      ...messages.map((message) => masked(Opcode.text, message)),
      masked(Opcode.text, Buffer.from("a"), false),
      masked(Opcode.ping, Buffer.from("p")),
      masked(Opcode.continuation, Buffer.from("b")),
    ]);
    for (let round = 0; round < 50; round++) {
      const reader = new FrameReader(100_000);
      const read: Buffer[] = [];
      const pings: string[] = [];
      let message: Buffer[] = [];
      for (let at = 0; at < sent.length;) {
        const bytes = 1 + rng.below(round < 25 ? 40_000 : 10);
        for (const { opcode, final, payload } of reader.push(sent.subarray(at, at + bytes))) {
          if (opcode === Opcode.ping) pings.push(payload.toString());
          else {
            message.push(payload);
            if (!final) continue;
            read.push(Buffer.concat(message));
            message = [];
          }
        }
        at += bytes;
      }
      expect(read.map(({ length }) => length)).toEqual([0, 1, 125, 126, 70_000, 2]);
      expect(read.slice(0, 5).every((bytes, at) => bytes.equals(messages[at]!))).toBe(true);
      expect(read[5]!.toString()).toBe("ab");
      expect(pings).toEqual(["p"]);
    }
  });

  test("keep nothing back but heads: what a large one carries is handed on as it comes", () => {
    const reader = new FrameReader(8 * 1024 ** 2);
    const sent = masked(Opcode.text, Buffer.alloc(6 * 1024 ** 2, "x"));
    let handedOn = 0;
    for (let at = 0; at < sent.length; at += 65_536) {
      for (const { payload } of reader.push(sent.subarray(at, at + 65_536))) handedOn += payload.length;
      expect(reader.heldBytes).toBeLessThan(14);
      expect(handedOn).toBeGreaterThan(Math.min(at, 6 * 1024 ** 2) - 65_536);
    }
    expect(handedOn).toBe(6 * 1024 ** 2);
  });

  test("that break the protocol are told why", () => {
    const code = (bytes: readonly number[]): number | undefined => {
      try {
        for (const _frame of new FrameReader(1_000).push(Buffer.from(bytes)));
        return undefined;
      } catch (error) {
        return (error as FrameError).closeCode;
      }
    };
    expect(code([0x81, 0x01, 0x61])).toBe(1002);
    expect(code([0xc1, 0x80, 0, 0, 0, 0])).toBe(1002);
    expect(code([0x83, 0x80, 0, 0, 0, 0])).toBe(1002);
    expect(code([0x09, 0x80, 0, 0, 0, 0])).toBe(1002);
    expect(code([0x89, 0xfe, 0, 126])).toBe(1002);
    expect(code([0x81, 0xff, 0, 0, 0, 9, 0, 0, 0, 0])).toBe(1009);
    expect(code([0x81, 0x80, 0, 0, 0, 0])).toBeUndefined();
  });
});
