/**
 * Answers as JSON text. Small ones in one piece; large ones are cut along their repeated and nested messages, so that
 * whoever writes them can let other work run between the pieces.
 */
import { fromBinary, toJson, type DescField, type DescMessage, type Message } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { KeyValueSchema } from "../../proto/gen/etcd/kv_pb";
import { assert } from "../../assert";
import { EncodedMessage, type Answer } from "../call";
import { KeyValueJson } from "./key-value-json";

/** Answers up to this size are converted in one go; a few hundred microseconds. */
const onePieceBytes = 32 * 1024;
/** Lists up to this length are converted in one go. */
const onePieceItems = 200;
/** Copying a large answer together pauses this often; small chunks cost more than their bytes. */
const copyBytesPerPiece = 256 * 1024;
/** An index over a large answer looks up this often. */
const fieldsPerPiece = 2_000;

const options = { useProtoFieldName: true } as const;

function whole(desc: DescMessage, message: Message): string {
  return JSON.stringify(toJson(desc, message, options));
}

/** How many bytes chunks have together. */
export function bytesIn(chunks: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const chunk of chunks) bytes += chunk.length;
  return bytes;
}

function isLongList(desc: DescMessage, message: Message): boolean {
  const fields = message as unknown as Readonly<Record<string, unknown>>;
  return desc.fields.some((field) => {
    const value = field.fieldKind === "list" ? fields[field.localName] : undefined;
    return Array.isArray(value) && value.length > onePieceItems;
  });
}

/** The whole text when that takes no noticeable time, else undefined: use {@link jsonPieces}. */
export function jsonText(desc: DescMessage, answer: Answer<DescMessage>): string | undefined {
  if (answer instanceof EncodedMessage) {
    if (bytesIn(answer.chunks) > onePieceBytes) return undefined;
    const bytes = answer.chunks.length === 1 ? answer.chunks[0]! : Buffer.concat(answer.chunks);
    return whole(desc, fromBinary(desc, bytes));
  }
  return isLongList(desc, answer) ? undefined : whole(desc, answer);
}

/** The text in pieces, some of them empty: after each one the caller may pause. */
export function* jsonPieces(desc: DescMessage, answer: Answer<DescMessage>): Generator<string, void> {
  if (answer instanceof EncodedMessage) yield* encodedPieces(desc, answer.chunks);
  else yield* shapePieces(desc, answer);
}

/** Chunks as one, copied in pieces. */
function* joined(chunks: readonly Uint8Array[], bytes: number): Generator<string, Uint8Array> {
  const whole = Buffer.allocUnsafeSlow(bytes);
  let filled = 0;
  let sincePiece = 0;
  for (const chunk of chunks) {
    whole.set(chunk, filled);
    filled += chunk.length;
    sincePiece += chunk.length;
    if (sincePiece < copyBytesPerPiece) continue;
    sincePiece = 0;
    yield "";
  }
  return whole;
}

function* shapePieces(desc: DescMessage, message: Message): Generator<string, void> {
  const shell = { ...message } as unknown as Record<string, unknown>;
  const long: { field: DescField; items: readonly unknown[] }[] = [];
  for (const field of desc.fields) {
    const value = field.fieldKind === "list" ? shell[field.localName] : undefined;
    if (!Array.isArray(value) || value.length <= onePieceItems) continue;
    long.push({ field, items: value });
    shell[field.localName] = [];
  }
  const head = whole(desc, shell as unknown as Message);
  let opened = head.length > 2;
  yield head.slice(0, -1);
  for (const { field, items } of long) {
    let separator = `${opened ? "," : ""}${JSON.stringify(field.name)}:[`;
    for (const item of items) {
      yield separator +
        (field.message === undefined ? scalarText(desc, field, item) : whole(field.message, item as Message));
      separator = ",";
    }
    yield "]";
    opened = true;
  }
  yield "}";
}

/** One item of a list of numbers, strings or bytes: converted inside of its message, then taken out. */
function scalarText(desc: DescMessage, field: DescField, item: unknown): string {
  const message = { $typeName: desc.typeName, [field.localName]: [item] };
  const json = toJson(desc, { ...emptyOf(desc), ...message } as Message, options) as Record<
    string,
    unknown[]
  >;
  return JSON.stringify(json[field.name]![0]);
}

function emptyOf(desc: DescMessage): Message {
  return fromBinary(desc, new Uint8Array(0));
}

/** Values of a field: pairs of start and end in one chunk, or one value that reaches over several. */
type Run =
  { readonly bytes: Uint8Array; readonly spans: number[] } | { readonly parts: readonly Uint8Array[] };

