import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { wellFormed } from "../../consensus/messages";
import type { Entry, Message } from "../../consensus/types";
import type { MemberMessage, PeerMessage } from "../../member/peer-message";
import { MessageAssembler } from "./assembler";
import { ByteReader, ByteWriter, Malformed } from "./bytes";
import { codecVersion, decodeMessage, encodeMessage, prefixBytes } from "./codec";

const from = 0x8000_0000_0000_0001n;
const to = 0xffff_ffff_ffff_fffen;
const bytesMax = 1024 ** 2;

const counter = fc.oneof(
  fc.nat(300),
  fc.maxSafeNat(),
  fc.constantFrom(127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 49, Number.MAX_SAFE_INTEGER),
);
const id = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const data = fc.uint8Array({ maxLength: 200 });
const ends = { from: fc.constant(from), to: fc.constant(to) };

const entries = fc
  .record({
    previousIndex: fc.nat(2 ** 40),
    previousTerm: fc.nat(2 ** 40),
    list: fc.array(
      fc.record({
        termStep: fc.constantFrom(0, 0, 0, 1, 7),
        kind: fc.constantFrom<Entry["kind"]>("command", "configuration"),
        data,
      }),
      { maxLength: 20 },
    ),
  })
  .map(({ previousIndex, previousTerm, list }) => {
    let term = previousTerm;
    return {
      previousIndex,
      previousTerm,
      entries: list.map((one, position): Entry => {
        term += one.termStep;
        return { term, index: previousIndex + 1 + position, kind: one.kind, data: one.data };
      }),
    };
  });

/** One arbitrary per kind: the types make a forgotten field or kind an error here. */
type Arbitraries = { [K in PeerMessage["kind"]]: fc.Arbitrary<Extract<PeerMessage, { kind: K }>> };
const vote = { ...ends, term: counter, lastIndex: counter, lastTerm: counter, transfer: fc.boolean() };
const answer = { ...ends, term: counter, granted: fc.boolean(), commit: counter, commitTerm: counter };
const arbitraries: Arbitraries = {
  "pre-vote": fc.record({ kind: fc.constant("pre-vote"), ...vote }) as fc.Arbitrary<
    Extract<Message, { kind: "pre-vote" }>
  >,
  vote: fc.record({ kind: fc.constant("vote"), ...vote }) as fc.Arbitrary<Extract<Message, { kind: "vote" }>>,
  "pre-vote-answer": fc.record({ kind: fc.constant("pre-vote-answer"), ...answer }) as fc.Arbitrary<
    Extract<Message, { kind: "pre-vote-answer" }>
  >,
  "vote-answer": fc.record({ kind: fc.constant("vote-answer"), ...answer }) as fc.Arbitrary<
    Extract<Message, { kind: "vote-answer" }>
  >,
  append: fc
    .record({ kind: fc.constant("append" as const), ...ends, term: counter, commit: counter, rest: entries })
    .map(({ rest, ...message }) => ({ ...message, ...rest })),
  "append-answer": fc.record({
    kind: fc.constant("append-answer"),
    ...ends,
    term: counter,
    accepted: fc.boolean(),
    index: counter,
    hintIndex: counter,
    hintTerm: counter,
  }),
  heartbeat: fc.record({
    kind: fc.constant("heartbeat"),
    ...ends,
    term: counter,
    commit: counter,
    readRound: counter,
  }),
  "heartbeat-answer": fc.record({
    kind: fc.constant("heartbeat-answer"),
    ...ends,
    term: counter,
    readRound: counter,
  }),
  snapshot: fc.record({
    kind: fc.constant("snapshot"),
    ...ends,
    term: counter,
    position: fc.record({
      index: counter,
      term: counter,
      configuration: fc.record({
        voters: fc.array(id, { maxLength: 9 }),
        learners: fc.array(id, { maxLength: 3 }),
      }),
    }),
  }),
  "snapshot-status": fc.record({
    kind: fc.constant("snapshot-status"),
    ...ends,
    term: counter,
    ok: fc.boolean(),
  }),
  "timeout-now": fc.record({ kind: fc.constant("timeout-now"), ...ends, term: counter }),
  propose: fc.record({
    kind: fc.constant("propose"),
    ...ends,
    term: counter,
    incarnation: id,
    batch: counter,
    payloads: fc.array(data, { maxLength: 20 }),
  }),
  "propose-refused": fc.record({
    kind: fc.constant("propose-refused"),
    ...ends,
    term: counter,
    incarnation: id,
    batch: counter,
    reason: fc.constantFrom("not-leader", "overloaded"),
  }),
  "read-index": fc.record({ kind: fc.constant("read-index"), ...ends, incarnation: id, context: counter }),
  "read-index-answer": fc.record({
    kind: fc.constant("read-index-answer"),
    ...ends,
    incarnation: id,
    context: counter,
    index: fc.option(counter, { nil: undefined }),
  }),
  call: fc.record({
    kind: fc.constant("call"),
    ...ends,
    incarnation: id,
    id: counter,
    method: fc.string({ unit: "grapheme", maxLength: 20 }),
    body: data,
  }),
  "call-answer": fc.record({
    kind: fc.constant("call-answer"),
    ...ends,
    incarnation: id,
    id: counter,
    outcome: fc.constantFrom("ok", "refused", "failed"),
    body: data,
  }),
};
const anyMessage: fc.Arbitrary<PeerMessage> = fc.oneof(...Object.values(arbitraries));

