/**
 * Messages between members in binary form:
 *
 *   length (4 bytes, big-endian; of all that follows the checksum) · CRC-32 of that · version · kind · fields
 *
 * The ends of a connection are known from its handshake, so messages carry neither `from` nor `to`. The checksum is
 * there because a command that is changed on its way would make one member differ from the others for ever.
 */
import type { Entry, Message, SnapshotPosition } from "../../consensus/types";
import type { MemberId } from "../../ids";
import type { PeerMessage } from "../../member/peer-message";
import { ByteReader, ByteWriter, Malformed } from "./bytes";

export const codecVersion = 1;
/** Length and checksum. */
export const prefixBytes = 8;
/** Version and kind. */
const headBytes = 2;
const methodBytesMax = 256;

type Kind = PeerMessage["kind"];
type Of<K extends Kind> = Extract<PeerMessage, { readonly kind: K }>;
interface Ends {
  from: MemberId;
  to: MemberId;
}
/** Distributes over the union, which plain Omit would flatten. */
type Fields<M> = M extends unknown ? Omit<M, "from" | "to"> : never;

/** Positions in this list are the numbers on the wire: only append. */
const kinds = [
  "pre-vote",
  "vote",
  "pre-vote-answer",
  "vote-answer",
  "append",
  "append-answer",
  "heartbeat",
  "heartbeat-answer",
  "snapshot",
  "snapshot-status",
  "timeout-now",
  "propose",
  "propose-refused",
  "read-index",
  "read-index-answer",
  "call",
  "call-answer",
] as const satisfies readonly Kind[];

const kindNumbers: ReadonlyMap<Kind, number> = new Map(kinds.map((kind, number) => [kind, number]));
const refusalReasons = ["not-leader", "overloaded"] as const;
const outcomes = ["ok", "refused", "failed"] as const;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Kinds whose decoded form refers to the bytes that it came from. */
const referring: ReadonlySet<number> = new Set(
  (["append", "propose", "call", "call-answer"] as const).map((kind) => kindNumbers.get(kind)!),
);

/** Whether what {@link decodeMessage} makes of these bytes refers to them: the kind is the byte at `start + 1`. */
export function refersToBytes(bytes: Uint8Array, start: number): boolean {
  return referring.has(bytes[start + 1]!);
}

/** Appends a message with its length and checksum. Throws RangeError for numbers that are no counters. */
export function encodeMessage(writer: ByteWriter, message: PeerMessage): void {
  writer.reserve(prefixBytes + 64);
  const start = writer.end;
  writer.end += prefixBytes;
  writer.byte(codecVersion);
  writer.byte(kindNumbers.get(message.kind)!);
  writeFields(writer, message);
  const { bytes, end } = writer;
  bytes.writeUInt32BE(end - start - prefixBytes, start);
  bytes.writeUInt32BE(Bun.hash.crc32(bytes.subarray(start + prefixBytes, end)), start + 4);
}

/** Reads the message in `bytes[start, end)`, without length and checksum. Throws {@link Malformed}. */
export function decodeMessage(
  bytes: Buffer,
  start: number,
  end: number,
  from: MemberId,
  to: MemberId,
): PeerMessage {
  const reader = new ByteReader(bytes, start, end);
  const version = reader.byte();
  if (version !== codecVersion) throw new Malformed(`message of version ${version}`);
  const number = reader.byte();
  const kind = kinds[number];
  if (kind === undefined) throw new Malformed(`message of kind ${number}`);
  const message = readFields(reader, kind) as Fields<PeerMessage> & Partial<Ends>;
  reader.finish();
  // Set rather than spread: a copy of every field costs more than reading them.
  message.from = from;
  message.to = to;
  return message as PeerMessage;
}

/** The length of a message by its first four bytes; throws when no message is that long. */
export function messageLength(bytes: Buffer, at: number, bytesMax: number): number {
  const length = bytes.readUInt32BE(at);
  if (length < headBytes) throw new Malformed("message too short");
  if (length > bytesMax) throw new Malformed(`message of ${length} bytes`);
  return length;
}

