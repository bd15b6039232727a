/**
 * Refusals: the answers that a client can expect besides success. Each has a gRPC code and the exact text that
 * etcd's clients compare with (they map errors by text), and is turned into a gRPC status, a gateway body or a
 * REST problem in one place per door. Broken invariants are not refusals; see `assert.ts`.
 */

/** The standard gRPC status codes. */
export const GrpcCode = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;
export type GrpcCode = (typeof GrpcCode)[keyof typeof GrpcCode];

interface RefusalText {
  readonly code: GrpcCode;
  readonly text: string;
}

/** etcd's error constants by name. Two carry code `unknown`, as they do on etcd's wire (etcd-wire 5.2). */
export const refusals = {
  emptyKey: { code: GrpcCode.invalidArgument, text: "etcdserver: key is not provided" },
  keyNotFound: { code: GrpcCode.invalidArgument, text: "etcdserver: key not found" },
  valueProvided: { code: GrpcCode.invalidArgument, text: "etcdserver: value is provided" },
  leaseProvided: { code: GrpcCode.invalidArgument, text: "etcdserver: lease is provided" },
  tooManyOps: { code: GrpcCode.invalidArgument, text: "etcdserver: too many operations in txn request" },
  duplicateKey: { code: GrpcCode.invalidArgument, text: "etcdserver: duplicate key given in txn request" },
  invalidClientAPIVersion: { code: GrpcCode.invalidArgument, text: "etcdserver: invalid client api version" },
  invalidSortOption: { code: GrpcCode.invalidArgument, text: "etcdserver: invalid sort option" },
  compacted: { code: GrpcCode.outOfRange, text: "etcdserver: mvcc: required revision has been compacted" },
  futureRev: { code: GrpcCode.outOfRange, text: "etcdserver: mvcc: required revision is a future revision" },
  noSpace: { code: GrpcCode.resourceExhausted, text: "etcdserver: mvcc: database space exceeded" },
  leaseNotFound: { code: GrpcCode.notFound, text: "etcdserver: requested lease not found" },
  leaseExist: { code: GrpcCode.failedPrecondition, text: "etcdserver: lease already exists" },
  leaseTTLTooLarge: { code: GrpcCode.outOfRange, text: "etcdserver: too large lease TTL" },
  watchCanceled: { code: GrpcCode.canceled, text: "etcdserver: watch canceled" },
  memberExist: { code: GrpcCode.failedPrecondition, text: "etcdserver: member ID already exist" },
  peerURLExist: { code: GrpcCode.failedPrecondition, text: "etcdserver: Peer URLs already exists" },
  memberNotEnoughStarted: {
    code: GrpcCode.unknown,
    text: "etcdserver: re-configuration failed due to not enough started members",
  },
  memberBadURLs: { code: GrpcCode.invalidArgument, text: "etcdserver: given member URLs are invalid" },
  memberNotFound: { code: GrpcCode.notFound, text: "etcdserver: member not found" },
  memberNotLearner: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: can only promote a learner member",
  },
  learnerNotReady: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: can only promote a learner member which is in sync with leader",
  },
  tooManyLearners: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: too many learner members in cluster",
  },
  clusterIDMismatch: { code: GrpcCode.failedPrecondition, text: "etcdserver: cluster ID mismatch" },
  requestTooLarge: { code: GrpcCode.invalidArgument, text: "etcdserver: request is too large" },
  requestTooManyRequests: { code: GrpcCode.unknown, text: "etcdserver: too many requests" },
  rootUserNotExist: { code: GrpcCode.failedPrecondition, text: "etcdserver: root user does not exist" },
  rootRoleNotExist: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: root user does not have root role",
  },
  userAlreadyExist: { code: GrpcCode.failedPrecondition, text: "etcdserver: user name already exists" },
  userEmpty: { code: GrpcCode.invalidArgument, text: "etcdserver: user name is empty" },
  userNotFound: { code: GrpcCode.failedPrecondition, text: "etcdserver: user name not found" },
  roleAlreadyExist: { code: GrpcCode.failedPrecondition, text: "etcdserver: role name already exists" },
  roleNotFound: { code: GrpcCode.failedPrecondition, text: "etcdserver: role name not found" },
  roleEmpty: { code: GrpcCode.invalidArgument, text: "etcdserver: role name is empty" },
  authFailed: {
    code: GrpcCode.invalidArgument,
    text: "etcdserver: authentication failed, invalid user ID or password",
  },
  permissionNotGiven: { code: GrpcCode.invalidArgument, text: "etcdserver: permission not given" },
  permissionDenied: { code: GrpcCode.permissionDenied, text: "etcdserver: permission denied" },
  roleNotGranted: { code: GrpcCode.failedPrecondition, text: "etcdserver: role is not granted to the user" },
  permissionNotGranted: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: permission is not granted to the role",
  },
  authNotEnabled: { code: GrpcCode.failedPrecondition, text: "etcdserver: authentication is not enabled" },
  invalidAuthToken: { code: GrpcCode.unauthenticated, text: "etcdserver: invalid auth token" },
  invalidAuthMgmt: { code: GrpcCode.invalidArgument, text: "etcdserver: invalid auth management" },
  authOldRevision: { code: GrpcCode.invalidArgument, text: "etcdserver: revision of auth store is old" },
  noLeader: { code: GrpcCode.unavailable, text: "etcdserver: no leader" },
  notLeader: { code: GrpcCode.failedPrecondition, text: "etcdserver: not leader" },
  leaderChanged: { code: GrpcCode.unavailable, text: "etcdserver: leader changed" },
  notCapable: { code: GrpcCode.failedPrecondition, text: "etcdserver: not capable" },
  stopped: { code: GrpcCode.unavailable, text: "etcdserver: server stopped" },
  timeout: { code: GrpcCode.unavailable, text: "etcdserver: request timed out" },
  timeoutDueToLeaderFail: {
    code: GrpcCode.unavailable,
    text: "etcdserver: request timed out, possibly due to previous leader failure",
  },
  timeoutDueToConnectionLost: {
    code: GrpcCode.unavailable,
    text: "etcdserver: request timed out, possibly due to connection lost",
  },
  timeoutWaitAppliedIndex: {
    code: GrpcCode.unavailable,
    text: "etcdserver: request timed out, waiting for the applied index took too long",
  },
  unhealthy: { code: GrpcCode.unavailable, text: "etcdserver: unhealthy cluster" },
  corrupt: { code: GrpcCode.dataLoss, text: "etcdserver: corrupt cluster" },
  notSupportedForLearner: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: rpc not supported for learner",
  },
  badLeaderTransferee: { code: GrpcCode.failedPrecondition, text: "etcdserver: bad leader transferee" },
  wrongDowngradeVersionFormat: {
    code: GrpcCode.invalidArgument,
    text: "etcdserver: wrong downgrade target version format",
  },
  invalidDowngradeTargetVersion: {
    code: GrpcCode.invalidArgument,
    text: "etcdserver: invalid downgrade target version",
  },
  clusterVersionUnavailable: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: cluster version not found during downgrade",
  },
  downgradeInProcess: {
    code: GrpcCode.failedPrecondition,
    text: "etcdserver: cluster has a downgrade job in progress",
  },
  noInflightDowngrade: { code: GrpcCode.failedPrecondition, text: "etcdserver: no inflight downgrade job" },
  canceled: { code: GrpcCode.canceled, text: "etcdserver: request canceled" },
  /** Not etcd's: of writes under an idempotency key. */
  idempotencyKeyReused: {
    code: GrpcCode.invalidArgument,
    text: "keelson: the idempotency key was used for another request",
  },
  tooManyIdempotencyKeys: {
    code: GrpcCode.unavailable,
    text: "keelson: too many idempotency keys are kept",
  },
  deadlineExceeded: { code: GrpcCode.deadlineExceeded, text: "etcdserver: context deadline exceeded" },
} as const satisfies Record<string, RefusalText>;

export type RefusalName = keyof typeof refusals;

/**
 * An expected refusal on its way to a client. `definite` tells whether the request certainly had no effect;
 * a timeout or a lost leader leaves that open, and a client must be told so.
 */
export class StoreError extends Error {
  override readonly name = "StoreError";

  constructor(
    readonly code: GrpcCode,
    text: string,
    readonly definite: boolean = true,
  ) {
    super(text);
  }
}

/** The refusals after which a write may still take effect. */
const indefinite: ReadonlySet<RefusalName> = new Set<RefusalName>([
  "timeout",
  "timeoutDueToLeaderFail",
  "timeoutDueToConnectionLost",
  "stopped",
  "canceled",
  "deadlineExceeded",
]);

/** The same refusal of a request of which something was carried out before: it cannot be said to have had no effect. */
export function afterEffect(error: unknown): unknown {
  return error instanceof StoreError && error.definite
    ? new StoreError(error.code, error.message, false)
    : error;
}

/** Builds the error for one of etcd's constants. */
export function refuse(name: RefusalName): StoreError {
  const { code, text } = refusals[name];
  return new StoreError(code, text, !indefinite.has(name));
}