function encoded(...messages: PeerMessage[]): Buffer {
  const writer = new ByteWriter(16);
  for (const message of messages) encodeMessage(writer, message);
  return Buffer.from(writer.bytes.subarray(0, writer.end));
}

/** Decodes one message without its checksum, so that mutations reach the fields. */
function decoded(bytes: Buffer): PeerMessage {
  return decodeMessage(bytes, prefixBytes, bytes.length, from, to);
}

/** Every field has the type that it is declared with: what the rest of the program takes for granted. */
function wellTyped(message: PeerMessage): boolean {
  const counters = (...values: number[]) =>
    values.every((value) => Number.isSafeInteger(value) && value >= 0);
  const ids = (...values: bigint[]) => values.every((value) => BigInt.asUintN(64, value) === value);
  const blocks = (...values: Uint8Array[]) => values.every((value) => value instanceof Uint8Array);
  const flags = (...values: boolean[]) => values.every((value) => value === true || value === false);
  if (!ids(message.from, message.to)) return false;
  const member = message as MemberMessage;
  switch (member.kind) {
    case "propose":
      return counters(member.term, member.batch) && ids(member.incarnation) && blocks(...member.payloads);
    case "propose-refused":
      return (
        counters(member.term, member.batch) &&
        ids(member.incarnation) &&
        ["not-leader", "overloaded"].includes(member.reason)
      );
    case "read-index":
      return counters(member.context) && ids(member.incarnation);
    case "read-index-answer":
      return counters(member.context, member.index ?? 0) && ids(member.incarnation);
    case "call":
      return counters(member.id) && typeof member.method === "string" && blocks(member.body);
    case "call-answer":
      return (
        counters(member.id) && ["ok", "refused", "failed"].includes(member.outcome) && blocks(member.body)
      );
    default:
  }
  const consensus = message as Message;
  if (!counters(consensus.term)) return false;
  switch (consensus.kind) {
    case "pre-vote":
    case "vote":
      return counters(consensus.lastIndex, consensus.lastTerm) && flags(consensus.transfer);
    case "pre-vote-answer":
    case "vote-answer":
      return counters(consensus.commit, consensus.commitTerm) && flags(consensus.granted);
    case "append":
      return (
        counters(consensus.previousIndex, consensus.previousTerm, consensus.commit) &&
        consensus.entries.every(
          (entry, position) =>
            counters(entry.term) &&
            entry.index === consensus.previousIndex + 1 + position &&
            blocks(entry.data),
        )
      );
    case "append-answer":
      return counters(consensus.index, consensus.hintIndex, consensus.hintTerm) && flags(consensus.accepted);
    case "heartbeat":
      return counters(consensus.commit, consensus.readRound);
    case "heartbeat-answer":
      return counters(consensus.readRound);
    case "snapshot":
      return (
        counters(consensus.position.index, consensus.position.term) &&
        ids(...consensus.position.configuration.voters, ...consensus.position.configuration.learners)
      );
    case "snapshot-status":
      return flags(consensus.ok);
    case "timeout-now":
      return true;
  }
}