function writeFields(writer: ByteWriter, message: PeerMessage): void {
  switch (message.kind) {
    case "propose":
      writer.varint(message.term);
      writer.fixed64(message.incarnation);
      writer.varint(message.batch);
      writer.varint(message.payloads.length);
      for (const payload of message.payloads) writer.block(payload);
      return;
    case "propose-refused":
      writer.varint(message.term);
      writer.fixed64(message.incarnation);
      writer.varint(message.batch);
      writer.byte(refusalReasons.indexOf(message.reason));
      return;
    case "read-index":
      writer.fixed64(message.incarnation);
      writer.varint(message.context);
      return;
    case "read-index-answer":
      writer.fixed64(message.incarnation);
      writer.varint(message.context);
      writer.boolean(message.index !== undefined);
      if (message.index !== undefined) writer.varint(message.index);
      return;
    case "call":
      writer.fixed64(message.incarnation);
      writer.varint(message.id);
      writer.block(Buffer.from(message.method, "utf8"));
      writer.block(message.body);
      return;
    case "call-answer":
      writer.fixed64(message.incarnation);
      writer.varint(message.id);
      writer.byte(outcomes.indexOf(message.outcome));
      writer.block(message.body);
      return;
    default:
      writeConsensus(writer, message);
  }
}

function writeConsensus(writer: ByteWriter, message: Message): void {
  writer.varint(message.term);
  switch (message.kind) {
    case "pre-vote":
    case "vote":
      writer.varint(message.lastIndex);
      writer.varint(message.lastTerm);
      writer.boolean(message.transfer);
      return;
    case "pre-vote-answer":
    case "vote-answer":
      writer.boolean(message.granted);
      writer.varint(message.commit);
      writer.varint(message.commitTerm);
      return;
    case "append":
      writer.varint(message.previousIndex);
      writer.varint(message.previousTerm);
      writer.varint(message.commit);
      writer.varint(message.entries.length);
      writeEntries(writer, message);
      return;
    case "append-answer":
      writer.boolean(message.accepted);
      writer.varint(message.index);
      writer.varint(message.hintIndex);
      writer.varint(message.hintTerm);
      return;
    case "heartbeat":
      writer.varint(message.commit);
      writer.varint(message.readRound);
      return;
    case "heartbeat-answer":
      writer.varint(message.readRound);
      return;
    case "snapshot":
      writePosition(writer, message.position);
      return;
    case "snapshot-status":
      writer.boolean(message.ok);
      return;
    case "timeout-now":
  }
}

/** Indexes follow from the previous one, and terms seldom change: both are left out where they can be. */
function writeEntries(writer: ByteWriter, { previousIndex, previousTerm, entries }: Of<"append">): void {
  let index = previousIndex;
  let term = previousTerm;
  for (const entry of entries) {
    if (entry.index !== ++index) throw new RangeError("entries do not continue their predecessor");
    const newTerm = entry.term !== term;
    writer.byte((entry.kind === "configuration" ? 1 : 0) | (newTerm ? 2 : 0));
    if (newTerm) writer.varint(entry.term);
    term = entry.term;
    writer.block(entry.data);
  }
}

function writePosition(writer: ByteWriter, { index, term, configuration }: SnapshotPosition): void {
  writer.varint(index);
  writer.varint(term);
  for (const ids of [configuration.voters, configuration.learners]) {
    writer.varint(ids.length);
    for (const id of ids) writer.fixed64(id);
  }
}

