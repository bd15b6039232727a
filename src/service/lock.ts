/** The Lock service: a program over KV, leases and watches (etcd-wire section 9). */
import { create } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../errors";
import type { LockRequest, LockResponse, UnlockRequest, UnlockResponse } from "../proto/gen/etcd/lock_pb";
import { LockResponseSchema, UnlockResponseSchema } from "../proto/gen/etcd/lock_pb";
import { DeleteRangeRequestSchema, DeleteRangeResponseSchema } from "../proto/gen/etcd/rpc_pb";
import type { Call } from "../transport/call";
import { emptyBytes } from "../bytes";
import type { KvBackend, WatchBackend } from "./backend";
import { decodeAnswer } from "./backend";
import {
  foundBy,
  guarded,
  keyRequest,
  leaveQuietly,
  oldestRequest,
  placeKey,
  programError,
  putOp,
  queuePrefix,
  rangeOp,
  runProgram,
  sessionLease,
  waitForTurn,
} from "./queue";

function stillQueued(): StoreError {
  return new StoreError(
    GrpcCode.unavailable,
    "mutex: the place in the queue could not be given up; it ends with its lease",
    false,
  );
}

export class LockService {
  readonly #kv: KvBackend;
  readonly #watch: WatchBackend;

  constructor(kv: KvBackend, watch: WatchBackend) {
    this.#kv = kv;
    this.#watch = watch;
  }

  /**
   * Waits until the caller's lease holds the lock. Not mutual exclusion by itself: the key's create revision is
   * the fencing number that a guarded transaction compares. `queued` is told when somebody else holds it.
   */
  lock(request: LockRequest, call: Call, queued: () => void = () => {}): Promise<LockResponse> {
    const kv = this.#kv;
    return runProgram(call, this.#watch, async (lifeline) => {
      const lease = await sessionLease(kv, request.lease, call);
      const prefix = queuePrefix(request.name);
      const key = placeKey(request.name, lease);
      const oldest = rangeOp(oldestRequest(prefix));
      const entered = await guarded(
        kv,
        { key, createRevision: 0n },
        [putOp(key, emptyBytes, lease), oldest],
        [rangeOp(keyRequest(key)), oldest],
        call,
      );
      const createRevision = entered.succeeded
        ? entered.header!.revision
        : foundBy(entered, 0)[0]!.createRevision;
      const place = { key, createRevision };
      const holder = foundBy(entered, 1)[0];
      if (holder === undefined || holder.createRevision === createRevision) {
        // A caller that left while its key went in will never hear that it holds the lock.
        if (lifeline.ended !== undefined && entered.succeeded) await leaveQuietly(kv, place, call);
        lifeline.check();
        return create(LockResponseSchema, { header: entered.header!, key });
      }
      let own;
      try {
        queued();
        own = await waitForTurn(kv, this.#watch, prefix, place, call, lifeline);
      } catch (error) {
        const left = await leaveQuietly(kv, place, call);
        // A caller that gave up waiting, and still listens, may yet come to hold the lock.
        if (!left && error instanceof StoreError && error.code === GrpcCode.canceled) throw stillQueued();
        throw error;
      }
      if (own === undefined) throw programError("mutex: session is expired");
      return create(LockResponseSchema, { header: own.header!, key });
    });
  }

  /** Deletes the key; one that is gone is fine. */
  unlock(request: UnlockRequest, call: Call): Promise<UnlockResponse> {
    return runProgram(call, this.#watch, async () => {
      const remove = create(DeleteRangeRequestSchema, { key: request.key });
      const answer = decodeAnswer(DeleteRangeResponseSchema, await this.#kv.deleteRange(remove, call));
      return create(UnlockResponseSchema, { header: answer.header! });
    });
  }
}
