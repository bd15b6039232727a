/** The Lease service (reference etcd-wire 8.6). */
import { create, toBinary } from "@bufbuild/protobuf";
import { fromBinaryString } from "../bytes";
import { refuse } from "../errors";
import { leaseTtlSecondsMax } from "../limits";
import type { Member } from "../member/member";
import {
  type LeaseGrantRequest,
  type LeaseGrantResponse,
  LeaseGrantResponseSchema,
  type LeaseKeepAliveRequestSchema,
  type LeaseKeepAliveResponseSchema,
  LeaseLeasesResponseSchema,
  type LeaseRevokeRequest,
  type LeaseRevokeResponse,
  LeaseRevokeResponseSchema,
  type LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import { encodeField, varint64Size, writeVarint64 } from "../proto/wire";
import { type Candidate, SortedRuns } from "../state/mvcc/sorted-runs";
import { type Answer, type Call, EncodedMessage, type ServerStream } from "../transport/call";
import { encodeKeepAlive, encodeRecords } from "./encode";

/** Leases, or keys of one, that are handled between two breaths: about a millisecond. */
const sliceMax = 2_000;

/** A lease as it is now. */
export interface DescribedLease {
  readonly grantedTtlSeconds: number;
  readonly remainingSeconds: number;
  readonly keys: readonly Uint8Array[];
  readonly moreKeys: boolean;
}

export class LeaseService {
  readonly #member: Member;
  readonly #ttlSecondsMin: number;
  /** Renewals answered, for metrics. */
  renewed = 0;

  constructor(member: Member) {
    this.#member = member;
    this.#ttlSecondsMin = Math.ceil((3 * member.options.electionTimeoutMs) / 2 / 1_000);
  }

  /** A TTL below the minimum is raised, and the answer says so; id 0 lets the server choose. */
  async leaseGrant(request: LeaseGrantRequest, call?: Call): Promise<LeaseGrantResponse> {
    if (request.TTL > BigInt(leaseTtlSecondsMax)) {
      // etcd judges alarms before it looks at the request.
      throw refuse(this.#member.activeAlarm() ?? "leaseTTLTooLarge");
    }
    const ttl = request.TTL < BigInt(this.#ttlSecondsMin) ? BigInt(this.#ttlSecondsMin) : request.TTL;
    const ID = request.ID === 0n ? this.#unusedId() : request.ID;
    const result = await this.#member.write(
      { case: "leaseGrant", value: { $typeName: "etcdserverpb.LeaseGrantRequest", ID, TTL: ttl } },
      "lease-grant",
      call?.idempotency,
    );
    return create(LeaseGrantResponseSchema, {
      header: this.#member.headers.message(result.revision),
      ID: result.id,
      TTL: BigInt(result.ttlSeconds),
    });
  }

  #unusedId(): bigint {
    for (;;) {
      const id = this.#member.randomId();
      if (id > 0n && this.#member.state.lease(id) === undefined) return id;
    }
  }

  async leaseRevoke(request: LeaseRevokeRequest, call?: Call): Promise<LeaseRevokeResponse> {
    const result = await this.#member.write(
      {
        case: "leaseRevoke",
        value: { $typeName: "keelson.LeaseRevoke", id: request.ID, expiredInTerm: 0n },
      },
      "lease-revoke",
      call?.idempotency,
    );
    return create(LeaseRevokeResponseSchema, { header: this.#member.headers.message(result.revision) });
  }

  /** One answer per request, in order; the header is taken before the renewal, so its revision is a lower bound. */
  async leaseKeepAlive(
    stream: ServerStream<typeof LeaseKeepAliveRequestSchema, typeof LeaseKeepAliveResponseSchema>,
    call: Call,
  ): Promise<void> {
    for await (const { ID } of stream.requests) {
      if (this.#member.stopping) throw refuse("stopped");
      const header = this.#member.headers.field(this.#member.revision);
      const renewed = this.#member.renewLease(ID);
      const ttlSeconds = typeof renewed === "number" ? renewed : await renewed;
      this.renewed++;
      if (call.canceled) return;
      if (!stream.send(encodeKeepAlive(header, ID, ttlSeconds))) await stream.drained();
    }
  }

  async leaseTimeToLive(
    request: LeaseTimeToLiveRequest,
    call?: Call,
  ): Promise<Answer<typeof LeaseTimeToLiveResponseSchema>> {
    const { ID } = request;
    const lease = await this.describe(ID, 0);
    const { headers, revision, state } = this.#member;
    const header = headers.message(revision);
    if (lease === undefined) return create(LeaseTimeToLiveResponseSchema, { header, ID, TTL: -1n });
    const answer = create(LeaseTimeToLiveResponseSchema, {
      header,
      ID,
      TTL: BigInt(lease.remainingSeconds),
      grantedTTL: BigInt(lease.grantedTtlSeconds),
    });
    if (!request.keys) return answer;
    const keys = state.keysOfLease(ID);
    if (keys.length <= sliceMax) {
      answer.keys = keys.sort().map(fromBinaryString);
      return answer;
    }
    const chunks: Uint8Array[] = [toBinary(LeaseTimeToLiveResponseSchema, answer)];
    for (let from = 0; from < keys.length; from += sliceMax) {
      await this.#breathe(call);
      chunks.push(encodeRecords(keyTag, keys.slice(from, from + sliceMax).map(fromBinaryString)));
    }
    return new EncodedMessage(chunks);
  }

  /** A lease, and up to so many of its keys, in order; undefined when there is none. */
  async describe(id: bigint, keysMax: number): Promise<DescribedLease | undefined> {
    const { state } = this.#member;
    const left = await this.#member.leaseTimeToLive(id);
    if (left === undefined || state.lease(id) === undefined) return undefined;
    const all = keysMax > 0 ? state.keysOfLease(id) : [];
    const keys = all.slice(0, keysMax).sort();
    return { ...left, keys: keys.map(fromBinaryString), moreKeys: all.length > keys.length };
  }

  /** Every lease, the ones that end first in front. As in etcd, those that this member knows: it asks nobody. */
  async leaseLeases(_request?: unknown, call?: Call): Promise<Answer<typeof LeaseLeasesResponseSchema>> {
    const header = this.#member.headers.message(this.#member.revision);
    const ids = await this.leaseIds(call);
    if (ids.length <= sliceMax) {
      return create(LeaseLeasesResponseSchema, { header, leases: ids.map((ID) => ({ ID })) });
    }
    const chunks: Uint8Array[] = [
      toBinary(LeaseLeasesResponseSchema, create(LeaseLeasesResponseSchema, { header })),
    ];
    for (let from = 0; from < ids.length; from += sliceMax) {
      await this.#breathe(call);
      chunks.push(Buffer.concat(ids.slice(from, from + sliceMax).map(encodeStatus)));
    }
    return new EncodedMessage(chunks);
  }

  /** The ids of all leases that this member knows, the ones that end first in front. */
  async leaseIds(call?: Call): Promise<bigint[]> {
    const { state, leases } = this.#member;
    const found: bigint[] = [];
    const sorted = new SortedRuns(false);
    let run: Candidate[] = [];
    for (const { id, grantedTtlSeconds } of state.eachLease()) {
      const rank = leases.remaining(id) ?? grantedTtlSeconds * 1_000;
      run.push({ sequence: found.length, position: found.length, rank });
      found.push(id);
      if (run.length < sliceMax) continue;
      sorted.add(run);
      run = [];
      await this.#breathe(call);
    }
    sorted.add(run);
    const ordered: bigint[] = [];
    while (ordered.length < found.length) {
      for (const place of sorted.take(sliceMax)) ordered.push(found[place]!);
      if (ordered.length < found.length) await this.#breathe(call);
    }
    return ordered;
  }

  /** Lets other work in; gives up when nobody waits any more. */
  async #breathe(call: Call | undefined): Promise<void> {
    await this.#member.soon();
    if (this.#member.stopping) throw refuse("stopped");
    if (call?.canceled === true) throw refuse("canceled");
  }
}

const statusTag = 0x12;
const keyTag = 0x2a;

/** One LeaseStatus of a LeaseLeasesResponse. */
function encodeStatus(id: bigint): Uint8Array {
  const status = new Uint8Array(1 + varint64Size(id));
  status[0] = 0x08;
  writeVarint64(status, 1, id);
  return encodeField(statusTag, status);
}
