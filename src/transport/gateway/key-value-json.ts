/**
 * mvccpb.KeyValue as JSON text, straight from its encoding: large answers consist of little else, and the way over a
 * message and its JSON value takes five times as long and leaves ten objects behind for each key.
 */
import { BinaryReader } from "@bufbuild/protobuf/wire";

/** Tag bytes of the fields, as every known encoder writes them. */
const tags = { key: 0x0a, create: 0x10, mod: 0x18, version: 0x20, value: 0x2a, lease: 0x30 } as const;

/** Reads KeyValues that lie in `bytes`, one after the other. */
export class KeyValueJson {
  readonly #bytes: Buffer;
  readonly #reader: BinaryReader;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#reader = new BinaryReader(bytes);
  }

  /** The text of the message from `start` to `end`; undefined when it holds anything but the known fields. */
  text(start: number, end: number): string | undefined {
    const reader = this.#reader;
    let key = "";
    let create = "";
    let mod = "";
    let version = "";
    let value = "";
    let lease = "";
    reader.pos = start;
    while (reader.pos < end) {
      switch (this.#bytes[reader.pos++]) {
        case tags.key:
          key = this.#base64();
          break;
        case tags.create:
          create = String(reader.int64());
          break;
        case tags.mod:
          mod = String(reader.int64());
          break;
        case tags.version:
          version = String(reader.int64());
          break;
        case tags.value:
          value = this.#base64();
          break;
        case tags.lease:
          lease = String(reader.int64());
          break;
        default:
          return undefined;
      }
    }
    if (reader.pos !== end) return undefined;
    const text =
      field("key", key) +
      field("create_revision", create) +
      field("mod_revision", mod) +
      field("version", version) +
      field("value", value) +
      field("lease", lease);
    return `{${text.slice(1)}}`;
  }

  #base64(): string {
    const length = this.#reader.uint32();
    const from = this.#reader.pos;
    this.#reader.pos = from + length;
    return this.#bytes.toString("base64", from, from + length);
  }
}

/** A field that has its default value is left out. Neither base64 nor numbers need escapes. */
function field(name: string, text: string): string {
  return text === "" || text === "0" ? "" : `,"${name}":"${text}"`;
}
