/** Leases, and locks as a convenience over them. */
import { create } from "@bufbuild/protobuf";
import { Type } from "@sinclair/typebox";
import { prefixRangeEnd } from "../../../bytes";
import { afterEffect, GrpcCode, refuse, StoreError } from "../../../errors";
import { Lock, LockRequestSchema } from "../../../proto/gen/etcd/lock_pb";
import {
  DeleteRangeRequestSchema,
  DeleteRangeResponseSchema,
  KV,
  Lease,
  LeaseGrantRequestSchema,
  type LeaseGrantResponse,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  LeaseRevokeRequestSchema,
  RangeRequest_SortTarget as Target,
  RangeRequestSchema,
  RangeResponseSchema,
} from "../../../proto/gen/etcd/rpc_pb";
import { decodeAnswer } from "../../../service/backend";
import { json } from "../answer";
import { byteField } from "../byte-fields";
import { hex16 } from "../key-json";
import { operation, type Operation, type RestRequest } from "../operation";
import { flag, hexId, integer } from "../parameters";
import { Problem } from "../problem";
import { PullStream } from "../pull-stream";
import { bytesProperties, Decimal, exactlyOne, HexId, HexIdIn, strict } from "../schemas";
import type { RestServices } from "../services";
import { keyOfPath } from "../target";

const int63Max = (1n << 63n) - 1n;
const id = hexId("The lease.", 63);
const Ttl = Type.Integer({
  minimum: 1,
  maximum: 9_000_000_000,
  description: "Seconds; raised to the least that the cluster grants.",
});
const KeyName = strict(bytesProperties("key", "The key"), exactlyOne("key"));
const LeaseShape = strict({
  id: HexId,
  grantedTtl: Decimal,
  remaining: Decimal,
  keys: Type.Array(KeyName),
  moreKeys: Type.Boolean(),
});
/** Keys of one lease that an answer names. */
const keysOfLeaseMax = 1_000;

type AnyRequest = RestRequest<unknown, unknown, unknown>;

function leaseId(text: string): bigint {
  const value = BigInt(`0x${text}`);
  if (value === 0n || value > int63Max)
    throw new Problem("bad-body", "A lease's id is above 0 and below 2^63.");
  return value;
}

/** A lease as it is now; undefined when there is none. */
async function describe({ lease }: RestServices, ID: bigint): Promise<object | undefined> {
  const found = await lease.describe(ID, keysOfLeaseMax);
  if (found === undefined) return undefined;
  return {
    id: hex16(ID),
    grantedTtl: BigInt(found.grantedTtlSeconds),
    remaining: BigInt(found.remainingSeconds),
    keys: found.keys.map((key) => byteField("key", key)),
    moreKeys: found.moreKeys,
  };
}

function grant(
  request: AnyRequest,
  { lease }: RestServices,
  TTL: number,
  ID = 0n,
): Promise<LeaseGrantResponse> {
  return lease.leaseGrant(
    create(LeaseGrantRequestSchema, { TTL: BigInt(TTL), ID }),
    request.call(Lease.method.leaseGrant),
  );
}

/** Renews once; answers the seconds that it has from now, 0 for a lease that is over. */
async function renew(request: AnyRequest, { lease }: RestServices, ID: bigint): Promise<bigint> {
  const call = request.call(Lease.method.leaseKeepAlive);
  const asked = create(LeaseKeepAliveRequestSchema, { ID });
  const stream = new PullStream<typeof LeaseKeepAliveRequestSchema, typeof LeaseKeepAliveResponseSchema>(
    LeaseKeepAliveResponseSchema,
    [asked],
  ).start((self) => lease.leaseKeepAlive(self, call));
  return (await stream.next())?.TTL ?? 0n;
}

