/** The KV service: ranges, puts, deletes, transactions, compaction (reference etcd-wire 8.1–8.4, 8.7). */
import type { WorkContext } from "../member/housekeeping";
import type { Member } from "../member/member";
import { GrpcCode, refuse, StoreError } from "../errors";
import type { Revision } from "../ids";
import type {
  CompactionRequest,
  CompactionResponse,
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RangeRequestSchema,
  RangeStreamResponseSchema,
  TxnRequest,
  TxnResponse,
} from "../proto/gen/etcd/rpc_pb";
import {
  RangeRequest_SortOrder as SortOrder,
  RangeRequest_SortTarget as SortTarget,
} from "../proto/gen/etcd/rpc_pb";
import type { KeyValue } from "../proto/gen/etcd/kv_pb";
import { encodeField } from "../proto/wire";
import { parseRecord } from "../state/mvcc/record";
import { checkDeleteRange, checkPut, checkRange, checkTxn, isReadOnlyTxn } from "../state/validate";
import type { RangeAnswer, SlicedRange } from "../state/results";
import { type Call, EncodedMessage, type ServerStream } from "../transport/call";
import { encodeDeleteRange, encodePut, encodeRangeEnd, encodeRecords, rangeRecordTag } from "./encode";
import { encodeTxn, isLargeTxn } from "./encode-txn";
import { Gate } from "./gate";

/** Ranges over more keys than this, or of more bytes, are read in slices. */
const rangeAtOnceKeysMax = 1_000;
const rangeAtOnceBytesMax = 4 * 1024 ** 2;
/** What one step of a large range covers: under a millisecond, so that the pauses of the collector come between two. */
const sliceKeysMax = 256;
const sliceBytesMax = 512 * 1024;
/** Steps follow one another for so long before other work is let in, and to so many bytes in one chunk. */
const sliceMs = 3;
/** The most keys in one chunk of a streamed range. */
const chunkKeysMax = 500;
/** Large ranges that are put together at the same time; more wait. */
const largeRangesMax = 4;
/** The first chunk of a streamed range; later ones double or halve around the request limit. */
const firstChunkKeys = 10;
/** A reader that takes nothing for so long loses its place once its revision is compacted; looked at so often. */
const stalledReaderMs = 10_000;
const stalledLookMs = 1_000;

/** A stored key in its parts. The bytes are the store's own: not to be changed. */
export type KeyParts = Omit<KeyValue, "$typeName" | "$unknown">;

export interface KvServiceOptions {
  readonly txnOpsMax: number;
  readonly requestBytesMax: number;
}

export class KvService {
  readonly #member: Member;
  readonly #options: KvServiceOptions;
  readonly #largeRanges = new Gate(largeRangesMax);

  constructor(member: Member, options: KvServiceOptions) {
    this.#member = member;
    this.#options = options;
  }

  /** The most operations, or compares, that one transaction may have. */
  get txnOpsMax(): number {
    return this.#options.txnOpsMax;
  }

  async range(request: RangeRequest, call: Call): Promise<EncodedMessage> {
    checkRange(request);
    if (!request.serializable) await this.#member.linearizable();
    this.#refuseWhenDamaged();
    const answer = this.#rangeAtOnce(request);
    if (answer === undefined) return this.#largeRanges.pass(() => this.#rangeInSlices(request, call));
    const { revision, records, more, count } = answer;
    const chunks = [this.#member.headers.field(revision)];
    if (records.length > 0) chunks.push(encodeRecords(rangeRecordTag, records));
    if (count > 0 || more) chunks.push(encodeRangeEnd(more, count));
    return new EncodedMessage(chunks);
  }

  /** Undefined: that would hold the event loop for too long. */
  #rangeAtOnce(request: RangeRequest): RangeAnswer | undefined {
    const { state } = this.#member;
    if (request.rangeEnd.length === 0) return state.range(request);
    const keys = state.rangeCost(request);
    if (keys > rangeAtOnceKeysMax) return undefined;
    if (keys * state.longestRecordBytes <= rangeAtOnceBytesMax) return state.range(request);
    // Some records are long; whether these are is seen by reading them.
    const sliced = state.rangeSliced(request);
    try {
      const { records, done, more, count } = sliced.next(rangeAtOnceKeysMax, rangeAtOnceBytesMax);
      return done ? { revision: sliced.revision, records, more, count } : undefined;
    } finally {
      sliced.close();
    }
  }

