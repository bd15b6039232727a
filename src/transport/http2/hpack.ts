/** HPACK (RFC 7541): the static table, and a decoder for the header blocks of one connection. */
import { decodeHuffman } from "./huffman";

/** One header as a table holds it. Its strings carry one byte per character. */
export class HeaderField {
  readonly bytes: number;
  constructor(
    readonly name: string,
    readonly value: string,
    /** Whether RFC 9113 8.2.1 allows these bytes in a name and a value. */
    readonly valid: boolean,
  ) {
    this.bytes = name.length + value.length + entryOverheadBytes;
  }
}

/** Hears of each header of a block, in order. */
export interface HeaderSink {
  header(field: HeaderField): void;
}

/** What an entry costs beyond its name and value. */
export const entryOverheadBytes = 32;
/** The table's size until settings say otherwise; this decoder never announces another. */
export const tableBytesDefault = 4096;

/** The static table, name and value divided by the first blank; the first entry has index 1. */
const staticTable: readonly HeaderField[] = [
  ":authority",
  ":method GET",
  ":method POST",
  ":path /",
  ":path /index.html",
  ":scheme http",
  ":scheme https",
  ...[200, 204, 206, 304, 400, 404, 500].map((status) => `:status ${status}`),
  "accept-charset",
  "accept-encoding gzip, deflate",
  "accept-language",
  "accept-ranges",
  "accept",
  "access-control-allow-origin",
  "age",
  "allow",
  "authorization",
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "content-length",
  "content-location",
  "content-range",
  "content-type",
  "cookie",
  "date",
  "etag",
  "expect",
  "expires",
  "from",
  "host",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "last-modified",
  "link",
  "location",
  "max-forwards",
  "proxy-authenticate",
  "proxy-authorization",
  "range",
  "referer",
  "refresh",
  "retry-after",
  "server",
  "set-cookie",
  "strict-transport-security",
  "transfer-encoding",
  "user-agent",
  "vary",
  "via",
  "www-authenticate",
].map((line) => {
  const blank = line.indexOf(" ");
  const [name, value] = blank < 0 ? [line, ""] : [line.slice(0, blank), line.slice(blank + 1)];
  return new HeaderField(name, value, true);
});
const empty = new Uint8Array(0);
export const staticTableEntries = staticTable.length;

const nameShape = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// oxlint-disable-next-line no-control-regex
const forbiddenInValue = /[\0\r\n]/;

/** Entries whose slots were given up are cut off the front when there are this many. */
const vacatedMax = 128;

/** Decodes the header blocks of one connection, in the order in which they arrive. */
export class HpackDecoder {
  /** Oldest first, from `#first` on. */
  #dynamic: HeaderField[] = [];
  #first = 0;
  #dynamicBytes = 0;
  #limitBytes = tableBytesDefault;
  #bytes: Uint8Array = empty;
  #at = 0;
  #end = 0;
  /** Changes whenever the dynamic table does: a block read before may mean something else now. */
  version = 0;

  /** Tells the headers of `block[start, end)`; throws a plain Error for a broken block. */
  decode(block: Uint8Array, start: number, end: number, sink: HeaderSink): void {
    this.#bytes = block;
    this.#at = start;
    this.#end = end;
    let sizeUpdates = 0;
    while (this.#at < end) {
      const first = block[this.#at]!;
      if (first >= 0x80) {
        sizeUpdates = Number.POSITIVE_INFINITY;
        sink.header(this.#entry(this.#integer(7)));
      } else if (first >= 0x40) {
        sizeUpdates = Number.POSITIVE_INFINITY;
        const field = this.#literal(6);
        this.#insert(field);
        sink.header(field);
      } else if (first >= 0x20) {
        // At most two, before the first header (RFC 7541, 4.2).
        if (++sizeUpdates > 2) throw new Error("HPACK: table size update out of place");
        this.#resize(this.#integer(5));
      } else {
        sizeUpdates = Number.POSITIVE_INFINITY;
        sink.header(this.#literal(4));
      }
    }
    this.#bytes = empty;
  }

  #literal(prefixBits: number): HeaderField {
    const index = this.#integer(prefixBits);
    if (index === 0) {
      const name = this.#string();
      const value = this.#string();
      return new HeaderField(name, value, nameShape.test(name) && !forbiddenInValue.test(value));
    }
    const { name, valid } = this.#entry(index);
    const value = this.#string();
    return new HeaderField(name, value, valid && !forbiddenInValue.test(value));
  }

  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 28) throw new Error("HPACK: integer too long");
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  #byte(): number {
    if (this.#at >= this.#end) throw new Error("HPACK: block ends early");
    return this.#bytes[this.#at++]!;
  }

  #string(): string {
    const huffman = this.#at < this.#end && this.#bytes[this.#at]! >= 0x80;
    const length = this.#integer(7);
    const start = this.#at;
    this.#at += length;
    if (this.#at > this.#end) throw new Error("HPACK: block ends early");
    if (huffman) return decodeHuffman(this.#bytes, start, this.#at);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, length).toString("latin1");
  }

  #entry(index: number): HeaderField {
    const field =
      index <= staticTableEntries
        ? staticTable[index - 1]
        : index - staticTableEntries <= this.#dynamic.length - this.#first
          ? this.#dynamic[this.#dynamic.length - (index - staticTableEntries)]
          : undefined;
    if (field === undefined) throw new Error(`HPACK: no entry ${index}`);
    return field;
  }

  #insert(field: HeaderField): void {
    this.version++;
    this.#dynamic.push(field);
    this.#dynamicBytes += field.bytes;
    this.#evict();
  }

  #resize(limitBytes: number): void {
    if (limitBytes > tableBytesDefault) throw new Error("HPACK: table size above what was announced");
    this.version++;
    this.#limitBytes = limitBytes;
    this.#evict();
  }

  #evict(): void {
    while (this.#dynamicBytes > this.#limitBytes) {
      this.#dynamicBytes -= this.#dynamic[this.#first]!.bytes;
      this.#first++;
    }
    if (this.#first >= vacatedMax) {
      this.#dynamic = this.#dynamic.slice(this.#first);
      this.#first = 0;
    }
  }
}

/** An integer behind the `pattern` bits of its first byte (RFC 7541, 5.1). */
export function integerBytes(pattern: number, prefixBits: number, value: number): Buffer {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) return Buffer.of(pattern | value);
  const bytes = [pattern | mask];
  let rest = value - mask;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