function readFields(reader: ByteReader, kind: Kind): Fields<PeerMessage> {
  switch (kind) {
    case "propose": {
      const term = reader.varint();
      const incarnation = reader.fixed64();
      const batch = reader.varint();
      const payloads: Uint8Array[] = [];
      for (let left = reader.count(1); left > 0; left--) payloads.push(reader.block());
      return { kind, term, incarnation, batch, payloads };
    }
    case "propose-refused":
      return {
        kind,
        term: reader.varint(),
        incarnation: reader.fixed64(),
        batch: reader.varint(),
        reason: oneOf(reader, refusalReasons),
      };
    case "read-index":
      return { kind, incarnation: reader.fixed64(), context: reader.varint() };
    case "read-index-answer":
      return {
        kind,
        incarnation: reader.fixed64(),
        context: reader.varint(),
        index: reader.boolean() ? reader.varint() : undefined,
      };
    case "call":
      return {
        kind,
        incarnation: reader.fixed64(),
        id: reader.varint(),
        method: readMethod(reader),
        body: reader.block(),
      };
    case "call-answer":
      return {
        kind,
        incarnation: reader.fixed64(),
        id: reader.varint(),
        outcome: oneOf(reader, outcomes),
        body: reader.block(),
      };
    default:
      return readConsensus(reader, kind);
  }
}

function readConsensus(reader: ByteReader, kind: Message["kind"]): Fields<Message> {
  const term = reader.varint();
  switch (kind) {
    case "pre-vote":
    case "vote":
      return {
        kind,
        term,
        lastIndex: reader.varint(),
        lastTerm: reader.varint(),
        transfer: reader.boolean(),
      };
    case "pre-vote-answer":
    case "vote-answer":
      return {
        kind,
        term,
        granted: reader.boolean(),
        commit: reader.varint(),
        commitTerm: reader.varint(),
      };
    case "append": {
      const previousIndex = reader.varint();
      const previousTerm = reader.varint();
      const commit = reader.varint();
      const entries = readEntries(reader, previousIndex, previousTerm);
      return { kind, term, previousIndex, previousTerm, entries, commit };
    }
    case "append-answer":
      return {
        kind,
        term,
        accepted: reader.boolean(),
        index: reader.varint(),
        hintIndex: reader.varint(),
        hintTerm: reader.varint(),
      };
    case "heartbeat":
      return { kind, term, commit: reader.varint(), readRound: reader.varint() };
    case "heartbeat-answer":
      return { kind, term, readRound: reader.varint() };
    case "snapshot":
      return { kind, term, position: readPosition(reader) };
    case "snapshot-status":
      return { kind, term, ok: reader.boolean() };
    case "timeout-now":
      return { kind, term };
  }
}

function readEntries(reader: ByteReader, previousIndex: number, previousTerm: number): Entry[] {
  const entries: Entry[] = [];
  let term = previousTerm;
  const count = reader.count(2);
  if (!Number.isSafeInteger(previousIndex + count)) throw new Malformed("an index is too large");
  for (let i = 1; i <= count; i++) {
    const flags = reader.byte();
    if (flags > 3) throw new Malformed("an entry of an unknown kind");
    if ((flags & 2) !== 0) {
      const newTerm = reader.varint();
      if (newTerm === term) throw new Malformed("a term that does not change");
      term = newTerm;
    }
    entries.push({
      term,
      index: previousIndex + i,
      kind: (flags & 1) === 0 ? "command" : "configuration",
      data: reader.block(),
    });
  }
  return entries;
}

function readPosition(reader: ByteReader): SnapshotPosition {
  const index = reader.varint();
  const term = reader.varint();
  const [voters, learners] = [readIds(reader), readIds(reader)];
  return { index, term, configuration: { voters, learners } };
}

function readIds(reader: ByteReader): MemberId[] {
  const ids: MemberId[] = [];
  for (let left = reader.count(8); left > 0; left--) ids.push(reader.fixed64());
  return ids;
}

function readMethod(reader: ByteReader): string {
  const bytes = reader.block();
  if (bytes.length > methodBytesMax) throw new Malformed("a method's name is too long");
  try {
    return utf8.decode(bytes);
  } catch {
    throw new Malformed("a method's name is not text");
  }
}

function oneOf<T>(reader: ByteReader, choices: readonly T[]): T {
  const choice = choices[reader.byte()];
  if (choice === undefined) throw new Malformed("an unknown choice");
  return choice;
}