export const leaseOperations: readonly Operation[] = [
  operation({
    id: "grantLease",
    method: "POST",
    path: "/leases",
    tag: "leases",
    summary: "Grant a lease",
    description: "Keys that are put with ?lease= vanish when it ends.",
    permission: "user",
    write: "replicated",
    body: { kind: "json", schema: strict({ ttl: Ttl, id: Type.Optional(HexIdIn) }) },
    answers: {
      201: {
        description: "It is granted.",
        content: [{ kind: "json", schema: strict({ id: HexId, ttl: Decimal, revision: Decimal }) }],
      },
    },
    problems: ["bad-parameter", "conflict", "no-space", "corrupt"],
    examples: [
      {
        summary: "A lease of a minute",
        target: "/leases",
        body: { ttl: 60, id: "694d71ddacfda227" },
        status: 201,
      },
    ],
    async handle(request, services) {
      const given = request.body.id;
      const granted = await grant(
        request,
        services,
        request.body.ttl,
        given === undefined ? 0n : leaseId(given),
      );
      return json(201, { id: hex16(granted.ID), ttl: granted.TTL, revision: granted.header!.revision });
    },
  }),
  operation({
    id: "listLeases",
    method: "GET",
    path: "/leases",
    tag: "leases",
    summary: "List leases",
    description: "With their keys and the seconds that are left; those that end first in front.",
    permission: "leases-read",
    write: "no",
    query: { limit: integer("Leases in the answer; 100 unless given.", 1, 1_000) },
    answers: {
      200: {
        description: "The leases.",
        content: [
          {
            kind: "json",
            schema: strict({ leases: Type.Array(LeaseShape), count: Decimal, more: Type.Boolean() }),
          },
        ],
      },
    },
    problems: ["bad-parameter"],
    examples: [{ summary: "All leases", target: "/leases", status: 200 }],
    async handle(request, services) {
      const limit = request.query.limit ?? 100;
      const ids = await services.lease.leaseIds();
      const described = await Promise.all(ids.slice(0, limit).map((ID) => describe(services, ID)));
      return json(200, {
        leases: described.filter((one) => one !== undefined),
        count: String(ids.length),
        more: ids.length > limit,
      });
    },
  }),
  operation({
    id: "getLease",
    method: "GET",
    path: "/leases/{id}",
    tag: "leases",
    summary: "Read a lease",
    permission: "lease-read",
    write: "no",
    pathParameters: { id },
    answers: { 200: { description: "The lease.", content: [{ kind: "json", schema: LeaseShape }] } },
    problems: ["bad-parameter", "lease-not-found"],
    examples: [
      { summary: "One lease", target: "/leases/694d71ddacfda227", status: 200, after: ["grantLease"] },
    ],
    async handle(request, services) {
      const lease = await describe(services, request.path.id);
      if (lease === undefined) throw refuse("leaseNotFound");
      return json(200, lease);
    },
  }),
  operation({
    id: "keepLeaseAlive",
    method: "POST",
    path: "/leases/{id}/keepalive",
    tag: "leases",
    summary: "Renew a lease",
    description: "Its time begins anew.",
    permission: "lease-write",
    write: "local",
    pathParameters: { id },
    answers: {
      200: {
        description: "It is renewed.",
        content: [{ kind: "json", schema: strict({ id: HexId, ttl: Decimal }) }],
      },
    },
    problems: ["bad-parameter", "lease-not-found"],
    examples: [
      { summary: "Renew", target: "/leases/694d71ddacfda227/keepalive", status: 200, after: ["grantLease"] },
    ],
    async handle(request, services) {
      const ttl = await renew(request, services, request.path.id);
      if (ttl <= 0n) throw refuse("leaseNotFound");
      return json(200, { id: hex16(request.path.id), ttl });
    },
  }),
  operation({
    id: "revokeLease",
    method: "DELETE",
    path: "/leases/{id}",
    tag: "leases",
    summary: "Revoke a lease",
    description: "Its keys are deleted with it, in one revision.",
    permission: "lease-write",
    write: "replicated",
    pathParameters: { id },
    answers: {
      200: { description: "It is gone.", content: [{ kind: "json", schema: strict({ revision: Decimal }) }] },
    },
    problems: ["bad-parameter", "lease-not-found", "corrupt"],
    examples: [{ summary: "Revoke", target: "/leases/694d71ddacfda227", status: 200, after: ["grantLease"] }],
    async handle(request, { lease }) {
      const answer = await lease.leaseRevoke(
        create(LeaseRevokeRequestSchema, { ID: request.path.id }),
        request.call(Lease.method.leaseRevoke),
      );
      return json(200, { revision: answer.header!.revision });
    },
  }),
];

