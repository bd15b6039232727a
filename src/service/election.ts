/** The Election service: a program over KV, leases and watches (etcd-wire section 9). */
import { create } from "@bufbuild/protobuf";
import { compareBytes, prefixRangeEnd } from "../bytes";
import type { KeyValue } from "../proto/gen/etcd/kv_pb";
import { Event_EventType } from "../proto/gen/etcd/kv_pb";
import type {
  CampaignRequest,
  CampaignResponse,
  LeaderKey,
  LeaderRequest,
  LeaderRequestSchema,
  LeaderResponse,
  ProclaimRequest,
  ProclaimResponse,
  ResignRequest,
  ResignResponse,
} from "../proto/gen/etcd/election_pb";
import {
  CampaignResponseSchema,
  LeaderResponseSchema,
  ProclaimResponseSchema,
  ResignResponseSchema,
} from "../proto/gen/etcd/election_pb";
import type { ResponseHeader, TxnResponse } from "../proto/gen/etcd/rpc_pb";
import type { Call, ServerStream } from "../transport/call";
import type { KvBackend, WatchBackend } from "./backend";
import { InternalWatch, type Lifeline } from "./internal-watch";
import {
  foundBy,
  guarded,
  keyRequest,
  leave,
  leaveQuietly,
  oldestRequest,
  placeKey,
  programError,
  putOp,
  queuePrefix,
  range,
  rangeOp,
  runProgram,
  sessionLease,
  waitForTurn,
} from "./queue";
import type { Place } from "./queue";

type ObserveStream = ServerStream<typeof LeaderRequestSchema, typeof LeaderResponseSchema>;

export class ElectionService {
  readonly #kv: KvBackend;
  readonly #watch: WatchBackend;

  constructor(kv: KvBackend, watch: WatchBackend) {
    this.#kv = kv;
    this.#watch = watch;
  }

  /** Waits until the caller's lease leads the election. */
  campaign(request: CampaignRequest, call: Call): Promise<CampaignResponse> {
    const kv = this.#kv;
    return runProgram(call, this.#watch, async (lifeline) => {
      const lease = await sessionLease(kv, request.lease, call);
      const key = placeKey(request.name, lease);
      const entered = await guarded(
        kv,
        { key, createRevision: 0n },
        [putOp(key, request.value, lease)],
        [rangeOp(keyRequest(key))],
        call,
      );
      let rev = entered.header!.revision;
      if (!entered.succeeded) {
        const present = foundBy(entered, 0)[0]!;
        rev = present.createRevision;
        if (compareBytes(present.value, request.value) !== 0) {
          await this.#proclaim({ key, createRevision: rev }, request.value, lease, call);
        }
      }
      const place = { key, createRevision: rev };
      let own;
      try {
        own = await waitForTurn(kv, this.#watch, queuePrefix(request.name), place, call, lifeline);
      } catch (error) {
        if (lifeline.ended !== undefined) await leaveQuietly(kv, place, call);
        throw error;
      }
      if (own === undefined) throw programError("election: not leader");
      return create(CampaignResponseSchema, {
        header: entered.header!,
        leader: { name: request.name, key, rev, lease },
      });
    });
  }

  /** Changes the leader's value, if the caller still leads. */
  proclaim(request: ProclaimRequest, call: Call): Promise<ProclaimResponse> {
    return runProgram(call, this.#watch, async () => {
      const leader = present(request.leader);
      const lease = await sessionLease(this.#kv, leader.lease, call);
      const place = { key: leader.key, createRevision: leader.rev };
      const answer = await this.#proclaim(place, request.value, lease, call);
      return create(ProclaimResponseSchema, { header: answer.header! });
    });
  }

  /** Gives leadership up; nothing happens when it is lost already. */
  resign(request: ResignRequest, call: Call): Promise<ResignResponse> {
    return runProgram(call, this.#watch, async () => {
      const leader = present(request.leader);
      const answer = await leave(this.#kv, { key: leader.key, createRevision: leader.rev }, call);
      return create(ResignResponseSchema, { header: answer.header! });
    });
  }

  /** The present leader. */
  leader(request: LeaderRequest, call: Call): Promise<LeaderResponse> {
    return runProgram(call, this.#watch, async () => {
      const found = await range(this.#kv, oldestRequest(queuePrefix(request.name)), call);
      const kv = found.kvs[0];
      if (kv === undefined) throw programError("election: no leader");
      return create(LeaderResponseSchema, { header: found.header!, kv });
    });
  }

  /** The present leader, then each new value and each new leader, until the stream ends. */
  async observe(stream: ObserveStream, call: Call): Promise<void> {
    for await (const request of stream.requests) {
      const prefix = queuePrefix(request.name);
      await runProgram(call, this.#watch, async (lifeline) => {
        for (;;) await this.#observeOne(stream, prefix, call, lifeline);
      });
    }
  }

  /** Reports one leader from its beginning to its end. */
  async #observeOne(
    stream: ObserveStream,
    prefix: Uint8Array,
    call: Call,
    lifeline: Lifeline,
  ): Promise<void> {
    lifeline.check();
    const found = await range(this.#kv, oldestRequest(prefix), call);
    let header = found.header!;
    let kv = found.kvs[0];
    if (kv === undefined) {
      const first = await this.#firstPut(prefix, header.revision, lifeline);
      if (first === undefined) return;
      kv = first.kv;
      header = { ...first.header, revision: kv.modRevision };
    }
    await report(stream, header, kv);
    const watch = new InternalWatch(this.#watch, lifeline);
    try {
      watch.watch(1n, { key: kv.key }, header.revision + 1n);
      for (;;) {
        const response = await watch.next();
        if (response.canceled) return;
        for (const event of response.events) {
          if (event.type === Event_EventType.DELETE) return;
          await report(stream, response.header!, event.kv!);
        }
      }
    } finally {
      watch.close();
    }
  }

  /** The first put under the prefix after a revision; undefined when history is gone and must be read again. */
  async #firstPut(
    prefix: Uint8Array,
    revision: bigint,
    lifeline: Lifeline,
  ): Promise<{ readonly header: ResponseHeader; readonly kv: KeyValue } | undefined> {
    const watch = new InternalWatch(this.#watch, lifeline);
    try {
      watch.watch(1n, { key: prefix, rangeEnd: prefixRangeEnd(prefix) }, revision + 1n, "puts");
      const response = await watch.next();
      const kv = response.events[0]?.kv;
      return kv === undefined ? undefined : { header: response.header!, kv };
    } finally {
      watch.close();
    }
  }

  async #proclaim(place: Place, value: Uint8Array, lease: bigint, call: Call): Promise<TxnResponse> {
    const answer = await guarded(this.#kv, place, [putOp(place.key, value, lease)], [], call);
    if (!answer.succeeded) throw programError("election: not leader");
    return answer;
  }
}

function present(leader: LeaderKey | undefined): LeaderKey {
  if (leader === undefined) throw programError('"leader" field must be provided');
  return leader;
}

async function report(stream: ObserveStream, header: ResponseHeader, kv: KeyValue): Promise<void> {
  if (!stream.send(create(LeaderResponseSchema, { header, kv }))) await stream.drained();
}
