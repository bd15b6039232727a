/** Encodes the few headers that a gRPC client sends (HPACK, RFC 7541). */
import {
  entryOverheadBytes,
  integerBytes,
  staticTableEntries,
  tableBytesDefault,
} from "../../../transport/http2/hpack";

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
    return staticTableEntries + this.#entered - enteredAt;
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