const lockName = {
  name: "name",
  description: "The lock: everything behind /locks/, decoded once to bytes.",
  example: "nightly-job",
  read: keyOfPath,
} as const;

/** A holder's key is the lock's name, a slash, and the lease's id. */
const heldPrefix = (name: Uint8Array): Uint8Array => Buffer.concat([name, Buffer.from("/")]);

const HolderShape = strict({ lease: HexId, fencingRevision: Decimal });

export const lockOperations: readonly Operation[] = [
  operation({
    id: "acquireLock",
    endless: true,
    method: "POST",
    path: "/locks/{name}",
    tag: "leases",
    summary: "Acquire a lock",
    description:
      "Held under a lease: a given one, or a new one that has to be kept alive. A lock alone excludes nobody whose " +
      "lease ended unnoticed: guard what you write with the fencing revision, which grows from holder to holder.",
    permission: "inner",
    write: "replicated",
    tail: lockName,
    body: {
      kind: "json",
      optional: true,
      schema: strict({
        ttl: Type.Optional(Ttl),
        lease: Type.Optional(HexIdIn),
        waitSeconds: Type.Optional(
          Type.Integer({ minimum: 0, maximum: 300, description: "How long to wait for it; 0 unless given." }),
        ),
      }),
    },
    answers: {
      200: {
        description: "The caller holds the lock.",
        content: [
          {
            kind: "json",
            schema: strict(
              {
                ...bytesProperties("key", "The holder's key"),
                lease: HexId,
                fencingRevision: Decimal,
                revision: Decimal,
              },
              exactlyOne("key"),
            ),
          },
        ],
      },
    },
    problems: ["bad-parameter", "conflict", "locked", "lease-not-found", "no-space", "corrupt"],
    examples: [
      {
        summary: "Take a lock for half a minute",
        target: "/locks/nightly-job",
        body: { ttl: 30 },
        status: 200,
      },
    ],
    handle: (request, services) => acquire(request, services),
  }),
  operation({
    id: "getLock",
    method: "GET",
    path: "/locks/{name}",
    tag: "leases",
    summary: "Who holds a lock, and who waits",
    permission: "read",
    write: "no",
    tail: lockName,
    answers: {
      200: {
        description: "The holder, or null, and those who wait in their order.",
        content: [
          {
            kind: "json",
            schema: strict({
              revision: Decimal,
              holder: Type.Union([HolderShape, Type.Null()]),
              waiting: Type.Array(HolderShape),
            }),
          },
        ],
      },
    },
    problems: [],
    examples: [{ summary: "Look at a lock", target: "/locks/nightly-job", status: 200 }],
    async handle(request, { kv }) {
      const prefix = heldPrefix(request.tail);
      const answer = decodeAnswer(
        RangeResponseSchema,
        await kv.range(
          create(RangeRequestSchema, {
            key: prefix,
            rangeEnd: prefixRangeEnd(prefix),
            limit: 1_000n,
            keysOnly: true,
            sortTarget: Target.CREATE,
            sortOrder: 1,
          }),
          request.call(KV.method.range),
        ),
      );
      const [holder = null, ...waiting] = answer.kvs
        .filter(
          ({ key, lease }) =>
            lease !== 0n &&
            /^[0-9a-f]{1,16}$/.test(Buffer.from(key.subarray(prefix.length)).toString("latin1")),
        )
        .map(({ lease, createRevision }) => ({ lease: hex16(lease), fencingRevision: createRevision }));
      return json(200, { revision: answer.header!.revision, holder, waiting });
    },
  }),
  operation({
    id: "releaseLock",
    method: "DELETE",
    path: "/locks/{name}",
    tag: "leases",
    summary: "Release a lock",
    permission: "inner",
    write: "replicated",
    tail: lockName,
    query: {
      lease: hexId("The lease under which it is held.", 63),
      revoke: flag("End that lease as well."),
    },
    answers: {
      200: {
        description: "It is released, if it was held.",
        content: [{ kind: "json", schema: strict({ released: Type.Boolean(), revision: Decimal }) }],
      },
    },
    problems: ["bad-parameter", "lease-not-found", "corrupt"],
    examples: [{ summary: "Release", target: "/locks/nightly-job?lease=694d71ddacfda227", status: 200 }],
    async handle(request, { kv, lease }) {
      const held = request.query.lease;
      if (held === undefined)
        throw new Problem("bad-parameter", "Say under which lease the lock is held: ?lease=");
      const key = Buffer.concat([heldPrefix(request.tail), Buffer.from(held.toString(16))]);
      const removed = decodeAnswer(
        DeleteRangeResponseSchema,
        await kv.deleteRange(create(DeleteRangeRequestSchema, { key }), request.call(KV.method.deleteRange)),
      );
      let { revision } = removed.header!;
      if (request.query.revoke === true) {
        try {
          const answer = await lease.leaseRevoke(
            create(LeaseRevokeRequestSchema, { ID: held }),
            request.call(Lease.method.leaseRevoke),
          );
          revision = answer.header!.revision;
        } catch (error) {
          throw removed.deleted > 0n ? afterEffect(error) : error;
        }
      }
      return json(200, { released: removed.deleted > 0n, revision });
    },
  }),
];

