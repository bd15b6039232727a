/** The header that every answer of a member carries. */
import { create } from "@bufbuild/protobuf";
import type { ClusterId, MemberId, Revision, Term } from "../ids";
import { type ResponseHeader, ResponseHeaderSchema } from "../proto/gen/etcd/rpc_pb";
import { varintSize, writeVarint, writeVarint64 } from "../proto/wire";

/** Makes the response headers of one member. */
export class Headers {
  readonly #clusterId: ClusterId;
  readonly #memberId: MemberId;
  readonly #term: () => Term;
  /** cluster_id and member_id, which never change. */
  readonly #ids: Uint8Array;

  constructor(clusterId: ClusterId, memberId: MemberId, term: () => Term) {
    this.#clusterId = clusterId;
    this.#memberId = memberId;
    this.#term = term;
    const ids = new Uint8Array(22);
    ids[0] = 0x08;
    const at = writeVarint64(ids, 1, clusterId);
    ids[at] = 0x10;
    this.#ids = ids.slice(0, writeVarint64(ids, at + 1, memberId));
  }

  /** The header as a message; revision 0 is left out on the wire, as the Cluster service does. */
  message(revision: Revision): ResponseHeader {
    return create(ResponseHeaderSchema, {
      clusterId: this.#clusterId,
      memberId: this.#memberId,
      revision: BigInt(revision),
      raftTerm: BigInt(this.#term()),
    });
  }

  /** The header's own bytes, without tag and length. */
  bytes(revision: Revision): Uint8Array {
    const field = this.field(revision);
    return field.subarray(2);
  }

  /** The header as field 1 of an answer: tag, length, content. Shorter than 128 bytes, so one length byte. */
  field(revision: Revision): Uint8Array {
    const term = this.#term();
    const length =
      this.#ids.length +
      (revision > 0 ? 1 + varintSize(revision) : 0) +
      (term > 0 ? 1 + varintSize(term) : 0);
    const bytes = Buffer.allocUnsafe(2 + length);
    bytes[0] = 0x0a;
    bytes[1] = length;
    bytes.set(this.#ids, 2);
    let at = 2 + this.#ids.length;
    if (revision > 0) {
      bytes[at++] = 0x18;
      at = writeVarint(bytes, at, revision);
    }
    if (term > 0) {
      bytes[at++] = 0x20;
      writeVarint(bytes, at, term);
    }
    return bytes;
  }
}
