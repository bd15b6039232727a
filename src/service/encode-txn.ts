/**
 * Large txn answers, encoded with pauses: 32 MB in one go would hold the event loop for a tenth of a second. Field
 * numbers are those of etcd/rpc.proto.
 */
import { toBinary } from "@bufbuild/protobuf";
import { type KeyValue, KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import {
  DeleteRangeResponseSchema,
  RangeResponseSchema,
  type ResponseOp,
  ResponseOpSchema,
  type TxnResponse,
  TxnResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import { varintSize, writeVarint } from "../proto/wire";
import { EncodedMessage } from "../transport/call";
import { encodeRecords, rangeRecordTag } from "./encode";

/** Answers with more key-values than this, or more bytes in them, are encoded with pauses. */
const atOnceKeysMax = 1_000;
const atOnceBytesMax = 512 * 1024;
/** Key-values and bytes encoded between two pauses: about a millisecond. */
const sliceKeys = 500;
const sliceBytes = 1024 * 1024;

const deletedRecordTag = 0x1a;
const tags = { responses: 0x1a, range: 0x0a, deleteRange: 0x1a, txn: 0x22 } as const;

/** Whether {@link encodeTxn} should be used. */
export function isLargeTxn(response: TxnResponse): boolean {
  const { keys, bytes } = sizeOf(response);
  return keys > atOnceKeysMax || bytes > atOnceBytesMax;
}

function sizeOf({ responses }: TxnResponse): { keys: number; bytes: number } {
  const size = { keys: 0, bytes: 0 };
  const add = (records: readonly KeyValue[]): void => {
    size.keys += records.length;
    for (const { key, value } of records) size.bytes += key.length + value.length;
  };
  for (const { response } of responses) {
    if (response.case === "responseRange") add(response.value.kvs);
    else if (response.case === "responseDeleteRange") add(response.value.prevKvs);
    else if (response.case === "responseTxn") {
      const inner = sizeOf(response.value);
      size.keys += inner.keys;
      size.bytes += inner.bytes;
    }
  }
  return size;
}

/** The encoded answer. `breathe` lets other work run, and throws when nobody wants the answer any more. */
export async function encodeTxn(
  response: TxnResponse,
  breathe: () => Promise<void>,
): Promise<EncodedMessage> {
  return new EncodedMessage((await new SlicedEncoder(breathe).txn(response)).list);
}

/** Chunks, and how many bytes they have together. */
class Chunks {
  readonly list: Uint8Array[] = [];
  bytes = 0;

  push(chunk: Uint8Array): void {
    this.list.push(chunk);
    this.bytes += chunk.length;
  }

  /** Adds others as one length-delimited field. */
  field(tag: number, content: Chunks): void {
    const prefix = new Uint8Array(1 + varintSize(content.bytes));
    prefix[0] = tag;
    writeVarint(prefix, 1, content.bytes);
    this.push(prefix);
    for (const chunk of content.list) this.push(chunk);
  }
}

class SlicedEncoder {
  readonly #breathe: () => Promise<void>;

  constructor(breathe: () => Promise<void>) {
    this.#breathe = breathe;
  }

  async txn(response: TxnResponse): Promise<Chunks> {
    const chunks = new Chunks();
    chunks.push(toBinary(TxnResponseSchema, { ...response, responses: [] }));
    for (const op of response.responses) chunks.field(tags.responses, await this.#op(op));
    return chunks;
  }

  async #op(op: ResponseOp): Promise<Chunks> {
    const chunks = new Chunks();
    const { response } = op;
    switch (response.case) {
      case "responseRange": {
        const { value } = response;
        const shell = toBinary(RangeResponseSchema, { ...value, kvs: [] });
        chunks.field(tags.range, await this.#records(shell, rangeRecordTag, value.kvs));
        break;
      }
      case "responseDeleteRange": {
        const { value } = response;
        const shell = toBinary(DeleteRangeResponseSchema, { ...value, prevKvs: [] });
        chunks.field(tags.deleteRange, await this.#records(shell, deletedRecordTag, value.prevKvs));
        break;
      }
      case "responseTxn":
        chunks.field(tags.txn, await this.txn(response.value));
        break;
      default:
        chunks.push(toBinary(ResponseOpSchema, op));
    }
    return chunks;
  }

  async #records(shell: Uint8Array, tag: number, records: readonly KeyValue[]): Promise<Chunks> {
    const chunks = new Chunks();
    chunks.push(shell);
    for (let at = 0; at < records.length;) {
      const slice: Uint8Array[] = [];
      for (let bytes = 0; at < records.length && slice.length < sliceKeys && bytes < sliceBytes; at++) {
        const record = toBinary(KeyValueSchema, records[at]!);
        slice.push(record);
        bytes += record.length;
      }
      chunks.push(encodeRecords(tag, slice));
      await this.#breathe();
    }
    return chunks;
  }
}