  /** Stricter than etcd, whose members go on answering from data that is known to differ from the others'. */
  #refuseWhenDamaged(): void {
    if (this.#member.consistency.damaged) throw refuse("corrupt");
  }

  async #rangeInSlices(request: RangeRequest, call: Call): Promise<EncodedMessage> {
    const sliced = this.#member.state.rangeSliced(request);
    try {
      const chunks = [this.#member.headers.field(sliced.revision)];
      let sinceMs = this.#member.monotonicMs();
      for (;;) {
        const { records, done, more, count } = sliced.next(sliceKeysMax, sliceBytesMax);
        if (records.length > 0) chunks.push(encodeRecords(rangeRecordTag, records));
        if (done) {
          chunks.push(encodeRangeEnd(more, count));
          return new EncodedMessage(chunks);
        }
        if (this.#member.monotonicMs() - sinceMs < sliceMs) continue;
        await this.#breathe(call);
        sinceMs = this.#member.monotonicMs();
      }
    } finally {
      sliced.close();
    }
  }

  /** Lets other work in; gives up when the caller has gone. */
  async #breathe(call: Call): Promise<void> {
    await this.#member.soon();
    if (this.#member.stopping) throw refuse("stopped");
    if (call.canceled) throw refuse("canceled");
  }

  /** etcd 3.7's streamed range: the parts of one answer, all at one revision (reference etcd-wire 10). */
  async rangeStream(
    stream: ServerStream<typeof RangeRequestSchema, typeof RangeStreamResponseSchema>,
    call: Call,
  ): Promise<void> {
    for await (const request of stream.requests) {
      checkRange(request);
      refuseUnstreamable(request);
      if (!request.serializable) await this.#member.linearizable();
      this.#refuseWhenDamaged();
      const sliced = this.#member.state.rangeSliced(request);
      try {
        const at = request.revision > 0n ? Number(request.revision) : sliced.revision;
        await this.#sendChunks(sliced, at, stream, call);
      } finally {
        sliced.close();
      }
    }
  }

  async #sendChunks(
    sliced: SlicedRange,
    at: Revision,
    stream: ServerStream<typeof RangeRequestSchema, typeof RangeStreamResponseSchema>,
    call: Call,
  ): Promise<void> {
    const { headers } = this.#member;
    const targetBytes = this.#options.requestBytesMax;
    let keysMax = firstChunkKeys;
    for (;;) {
      const { records, done, more, count } = sliced.next(keysMax, 2 * targetBytes);
      const kvs = encodeRecords(rangeRecordTag, records);
      if (done) {
        const last = Buffer.concat([headers.field(sliced.revision), kvs, encodeRangeEnd(more, count)]);
        stream.send(new EncodedMessage([encodeField(0x0a, last)]));
        return;
      }
      if (kvs.length > 0) {
        if (!stream.send(new EncodedMessage([encodeField(0x0a, kvs)]))) await this.#drained(stream, at);
        if (kvs.length < targetBytes / 2) keysMax = Math.min(keysMax * 2, chunkKeysMax);
        else if (kvs.length > targetBytes * 2) keysMax = Math.max(1, keysMax >> 1);
      }
      await this.#breathe(call);
    }
  }

