/**
 * The one method table. Every RPC is declared here once; gRPC routing, the JSON gateway, reflection, metrics,
 * authorisation and the learner rule all read this table. Facts: etcd-wire sections 2, 6, 7.1 and 8.11.
 */
import type { DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { Election } from "../proto/gen/etcd/election_pb";
import { Lock } from "../proto/gen/etcd/lock_pb";
import { Auth, Cluster, KV, Lease, Maintenance, Watch } from "../proto/gen/etcd/rpc_pb";
import { Health } from "../proto/gen/grpc/health_pb";
import { ServerReflection } from "../proto/gen/grpc/reflection_pb";
import { GrpcCode, StoreError } from "../errors";
import type { StreamHandler, UnaryHandler } from "./call";

/**
 * What a caller must be allowed to do while authentication is on (etcd-wire 8.11).
 * - `open`: no login needed;
 * - `user`: any logged-in user;
 * - `read`, `write`: that permission on the request's key range (`write` with prev_kv needs read as well);
 * - `txn`: each compare, range, put and delete inside, nested ones too;
 * - `watch`: read on the range of each create request;
 * - `lease-write`: write on every key attached to the lease;
 * - `lease-read`: any logged-in user, and read on the attached keys when the answer shows them;
 * - `leases-read`: read on every key of every lease;
 * - `own-user`, `own-role`: root, or the user itself, or a holder of the role;
 * - `alarm`: any logged-in user may list, only root may change;
 * - `inner`: a program over other calls, which are checked with the caller's identity (lock, election);
 * - `root`: holders of the role root.
 */
export type Permission =
  | "open"
  | "user"
  | "read"
  | "write"
  | "txn"
  | "watch"
  | "lease-write"
  | "lease-read"
  | "leases-read"
  | "own-user"
  | "own-role"
  | "alarm"
  | "inner"
  | "root";

/** What a learner does with a call: serves it, serves it when the request says `serializable`, or refuses. */
export type LearnerRule = "serve" | "serializable" | "refuse";

/** The label value `grpc_type` of the grpc_server_* metrics. */
export type GrpcType = "unary" | "server_stream" | "client_stream" | "bidi_stream";

/** One row of the table. */
export interface Method {
  readonly desc: DescMethod;
  readonly kind: DescMethod["methodKind"];
  /** The HTTP/2 `:path`, "/etcdserverpb.KV/Range". */
  readonly path: string;
  /** Further HTTP/2 paths with the same handler (grpc.reflection.v1alpha). */
  readonly pathAliases: readonly string[];
  /** Paths of the JSON gateway, all POST; the first is the canonical one, the rest are etcd's aliases. */
  readonly gatewayPaths: readonly string[];
  readonly permission: Permission;
  readonly learner: LearnerRule;
  /** Labels of the grpc_server_* metrics. */
  readonly labels: {
    readonly grpc_type: GrpcType;
    readonly grpc_service: string;
    readonly grpc_method: string;
  };
}

interface Facts {
  readonly gateway?: readonly string[];
  readonly permission: Permission;
  /** Most calls are refused by a learner, so that is what a missing rule means. */
  readonly learner?: LearnerRule;
}

type FactsOf<Service extends Pick<DescService, "method">> = Record<keyof Service["method"], Facts>;

const grpcTypes = {
  unary: "unary",
  server_streaming: "server_stream",
  client_streaming: "client_stream",
  bidi_streaming: "bidi_stream",
} as const satisfies Record<DescMethod["methodKind"], GrpcType>;

function declare<Service extends Pick<DescService, "typeName" | "method">>(
  service: Service,
  facts: FactsOf<Service>,
  aliases: readonly string[] = [],
): readonly Method[] {
  const rows = facts as Readonly<Record<string, Facts>>;
  return Object.values(service.method as Record<string, DescMethod>).map((desc) => {
    const row = rows[desc.localName]!;
    return {
      desc,
      kind: desc.methodKind,
      path: `/${service.typeName}/${desc.name}`,
      pathAliases: aliases.map((typeName) => `/${typeName}/${desc.name}`),
      gatewayPaths: row.gateway ?? [],
      permission: row.permission,
      learner: row.learner ?? "refuse",
      labels: {
        grpc_type: grpcTypes[desc.methodKind],
        grpc_service: service.typeName,
        grpc_method: desc.name,
      },
    };
  });
}

/** The services by the key under which {@link bindMethods} takes their handlers. */
export const serviceDescriptors = {
  kv: KV,
  watch: Watch,
  lease: Lease,
  cluster: Cluster,
  maintenance: Maintenance,
  auth: Auth,
  lock: Lock,
  election: Election,
  health: Health,
  reflection: ServerReflection,
} as const;

export type ServiceKey = keyof typeof serviceDescriptors;

const table: Readonly<Record<ServiceKey, readonly Method[]>> = {
  kv: declare(KV, {
    range: { gateway: ["/v3/kv/range"], permission: "read", learner: "serializable" },
    rangeStream: { permission: "read" },
    put: { gateway: ["/v3/kv/put"], permission: "write" },
    deleteRange: { gateway: ["/v3/kv/deleterange"], permission: "write" },
    txn: { gateway: ["/v3/kv/txn"], permission: "txn" },
    compact: { gateway: ["/v3/kv/compaction"], permission: "root" },
  }),
  watch: declare(Watch, {
    watch: { gateway: ["/v3/watch"], permission: "watch" },
  }),
  lease: declare(Lease, {
    leaseGrant: { gateway: ["/v3/lease/grant"], permission: "user" },
    leaseRevoke: { gateway: ["/v3/lease/revoke", "/v3/kv/lease/revoke"], permission: "lease-write" },
    leaseKeepAlive: { gateway: ["/v3/lease/keepalive"], permission: "lease-write" },
    leaseTimeToLive: {
      gateway: ["/v3/lease/timetolive", "/v3/kv/lease/timetolive"],
      permission: "lease-read",
    },
    leaseLeases: { gateway: ["/v3/lease/leases", "/v3/kv/lease/leases"], permission: "leases-read" },
  }),
  cluster: declare(Cluster, {
    memberAdd: { gateway: ["/v3/cluster/member/add"], permission: "root" },
    memberRemove: { gateway: ["/v3/cluster/member/remove"], permission: "root" },
    memberUpdate: { gateway: ["/v3/cluster/member/update"], permission: "root" },
    memberList: { gateway: ["/v3/cluster/member/list"], permission: "user" },
    memberPromote: { gateway: ["/v3/cluster/member/promote"], permission: "root" },
  }),
  maintenance: declare(Maintenance, {
    alarm: { gateway: ["/v3/maintenance/alarm"], permission: "alarm" },
    status: { gateway: ["/v3/maintenance/status"], permission: "user", learner: "serve" },
    defragment: { gateway: ["/v3/maintenance/defragment"], permission: "root" },
    hash: { gateway: ["/v3/maintenance/hash"], permission: "root" },
    hashKV: { gateway: ["/v3/maintenance/hashkv"], permission: "root" },
    snapshot: { gateway: ["/v3/maintenance/snapshot"], permission: "root", learner: "serve" },
    moveLeader: { gateway: ["/v3/maintenance/transfer-leadership"], permission: "root" },
    downgrade: { gateway: ["/v3/maintenance/downgrade"], permission: "root" },
  }),
  auth: declare(Auth, {
    authEnable: { gateway: ["/v3/auth/enable"], permission: "root" },
    authDisable: { gateway: ["/v3/auth/disable"], permission: "root" },
    authStatus: { gateway: ["/v3/auth/status"], permission: "root" },
    authenticate: { gateway: ["/v3/auth/authenticate"], permission: "open" },
    userAdd: { gateway: ["/v3/auth/user/add"], permission: "root" },
    userGet: { gateway: ["/v3/auth/user/get"], permission: "own-user" },
    userList: { gateway: ["/v3/auth/user/list"], permission: "root" },
    userDelete: { gateway: ["/v3/auth/user/delete"], permission: "root" },
    userChangePassword: { gateway: ["/v3/auth/user/changepw"], permission: "root" },
    userGrantRole: { gateway: ["/v3/auth/user/grant"], permission: "root" },
    userRevokeRole: { gateway: ["/v3/auth/user/revoke"], permission: "root" },
    roleAdd: { gateway: ["/v3/auth/role/add"], permission: "root" },
    roleGet: { gateway: ["/v3/auth/role/get"], permission: "own-role" },
    roleList: { gateway: ["/v3/auth/role/list"], permission: "root" },
    roleDelete: { gateway: ["/v3/auth/role/delete"], permission: "root" },
    roleGrantPermission: { gateway: ["/v3/auth/role/grant"], permission: "root" },
    roleRevokePermission: { gateway: ["/v3/auth/role/revoke"], permission: "root" },
  }),
  lock: declare(Lock, {
    lock: { gateway: ["/v3/lock/lock"], permission: "inner" },
    unlock: { gateway: ["/v3/lock/unlock"], permission: "inner" },
  }),
  election: declare(Election, {
    campaign: { gateway: ["/v3/election/campaign"], permission: "inner" },
    proclaim: { gateway: ["/v3/election/proclaim"], permission: "inner" },
    leader: { gateway: ["/v3/election/leader"], permission: "inner" },
    observe: { gateway: ["/v3/election/observe"], permission: "inner" },
    resign: { gateway: ["/v3/election/resign"], permission: "inner" },
  }),
  // The learner rule stands in front of health as well: that is what etcd does (etcd-wire 6).
  health: declare(Health, {
    check: { permission: "open" },
    list: { permission: "open" },
    watch: { permission: "open" },
  }),
  reflection: declare(ServerReflection, { serverReflectionInfo: { permission: "open", learner: "serve" } }, [
    "grpc.reflection.v1alpha.ServerReflection",
  ]),
};

/** Every RPC, in the order of the services' declarations. */
export const methods: readonly Method[] = Object.values(table).flat();

type Shape = Pick<DescMethod, "input" | "output" | "methodKind">;

type HandlerOf<M extends Shape> = M["methodKind"] extends "unary"
  ? UnaryHandler<M["input"], M["output"]>
  : StreamHandler<M["input"], M["output"]>;

/** The handler class of a service: one method per RPC, named by its localName. RPCs may be missing. */
export type ServiceHandlers<Key extends ServiceKey> = {
  [
    Name in keyof (typeof serviceDescriptors)[Key]["method"]
  ]?: (typeof serviceDescriptors)[Key]["method"][Name] extends Shape
    ? HandlerOf<(typeof serviceDescriptors)[Key]["method"][Name]>
    : never;
};

/** The handlers of a server. A service or RPC that is missing answers Unimplemented. */
export type Services = { readonly [Key in ServiceKey]?: ServiceHandlers<Key> };

/** A row of the table with its handler. `handle` is already bound to its service. */
export type BoundMethod =
  | {
      readonly method: Method;
      readonly kind: "unary";
      readonly handle: UnaryHandler<DescMessage, DescMessage>;
    }
  | {
      readonly method: Method;
      readonly kind: "stream";
      readonly handle: StreamHandler<DescMessage, DescMessage>;
    };

/** Bound methods by HTTP/2 path, path aliases included. */
export type BoundMethods = ReadonlyMap<string, BoundMethod>;

/** Binds handlers to the table. RPCs without a handler are left out; see {@link unimplemented}. */
export function bindMethods(services: Services): BoundMethods {
  const bound = new Map<string, BoundMethod>();
  for (const key of Object.keys(table) as ServiceKey[]) {
    const service = services[key] as Readonly<Record<string, unknown>> | undefined;
    if (service === undefined) continue;
    for (const method of table[key]) {
      const handler = service[method.desc.localName];
      if (typeof handler !== "function") continue;
      const entry = bindOne(method, handler.bind(service));
      bound.set(method.path, entry);
      for (const alias of method.pathAliases) bound.set(alias, entry);
    }
  }
  return bound;
}

function bindOne(method: Method, handle: unknown): BoundMethod {
  return method.kind === "unary"
    ? { method, kind: "unary", handle: handle as UnaryHandler<DescMessage, DescMessage> }
    : { method, kind: "stream", handle: handle as StreamHandler<DescMessage, DescMessage> };
}

/**
 * The refusal for a path without a handler, in the words that etcd's transport uses. The path is split at its
 * last slash; a path that has none is malformed.
 */
export function unimplemented(bound: BoundMethods, path: string): StoreError {
  const slash = path.lastIndexOf("/");
  if (!path.startsWith("/") || slash <= 0) {
    return new StoreError(GrpcCode.unimplemented, `malformed method name: ${JSON.stringify(path)}`);
  }
  const service = path.slice(1, slash);
  const known = [...bound.keys()].some((candidate) => candidate.startsWith(`/${service}/`));
  return new StoreError(
    GrpcCode.unimplemented,
    known ? `unknown method ${path.slice(slash + 1)} for service ${service}` : `unknown service ${service}`,
  );
}
