/** The headers of a request: read from HPACK blocks, checked by RFC 9113 8.2 and 8.3, remembered per block. */
import { type HeaderField, HpackDecoder, type HeaderSink } from "./hpack";

/** Blocks up to this length are remembered, so many per connection. */
const rememberedBytesMax = 128;
const rememberedBlocksMax = 8;

/** Headers that belong to one connection of HTTP/1.1 and make a request malformed. */
const connectionHeaders = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

export class RequestHeaders {
  method: string | undefined;
  scheme: string | undefined;
  path: string | undefined;
  /** A pseudo header came, which trailers may not hold. */
  hasPseudo = false;
  malformed = false;
  /** The list is longer than this side is willing to keep; the rest was dropped. */
  tooLong = false;
  /** Whatever the user of the session derives from the headers; kept with a remembered block. */
  derived: unknown;
  readonly #names: string[] = [];
  readonly #values: string[] = [];

  /** The value of a header with a lower-case name; several values of one name are joined with ", ". */
  get(name: string): string | undefined {
    let found: string | undefined;
    const names = this.#names;
    for (let i = 0; i < names.length; i++) {
      if (names[i] !== name) continue;
      const value = this.#values[i]!;
      found = found === undefined ? value : `${found}, ${value}`;
    }
    return found;
  }

  add({ name, value, valid }: HeaderField): void {
    if (!valid) this.malformed = true;
    if (name.charCodeAt(0) === 0x3a) {
      this.#addPseudo(name, value);
      return;
    }
    if (connectionHeaders.has(name) || (name === "te" && value !== "trailers")) this.malformed = true;
    this.#names.push(name);
    this.#values.push(value);
  }

  /** Whether a request may be made of them. */
  get complete(): boolean {
    const { method, scheme, path } = this;
    return (
      !this.malformed &&
      method !== undefined &&
      scheme !== undefined &&
      path !== undefined &&
      (path.charCodeAt(0) === 0x2f || path === "*")
    );
  }

  #addPseudo(name: string, value: string): void {
    this.hasPseudo = true;
    if (this.#names.length > 0) this.malformed = true;
    if (name === ":path" && this.path === undefined) this.path = value;
    else if (name === ":method" && this.method === undefined) this.method = value;
    else if (name === ":scheme" && this.scheme === undefined) this.scheme = value;
    else if (name === ":authority" && !this.#authority) this.#authority = true;
    else this.malformed = true;
  }

  #authority = false;
}

interface Remembered {
  readonly block: Uint8Array;
  readonly headers: RequestHeaders;
}

/** Reads the header blocks of one connection. Clients send the same few bytes for every call of a method. */
export class RequestDecoder implements HeaderSink {
  readonly #hpack = new HpackDecoder();
  readonly #listBytesMax: number;
  #remembered: Remembered[] | undefined;
  #version = 0;
  #headers = new RequestHeaders();
  #listBytes = 0;

  constructor(listBytesMax: number) {
    this.#listBytesMax = listBytesMax;
  }

  /** Throws a plain Error for a block that breaks HPACK, after which the connection cannot go on. */
  decode(bytes: Uint8Array, start: number, end: number): RequestHeaders {
    const known = this.#remembered;
    if (known !== undefined) {
      for (const one of known) if (sameBytes(one.block, bytes, start, end)) return one.headers;
    }
    const headers = new RequestHeaders();
    this.#headers = headers;
    this.#listBytes = 0;
    this.#hpack.decode(bytes, start, end, this);
    if (this.#hpack.version !== this.#version) {
      this.#version = this.#hpack.version;
      this.#remembered = undefined;
    } else if (end - start <= rememberedBytesMax) {
      this.#remembered ??= [];
      if (this.#remembered.length === rememberedBlocksMax) this.#remembered.shift();
      this.#remembered.push({ block: Uint8Array.prototype.slice.call(bytes, start, end), headers });
    }
    return headers;
  }

  header(field: HeaderField): void {
    this.#listBytes += field.bytes;
    if (this.#listBytes > this.#listBytesMax) this.#headers.tooLong = true;
    else this.#headers.add(field);
  }
}

function sameBytes(block: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  const length = block.length;
  if (length !== end - start) return false;
  for (let i = 0; i < length; i++) if (block[i] !== bytes[start + i]) return false;
  return true;
}
