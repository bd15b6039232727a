/** The Maintenance service (reference etcd-wire 8.7–8.9). */
import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { refuse, StoreError, GrpcCode } from "../errors";
import { toCounter } from "../ids";
import { quotaBytesDefault } from "../limits";
import type { WorkContext } from "../member/housekeeping";
import type { Member } from "../member/member";
import type { DiskFile } from "../member/ports";
import {
  type AlarmRequest,
  type AlarmResponse,
  AlarmResponseSchema,
  AlarmType,
  type DefragmentResponse,
  DefragmentResponseSchema,
  type HashKVRequest,
  type HashKVResponse,
  HashKVResponseSchema,
  type HashResponse,
  HashResponseSchema,
  type MoveLeaderRequest,
  type MoveLeaderResponse,
  MoveLeaderResponseSchema,
  type SnapshotRequestSchema,
  SnapshotResponseSchema,
  type StatusResponse,
  StatusResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { HashAnswer } from "../state/results";
import type { Call, ServerStream } from "../transport/call";
import { etcdClusterVersion, etcdLevel } from "../version";
import { Gate } from "./gate";

/** Rows hashed between two breaths. */
const hashSliceRows = 2_000;
/** The size of a blob in a snapshot stream. */
const blobBytes = 32 * 1024;

export class MaintenanceService {
  readonly #member: Member;
  /** One copy at a time asks for the database's jobs, so that a checkpoint comes between any two. */
  readonly #copies = new Gate(1);

  constructor(member: Member) {
    this.#member = member;
  }

  async alarm(request: AlarmRequest): Promise<AlarmResponse> {
    const result = await this.#member.write({ case: "alarm", value: request }, "alarm");
    return create(AlarmResponseSchema, {
      header: this.#member.headers.message(result.revision),
      alarms: [...result.alarms],
    });
  }

  /** Local: needs no quorum. The size is never 0, because etcdctl divides by it. */
  async status(): Promise<StatusResponse> {
    const { state, headers, revision, leader, term, options } = this.#member;
    const { commit } = this.#member.status();
    const sizes = state.sizes();
    const errors = leader === 0n ? [refuse("noLeader").message] : [];
    for (const { memberID, alarm } of state.alarms()) {
      errors.push(`memberID:${memberID} alarm:${AlarmType[alarm] ?? alarm} `);
    }
    return create(StatusResponseSchema, {
      header: headers.message(revision),
      version: etcdLevel,
      dbSize: BigInt(sizes.totalBytes),
      leader,
      raftIndex: BigInt(commit),
      raftTerm: BigInt(term),
      raftAppliedIndex: BigInt(state.appliedIndex),
      errors,
      dbSizeInUse: BigInt(sizes.inUseBytes),
      isLearner: this.#member.isLearner,
      storageVersion: etcdClusterVersion,
      dbSizeQuota: BigInt(options.quotaBytes === 0 ? quotaBytesDefault : options.quotaBytes),
      downgradeInfo: {},
    });
  }

  /** Gives free space back while serving goes on. The answer has no header, as etcd's. */
  async defragment(_request?: unknown, _call?: Call, by?: WorkContext): Promise<DefragmentResponse> {
    await this.#member.housekeeping.defragment(by);
    return create(DefragmentResponseSchema);
  }

  /** Asked of the leader. The answer has no header, as etcd's. */
  async moveLeader({ targetID }: MoveLeaderRequest): Promise<MoveLeaderResponse> {
    await this.#member.transferLeader(targetID);
    return create(MoveLeaderResponseSchema);
  }

  /** Only good for comparing with itself: engines differ, so this hashes what HashKV hashes. */
  async hash(_request: unknown, call: Call): Promise<HashResponse> {
    const { hash, revision } = await this.#hash(0, call);
    return create(HashResponseSchema, { header: this.#member.headers.message(revision), hash });
  }

  async hashKV(request: HashKVRequest, call: Call): Promise<HashKVResponse> {
    if (request.revision > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse("futureRev");
    // A negative revision, whichever, lies before everything; etcd repeats it in its answer.
    const negative = request.revision < 0n;
    const asked = negative ? -1 : toCounter(request.revision, "revision");
    const { hash, compactRevision, hashRevision, revision } = await this.#hash(asked, call);
    return create(HashKVResponseSchema, {
      header: this.#member.headers.message(revision),
      hash,
      compactRevision: BigInt(compactRevision),
      hashRevision: negative && hashRevision === -1 ? request.revision : BigInt(hashRevision),
    });
  }

  async #hash(revision: number, call: Call): Promise<HashAnswer> {
    const sliced = this.#member.state.hashKV(revision);
    try {
      for (;;) {
        const answer = sliced.next(hashSliceRows);
        if (answer !== undefined) return answer;
        await this.#member.soon();
        if (this.#member.stopping) throw refuse("stopped");
        if (call.canceled) throw refuse("canceled");
      }
    } finally {
      sliced.close();
    }
  }

  /** The database as of now in blobs, then its SHA-256. Headers stay unset, as etcd leaves them. */
  async snapshot(
    stream: ServerStream<typeof SnapshotRequestSchema, typeof SnapshotResponseSchema>,
    call: Call,
  ): Promise<void> {
    for await (const _request of stream.requests) await this.#sendSnapshot(stream, call);
  }

  async #sendSnapshot(
    stream: ServerStream<typeof SnapshotRequestSchema, typeof SnapshotResponseSchema>,
    call: Call,
  ): Promise<void> {
    const { file, bytes } = await this.#copies.pass(() => this.#copy(call));
    try {
      const digest = createHash("sha256");
      for (let offset = 0; offset < bytes;) {
        if (call.canceled) throw refuse("canceled");
        const blob = file.read(offset, blobBytes);
        if (blob.length === 0) throw new StoreError(GrpcCode.unknown, "the snapshot file is too short");
        offset += blob.length;
        digest.update(blob);
        if (!this.#send(stream, blob, bytes - offset)) await stream.drained();
      }
      this.#send(stream, digest.digest(), 0);
    } finally {
      file.close();
    }
  }

  async #copy(call: Call): Promise<{ readonly file: DiskFile; readonly bytes: number }> {
    if (this.#member.stopping) throw refuse("stopped");
    if (call.canceled) throw refuse("canceled");
    const path = this.#member.scratchPath();
    const { bytes } = await this.#member.housekeeping.takeSnapshotFile(path);
    return { file: this.#member.openScratch(path), bytes };
  }

  #send(
    stream: ServerStream<typeof SnapshotRequestSchema, typeof SnapshotResponseSchema>,
    blob: Uint8Array,
    remainingBytes: number,
  ): boolean {
    return stream.send(
      create(SnapshotResponseSchema, {
        remainingBytes: BigInt(remainingBytes),
        blob,
        version: etcdClusterVersion,
      }),
    );
  }
}