describe("a message", () => {
  for (const [kind, arbitrary] of Object.entries(arbitraries)) {
    test(`of kind ${kind} comes back as it was`, () => {
      fc.assert(
        fc.property(arbitrary as fc.Arbitrary<PeerMessage>, (message) => {
          expect(decoded(encoded(message))).toEqual(message);
        }),
        { numRuns: 200 },
      );
    });
  }

  test("that is cut anywhere is refused", () => {
    fc.assert(
      fc.property(anyMessage, fc.nat(), (message, at) => {
        const bytes = encoded(message);
        const cut = bytes.subarray(0, prefixBytes + (at % (bytes.length - prefixBytes)));
        expect(() => decoded(cut)).toThrow(Malformed);
      }),
      { numRuns: 1000 },
    );
  });

  test("with anything behind it is refused", () => {
    fc.assert(
      fc.property(anyMessage, fc.nat(255), (message, more) => {
        expect(() => decoded(Buffer.concat([encoded(message), Buffer.of(more)]))).toThrow(Malformed);
      }),
    );
  });

  test("that was changed is refused, or has the types it should have", () => {
    let accepted = 0;
    fc.assert(
      fc.property(
        anyMessage,
        fc.array(fc.record({ at: fc.nat(), to: fc.nat(255) }), { minLength: 1, maxLength: 4 }),
        (message, changes) => {
          const bytes = encoded(message);
          for (const change of changes) {
            bytes[prefixBytes + (change.at % (bytes.length - prefixBytes))] = change.to;
          }
          let result: PeerMessage;
          try {
            result = decoded(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(Malformed);
            return;
          }
          accepted++;
          expect(wellTyped(result)).toBe(true);
        },
      ),
      { numRuns: 5000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  test("of random bytes is refused, or has the types it should have", () => {
    fc.assert(
      fc.property(fc.nat(17), fc.uint8Array({ maxLength: 60 }), (kind, body) => {
        const bytes = Buffer.concat([Buffer.alloc(prefixBytes), Buffer.of(codecVersion, kind), body]);
        try {
          expect(wellTyped(decoded(bytes))).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(Malformed);
        }
      }),
      { numRuns: 5000 },
    );
  });

  test("that consensus takes for well formed stays so", () => {
    const message: Message = {
      kind: "append",
      from,
      to,
      term: 5,
      previousIndex: 10,
      previousTerm: 3,
      commit: 9,
      entries: [
        { term: 3, index: 11, kind: "command", data: Buffer.from("a") },
        { term: 5, index: 12, kind: "configuration", data: Buffer.from("b") },
      ],
    };
    expect(wellFormed(decoded(encoded(message)) as Message)).toBe(true);
  });

  test("whose numbers cannot be counters is not sent", () => {
    const heartbeat = { kind: "heartbeat", from, to, term: 1, commit: 1, readRound: 0 } as const;
    for (const wrong of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(() => encoded({ ...heartbeat, commit: wrong })).toThrow(RangeError);
    }
  });

  test("of another version or an unknown kind is refused", () => {
    const bytes = encoded({ kind: "timeout-now", from, to, term: 1 });
    for (const [at, value] of [
      [prefixBytes, codecVersion + 1],
      [prefixBytes + 1, 17],
    ] as const) {
      const changed = Buffer.from(bytes);
      changed[at] = value;
      expect(() => decoded(changed)).toThrow(Malformed);
    }
  });
});

test("numbers have one form only", () => {
  fc.assert(
    fc.property(counter, (value) => {
      const writer = new ByteWriter(1);
      writer.varint(value);
      const reader = new ByteReader(writer.bytes, 0, writer.end);
      expect(reader.varint()).toBe(value);
      reader.finish();
    }),
  );
  const read = (...bytes: number[]) => new ByteReader(Buffer.from(bytes), 0, bytes.length).varint();
  expect(() => read(0x81, 0)).toThrow(Malformed);
  expect(() => read(0x80)).toThrow(Malformed);
  expect(() => read(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10)).toThrow(Malformed);
  expect(() => read(...Array.from({ length: 12 }, () => 0xff))).toThrow(Malformed);
  expect(read(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)).toBe(Number.MAX_SAFE_INTEGER);
});

describe("a stream", () => {
  test("gives the same messages however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(anyMessage, { minLength: 1, maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 30 }),
        (messages, sizes) => {
          const bytes = encoded(...messages);
          const got: PeerMessage[] = [];
          const assembler = new MessageAssembler(from, to, bytesMax, (message) => got.push(message));
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const size = Math.min(sizes[turn % sizes.length]!, bytes.length - at);
            // A chunk of its own, overwritten afterwards: nothing may refer to it.
            const chunk = Buffer.alloc(size + 7, 0xee);
            bytes.copy(chunk, 3, at, at + size);
            assembler.read(chunk, 3, 3 + size);
            chunk.fill(0xdd);
            at += size;
          }
          expect(got).toEqual(messages);
          expect(assembler.heldBytes).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("notices every changed byte", () => {
    fc.assert(
      fc.property(anyMessage, fc.nat(), fc.integer({ min: 1, max: 255 }), (message, at, by) => {
        const bytes = encoded(message, { kind: "timeout-now", from, to, term: 1 });
        // Not in the second message, whose loss would leave the first.
        const place = at % (bytes.length - 11);
        bytes[place]! ^= by;
        const got: PeerMessage[] = [];
        const assembler = new MessageAssembler(from, to, bytesMax, (one) => got.push(one));
        // A changed length may also make it wait for more, which never becomes a message.
        try {
          assembler.read(bytes, 0, bytes.length);
          assembler.read(Buffer.alloc(300), 0, 300);
        } catch (error) {
          expect(error).toBeInstanceOf(Malformed);
        }
        expect(got).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  test("reserves nothing for a length alone, and refuses one above the limit", () => {
    const assembler = new MessageAssembler(from, to, bytesMax, () => {});
    const head = Buffer.alloc(prefixBytes);
    head.writeUInt32BE(bytesMax);
    assembler.read(head, 0, head.length);
    expect(assembler.heldBytes).toBeLessThanOrEqual(64 * 1024);
    head.writeUInt32BE(bytesMax + 1);
    expect(() => new MessageAssembler(from, to, bytesMax, () => {}).read(head, 0, 8)).toThrow(Malformed);
    head.writeUInt32BE(1);
    expect(() => new MessageAssembler(from, to, bytesMax, () => {}).read(head, 0, 8)).toThrow(Malformed);
  });
});