  /** Waits until the client takes more, but does not let one that stalls keep compacted rows for ever. */
  async #drained(
    stream: ServerStream<typeof RangeRequestSchema, typeof RangeStreamResponseSchema>,
    at: Revision,
  ): Promise<void> {
    const drained = stream.drained().then(() => true);
    for (let waitedMs = 0; ; waitedMs += stalledLookMs) {
      if (await Promise.race([drained, this.#member.pause(stalledLookMs).then(() => false)])) return;
      if (waitedMs >= stalledReaderMs && this.#member.state.compactedRevision > at) throw refuse("compacted");
    }
  }

  async put(request: PutRequest): Promise<EncodedMessage> {
    checkPut(request);
    const result = await this.#member.write({ case: "put", value: request }, "put");
    return encodePut(this.#member.headers.field(result.revision), result.previous);
  }

  /** A range over one key, answering its record in parts instead of a message: a third of a REST read's cost. */
  async getKey(request: RangeRequest): Promise<{ revision: number; kv: KeyParts | undefined }> {
    checkRange(request);
    if (!request.serializable) await this.#member.linearizable();
    this.#refuseWhenDamaged();
    const { revision, records } = this.#member.state.range(request);
    const record = records[0];
    if (record === undefined) return { revision, kv: undefined };
    const { create, mod, version, lease, keyStart, keyEnd, valueStart, valueEnd } = parseRecord(record);
    return {
      revision,
      kv: {
        key: record.subarray(keyStart, keyEnd),
        createRevision: BigInt(create),
        modRevision: BigInt(mod),
        version: BigInt(version),
        lease,
        value: record.subarray(valueStart, valueEnd),
      },
    };
  }

  /** As {@link put}, answering what the wire's answer has no room for: the key's version, 1 when it was created. */
  async putVersion(request: PutRequest, call: Call): Promise<{ revision: number; version: number }> {
    checkPut(request);
    return this.#member.write({ case: "put", value: request }, "put", call.idempotency);
  }

  async deleteRange(request: DeleteRangeRequest, call?: Call): Promise<EncodedMessage> {
    checkDeleteRange(request);
    const result = await this.#member.write(
      { case: "deleteRange", value: request },
      "delete-range",
      call?.idempotency,
    );
    return encodeDeleteRange(this.#member.headers.field(result.revision), result.deleted, result.previous);
  }

  async txn(request: TxnRequest, call: Call): Promise<TxnResponse | EncodedMessage> {
    const response = await this.txnResponse(request, call);
    return isLargeTxn(response) ? encodeTxn(response, () => this.#member.soon()) : response;
  }

  /** As {@link txn}, as a message however large it is. */
  async txnResponse(request: TxnRequest, call: Call): Promise<TxnResponse> {
    checkTxn(request, this.#options.txnOpsMax);
    if (isReadOnlyTxn(request)) {
      if (!isSerializableTxn(request)) await this.#member.linearizable();
      this.#refuseWhenDamaged();
      return this.#readTxn(request, call);
    }
    const result = await this.#member.write({ case: "txn", value: request }, "txn", call.idempotency);
    return this.#withHeader(result.response, result.revision);
  }

  /** Almost always one slice; a txn with large ranges lets other work in between. */
  async #readTxn(request: TxnRequest, call: Call): Promise<TxnResponse> {
    const { revision } = this.#member;
    const sliced = this.#member.state.readTxnSliced(request);
    try {
      for (;;) {
        const response = sliced.next();
        if (response !== undefined) return this.#withHeader(response, revision);
        await this.#breathe(call);
      }
    } finally {
      sliced.close();
    }
  }

  #withHeader(response: TxnResponse, revision: Revision): TxnResponse {
    response.header = this.#member.headers.message(revision);
    return response;
  }

  /** Resolves when the rows that compactions made superfluous are gone from this member. */
  compactionFinished(by?: WorkContext): Promise<void> {
    return this.#member.housekeeping.compactionFinished(by);
  }

  async compact(request: CompactionRequest): Promise<CompactionResponse> {
    const result = await this.#member.write({ case: "compaction", value: request }, "compaction");
    if (request.physical) await this.#member.housekeeping.compactionFinished();
    return {
      $typeName: "etcdserverpb.CompactionResponse",
      header: this.#member.headers.message(result.revision),
    };
  }
}

/** A read-only txn is answered from local state when all its ranges say so; without any it counts as such. */
function isSerializableTxn(request: TxnRequest): boolean {
  return [...request.success, ...request.failure].every(
    (operation) => operation.request.case === "requestRange" && operation.request.value.serializable,
  );
}

/** What cannot be streamed in key order at one pass. */
function refuseUnstreamable(request: RangeRequest): void {
  const natural =
    request.sortTarget === SortTarget.KEY &&
    (request.sortOrder === SortOrder.NONE || request.sortOrder === SortOrder.ASCEND);
  if (!natural) {
    throw new StoreError(GrpcCode.unimplemented, "RangeStream does not support custom sort orders");
  }
  const filtered =
    request.minModRevision !== 0n ||
    request.maxModRevision !== 0n ||
    request.minCreateRevision !== 0n ||
    request.maxCreateRevision !== 0n;
  if (filtered) {
    throw new StoreError(GrpcCode.unimplemented, "RangeStream does not support revision filters");
  }
}
