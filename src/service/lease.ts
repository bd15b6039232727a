/** The Lease service (reference etcd-wire 8.6). */
import { create } from "@bufbuild/protobuf";
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
  type LeaseLeasesResponse,
  LeaseLeasesResponseSchema,
  type LeaseRevokeRequest,
  type LeaseRevokeResponse,
  LeaseRevokeResponseSchema,
  type LeaseTimeToLiveRequest,
  type LeaseTimeToLiveResponse,
  LeaseTimeToLiveResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { Call, ServerStream } from "../transport/call";
import { encodeKeepAlive } from "./encode";

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

  async leaseTimeToLive(request: LeaseTimeToLiveRequest): Promise<LeaseTimeToLiveResponse> {
    const left = await this.#member.leaseTimeToLive(request.ID);
    const { state, headers, revision } = this.#member;
    const lease = state.lease(request.ID);
    const header = headers.message(revision);
    if (left === undefined || lease === undefined) {
      return create(LeaseTimeToLiveResponseSchema, { header, ID: request.ID, TTL: -1n });
    }
    return create(LeaseTimeToLiveResponseSchema, {
      header,
      ID: request.ID,
      TTL: BigInt(left.remainingSeconds),
      grantedTTL: BigInt(left.grantedTtlSeconds),
      keys: request.keys ? lease.keys.map(fromBinaryString) : [],
    });
  }

  /** Every lease, the ones that end first in front. */
  async leaseLeases(): Promise<LeaseLeasesResponse> {
    const { state, leases, headers, revision } = this.#member;
    const byExpiry = state
      .leases()
      .map(({ id, grantedTtlSeconds }) => ({ id, restMs: leases.remaining(id) ?? grantedTtlSeconds * 1_000 }))
      .sort((a, b) => a.restMs - b.restMs);
    return create(LeaseLeasesResponseSchema, {
      header: headers.message(revision),
      leases: byExpiry.map(({ id }) => ({ ID: id })),
    });
  }
}