interface LockBody {
  readonly ttl?: number;
  readonly lease?: string;
  readonly waitSeconds?: number;
}

async function acquire(request: RestRequest<unknown, unknown, LockBody>, services: RestServices) {
  const { ttl, lease, waitSeconds = 0 } = request.body;
  if (ttl !== undefined && lease !== undefined) throw new Problem("bad-body", "Give ttl or lease, not both.");
  const own = lease === undefined;
  const held = own ? (await grant(request, services, ttl ?? 60)).ID : leaseId(lease);
  const call = request.call(Lock.method.lock);
  let late = false;
  let acquired = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  // A free lock is had however long the way to it takes.
  const queued = (): void => {
    timer = setTimeout(() => {
      late = true;
      call.cancel();
    }, waitSeconds * 1_000);
  };
  try {
    const answer = await services.lock.lock(
      create(LockRequestSchema, { name: request.tail, lease: held }),
      call,
      queued,
    );
    acquired = true;
    const place = decodeAnswer(
      RangeResponseSchema,
      await services.kv.range(
        create(RangeRequestSchema, { key: answer.key, keysOnly: true }),
        request.call(KV.method.range),
      ),
    );
    const found = place.kvs[0];
    if (found === undefined) throw refuse("leaseNotFound");
    return json(200, {
      ...byteField("key", answer.key),
      lease: hex16(held),
      fencingRevision: found.createRevision,
      revision: place.header!.revision,
    });
  } catch (error) {
    // Its own lease takes place and lock with it.
    const undone = own ? await endQuietly(services, held) : !acquired;
    if (late && error instanceof StoreError && error.code === GrpcCode.canceled)
      throw new Problem("locked", "The lock was not free in time.");
    throw undone ? error : afterEffect(error);
  } finally {
    clearTimeout(timer);
  }
}

/** Ends a lease that was granted for nothing. False when that failed: then it runs out. */
async function endQuietly({ lease }: RestServices, ID: bigint): Promise<boolean> {
  try {
    await lease.leaseRevoke(create(LeaseRevokeRequestSchema, { ID }));
    return true;
  } catch {
    return false;
  }
}
