/**
 * Answers as JSON text. Small ones in one piece; large ones are cut along their repeated and nested messages, so that
 * whoever writes them can let other work run between the pieces.
 */
import { fromBinary, toJson, type DescField, type DescMessage, type Message } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { KeyValueSchema } from "../../proto/gen/etcd/kv_pb";
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

function encodedBytes(answer: EncodedMessage): number {
  let bytes = 0;
  for (const chunk of answer.chunks) bytes += chunk.length;
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
    if (encodedBytes(answer) > onePieceBytes) return undefined;
    const bytes = answer.chunks.length === 1 ? answer.chunks[0]! : Buffer.concat(answer.chunks);
    return whole(desc, fromBinary(desc, bytes));
  }
  return isLongList(desc, answer) ? undefined : whole(desc, answer);
}

/** The text in pieces, some of them empty: after each one the caller may pause. */
export function* jsonPieces(desc: DescMessage, answer: Answer<DescMessage>): Generator<string, void> {
  if (!(answer instanceof EncodedMessage)) {
    yield* shapePieces(desc, answer);
    return;
  }
  const bytes = Buffer.allocUnsafeSlow(encodedBytes(answer));
  let filled = 0;
  let sincePiece = 0;
  for (const chunk of answer.chunks) {
    bytes.set(chunk, filled);
    filled += chunk.length;
    sincePiece += chunk.length;
    if (sincePiece < copyBytesPerPiece) continue;
    sincePiece = 0;
    yield "";
  }
  yield* encodedPieces(desc, bytes);
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

/** Where the values of a message field lie: pairs of start and end. */
interface Places {
  readonly field: DescField;
  readonly spans: number[];
}

function* encodedPieces(desc: DescMessage, bytes: Uint8Array): Generator<string, void> {
  const nested = new Map<number, Places>();
  for (const field of desc.fields) {
    if (field.message !== undefined && field.fieldKind !== "map")
      nested.set(field.number, { field, spans: [] });
  }
  const rest: Uint8Array[] = [];
  const reader = new BinaryReader(bytes);
  let fields = 0;
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [number, wireType] = reader.tag();
    const places = wireType === WireType.LengthDelimited ? nested.get(number) : undefined;
    if (places === undefined) {
      reader.skip(wireType, number);
      rest.push(bytes.subarray(start, reader.pos));
    } else {
      const length = reader.uint32();
      places.spans.push(reader.pos, reader.pos + length);
      reader.pos += length;
    }
    if (++fields % fieldsPerPiece === 0) yield "";
  }
  const shell = whole(desc, fromBinary(desc, Buffer.concat(rest)));
  let opened = shell.length > 2;
  yield shell.slice(0, -1);
  for (const { field, spans } of nested.values()) {
    if (spans.length === 0) continue;
    const name = `${opened ? "," : ""}${JSON.stringify(field.name)}:`;
    opened = true;
    if (field.fieldKind !== "list") {
      yield name;
      yield* oneEncoded(field.message!, bytes.subarray(spans.at(-2), spans.at(-1)));
      continue;
    }
    yield `${name}[`;
    const keyValues = field.message === KeyValueSchema ? new KeyValueJson(bytes) : undefined;
    for (let i = 0; i < spans.length; i += 2) {
      if (i > 0) yield ",";
      const text = keyValues?.text(spans[i]!, spans[i + 1]!);
      if (text !== undefined) yield text;
      else yield* oneEncoded(field.message!, bytes.subarray(spans[i], spans[i + 1]));
    }
    yield "]";
  }
  yield "}";
}

function* oneEncoded(desc: DescMessage, bytes: Uint8Array): Generator<string, void> {
  const hasMessages = desc.fields.some((field) => field.message !== undefined);
  if (bytes.length > onePieceBytes && hasMessages) yield* encodedPieces(desc, bytes);
  else yield whole(desc, fromBinary(desc, bytes));
}
