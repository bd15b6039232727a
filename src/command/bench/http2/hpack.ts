/** HPACK (RFC 7541): a full decoder, and an encoder for the few headers that a gRPC client sends. */
import { decodeHuffman } from "./huffman";

/** The static table, name and value divided by the first blank; the first entry has index 1. */
const staticTable: readonly (readonly [name: string, value: string])[] = [
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
  return blank < 0 ? ([line, ""] as const) : ([line.slice(0, blank), line.slice(blank + 1)] as const);
});

const tableBytesDefault = 4096;
/** What an entry costs beyond its name and value. */
const entryOverheadBytes = 32;

/** Decodes the header blocks of one connection, in the order in which they arrive. */
export class HpackDecoder {
  /** Newest first. */
  readonly #dynamic: (readonly [name: string, value: string])[] = [];
  #dynamicBytes = 0;
  #limitBytes = tableBytesDefault;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** Calls back for each header; throws a plain Error for a broken block. */
  decode(block: Uint8Array, header: (name: string, value: string) => void): void {
    this.#bytes = block;
    this.#at = 0;
    while (this.#at < block.length) {
      const first = block[this.#at]!;
      if (first >= 0x80) {
        const [name, value] = this.#entry(this.#integer(7));
        header(name, value);
      } else if (first >= 0x40) {
        const [name, value] = this.#literal(6);
        this.#insert(name, value);
        header(name, value);
      } else if (first >= 0x20) {
        this.#limitBytes = this.#integer(5);
        this.#evict();
      } else {
        const [name, value] = this.#literal(4);
        header(name, value);
      }
    }
  }

  #literal(prefixBits: number): readonly [name: string, value: string] {
    const index = this.#integer(prefixBits);
    const name = index === 0 ? this.#string() : this.#entry(index)[0];
    return [name, this.#string()];
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
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new Error("HPACK: block ends early");
    return byte;
  }

  #string(): string {
    const huffman = (this.#bytes[this.#at] ?? 0) >= 0x80;
    const length = this.#integer(7);
    const start = this.#at;
    this.#at += length;
    if (this.#at > this.#bytes.length) throw new Error("HPACK: block ends early");
    if (huffman) return decodeHuffman(this.#bytes, start, this.#at);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, length).toString("latin1");
  }

  #entry(index: number): readonly [name: string, value: string] {
    const entry =
      index <= staticTable.length ? staticTable[index - 1] : this.#dynamic[index - staticTable.length - 1];
    if (entry === undefined) throw new Error(`HPACK: no entry ${index}`);
    return entry;
  }

  #insert(name: string, value: string): void {
    this.#dynamic.unshift([name, value]);
    this.#dynamicBytes += name.length + value.length + entryOverheadBytes;
    this.#evict();
  }

  #evict(): void {
    while (this.#dynamicBytes > this.#limitBytes) {
      const [name, value] = this.#dynamic.pop()!;
      this.#dynamicBytes -= name.length + value.length + entryOverheadBytes;
    }
  }
}

/** Below this the encoder does not use the server's table, so that it never has to think of eviction. */
const usableTableBytes = tableBytesDefault;

/**
 * Encodes the request headers of gRPC calls on one connection. The first call of a path enters its headers into
 * the server's table, later ones take one byte per header, as other clients do.
 */
export class RequestHeaderEncoder {
  readonly #blocks = new Map<string, Buffer>();
  #entered = 0;
  #enteredBytes = 0;
  #authorityAt = -1;
  #contentTypeAt = -1;
  #trailersAt = -1;
  #sizeUpdateDue: boolean;
  readonly #indexing: boolean;
  #paths: readonly (readonly [path: string, at: number])[] = [];

  constructor(
    private readonly authority: string,
    private readonly secure: boolean,
    serverTableBytes: number,
  ) {
    this.#indexing = serverTableBytes >= usableTableBytes;
    this.#sizeUpdateDue = !this.#indexing;
  }

  /** The block of one call; blocks must be sent in the order in which they were asked for. */
  encode(path: string): Buffer {
    const known = this.#blocks.get(path);
    if (known !== undefined) return known;
    const first = this.#sizeUpdateDue;
    const parts: Buffer[] = [];
    if (this.#sizeUpdateDue) {
      parts.push(Buffer.of(0x20));
      this.#sizeUpdateDue = false;
    }
    parts.push(Buffer.of(0x83, this.secure ? 0x87 : 0x86));
    const pathAt = this.#field(parts, 4, "", path, -1);
    this.#authorityAt = this.#field(parts, 1, "", this.authority, this.#authorityAt);
    this.#contentTypeAt = this.#field(parts, 31, "", "application/grpc", this.#contentTypeAt);
    this.#trailersAt = this.#field(parts, 0, "te", "trailers", this.#trailersAt);
    if (pathAt >= 0) {
      // Entering another path shifts every index, so that all blocks are made anew.
      const paths = [...this.#paths, [path, pathAt] as const];
      this.#paths = paths;
      for (const [one, at] of paths) this.#blocks.set(one, this.#indexedBlock(at));
    }
    const block = Buffer.concat(parts);
    if (!this.#indexing && !first) this.#blocks.set(path, block);
    return block;
  }

  #indexedBlock(pathAt: number): Buffer {
    const parts: Buffer[] = [Buffer.of(0x83, this.secure ? 0x87 : 0x86)];
    for (const at of [pathAt, this.#authorityAt, this.#contentTypeAt, this.#trailersAt]) {
      parts.push(integerBytes(0x80, 7, this.#indexOf(at)));
    }
    return Buffer.concat(parts);
  }

  #indexOf(enteredAt: number): number {
    return staticTable.length + this.#entered - enteredAt;
  }

  /** Appends one header; answers when it was entered into the table, or -1 if it is not there. */
  #field(parts: Buffer[], nameIndex: number, name: string, value: string, enteredAt: number): number {
    if (enteredAt >= 0) {
      parts.push(integerBytes(0x80, 7, this.#indexOf(enteredAt)));
      return enteredAt;
    }
    const bytes = (name.length || 16) + value.length + entryOverheadBytes;
    const enter = this.#indexing && this.#enteredBytes + bytes <= usableTableBytes;
    parts.push(enter ? integerBytes(0x40, 6, nameIndex) : integerBytes(0, 4, nameIndex));
    if (nameIndex === 0) parts.push(integerBytes(0, 7, name.length), Buffer.from(name, "latin1"));
    const encoded = Buffer.from(value, "latin1");
    parts.push(integerBytes(0, 7, encoded.length), encoded);
    if (!enter) return -1;
    this.#enteredBytes += bytes;
    return this.#entered++;
  }
}

function integerBytes(pattern: number, prefixBits: number, value: number): Buffer {
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