/** Where the values of a message field lie, in their order. */
interface Places {
  readonly field: DescField;
  readonly runs: Run[];
}

/** Where everything lies in an encoded message. */
interface Index {
  readonly nested: ReadonlyMap<number, Places>;
  /** What is no message, to be decoded in one go. */
  readonly rest: readonly Uint8Array[];
}

/** Looks through chunks; undefined when one of them ends within a field that is no message. */
function* indexOf(desc: DescMessage, chunks: readonly Uint8Array[]): Generator<string, Index | undefined> {
  const nested = new Map<number, Places>();
  for (const field of desc.fields) {
    if (field.message !== undefined && field.fieldKind !== "map")
      nested.set(field.number, { field, runs: [] });
  }
  const rest: Uint8Array[] = [];
  let fields = 0;
  /** Bytes at the beginning of the next chunk that belong to the value before. */
  let taken = 0;
  for (let at = 0; at < chunks.length; at++) {
    const bytes = chunks[at]!;
    const reader = new BinaryReader(bytes);
    reader.pos = taken;
    taken = 0;
    let last: { readonly places: Places; readonly spans: number[] } | undefined;
    while (reader.pos < reader.len) {
      const start = reader.pos;
      try {
        const [number, wireType] = reader.tag();
        const places = wireType === WireType.LengthDelimited ? nested.get(number) : undefined;
        if (places === undefined) {
          reader.skip(wireType, number);
          rest.push(bytes.subarray(start, reader.pos));
        } else {
          const length = reader.uint32();
          const beyond = reader.pos + length - reader.len;
          if (beyond > 0) {
            const parts = [bytes.subarray(reader.pos)];
            reader.pos = reader.len;
            for (let left = beyond; left > 0;) {
              const next = chunks[at + 1];
              if (next === undefined) return undefined;
              parts.push(next.subarray(0, left));
              if (next.length > left) taken = left;
              else at++;
              left -= Math.min(left, next.length);
            }
            places.runs.push({ parts });
            continue;
          }
          if (last?.places !== places) {
            last = { places, spans: [] };
            places.runs.push({ bytes, spans: last.spans });
          }
          last.spans.push(reader.pos, reader.pos + length);
          reader.pos += length;
        }
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        return undefined;
      }
      if (reader.pos > reader.len) return undefined;
      if (++fields % fieldsPerPiece === 0) yield "";
    }
  }
  return { nested, rest };
}

function* encodedPieces(desc: DescMessage, chunks: readonly Uint8Array[]): Generator<string, void> {
  // Ranges come in chunks of whole records; to copy 100 MB of them together would take the memory once more.
  const index = yield* indexOf(desc, chunks);
  if (index === undefined) {
    assert(chunks.length > 1, "an encoded answer ends within a field");
    yield* encodedPieces(desc, [yield* joined(chunks, bytesIn(chunks))]);
    return;
  }
  const shell = whole(desc, fromBinary(desc, Buffer.concat(index.rest)));
  let opened = shell.length > 2;
  yield shell.slice(0, -1);
  for (const { field, runs } of index.nested.values()) {
    const last = runs.at(-1);
    if (last === undefined) continue;
    const lastParts =
      "parts" in last ? last.parts : [last.bytes.subarray(last.spans.at(-2), last.spans.at(-1))];
    const name = `${opened ? "," : ""}${JSON.stringify(field.name)}:`;
    opened = true;
    if (field.fieldKind !== "list") {
      yield name;
      yield* oneEncoded(field.message!, lastParts);
      continue;
    }
    yield `${name}[`;
    let separator = "";
    for (const run of runs) {
      if ("parts" in run) {
        yield separator;
        separator = ",";
        yield* oneEncoded(field.message!, run.parts);
        continue;
      }
      const { bytes, spans } = run;
      const keyValues = field.message === KeyValueSchema ? new KeyValueJson(bytes) : undefined;
      for (let i = 0; i < spans.length; i += 2) {
        yield separator;
        separator = ",";
        const text = keyValues?.text(spans[i]!, spans[i + 1]!);
        if (text !== undefined) yield text;
        else yield* oneEncoded(field.message!, [bytes.subarray(spans[i], spans[i + 1])]);
      }
    }
    yield "]";
  }
  yield "}";
}

function* oneEncoded(desc: DescMessage, parts: readonly Uint8Array[]): Generator<string, void> {
  const hasMessages = desc.fields.some((field) => field.message !== undefined);
  if (hasMessages && bytesIn(parts) > onePieceBytes) yield* encodedPieces(desc, parts);
  else yield whole(desc, fromBinary(desc, parts.length === 1 ? parts[0]! : Buffer.concat(parts)));
}
