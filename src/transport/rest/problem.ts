/**
 * What a client is told when a request fails: an RFC 9457 problem document with etcd's text and code, the request's
 * id, what to do about it, and for a write whether it may have happened.
 */
import { GrpcCode, type RefusalName, refusals, StoreError } from "../../errors";

/** Every kind of problem: its status, its title, and what to do when nobody knows better. */
export const problemKinds = {
  "bad-request": {
    status: 400,
    title: "The request is malformed",
    fix: "See the operation in the explorer at /docs.",
  },
  "bad-escape": {
    status: 400,
    title: "A bad percent escape",
    fix: "Write a percent sign as %25, or use /kv64.",
  },
  "dot-segment": { status: 400, title: "A dot segment in the path", fix: "Address the key by /kv64." },
  "empty-key": { status: 400, title: "The key is empty", fix: "Name a key of at least one byte." },
  "bad-base64": { status: 400, title: "Bad base64url", fix: "Encode with - and _; padding may be left out." },
  "bad-parameter": { status: 400, title: "A bad parameter", fix: "See the operation's parameters at /docs." },
  "bad-body": { status: 400, title: "A bad body", fix: "See the operation's body at /docs." },
  unauthorized: { status: 401, title: "A token is needed", fix: "Send Authorization: Bearer <admin token>." },
  forbidden: {
    status: 403,
    title: "Not allowed from there",
    fix: "Call from this machine, or start with --admin-token-file.",
  },
  "not-found": { status: 404, title: "There is no such thing", fix: "See the list of operations at /docs." },
  "key-not-found": { status: 404, title: "The key does not exist", fix: "Create it with PUT." },
  "lease-not-found": { status: 404, title: "The lease does not exist", fix: "Grant one with POST /leases." },
  "member-not-found": {
    status: 404,
    title: "The member does not exist",
    fix: "List members with GET /members.",
  },
  "method-not-allowed": {
    status: 405,
    title: "The method does not fit",
    fix: "Use a method of the Allow header.",
  },
  "not-acceptable": { status: 406, title: "No such form", fix: "Accept one of the forms that /docs lists." },
  conflict: { status: 409, title: "The state does not allow it", fix: "Read the state and decide anew." },
  locked: { status: 409, title: "Somebody else holds the lock", fix: "Wait longer, or try again." },
  compacted: {
    status: 410,
    title: "The revision was compacted",
    fix: "Read again from the oldest revision that is left.",
  },
  "precondition-failed": {
    status: 412,
    title: "The condition does not hold",
    fix: "Read the key, and decide anew.",
  },
  "too-large": {
    status: 413,
    title: "The request is too large",
    fix: "Send less, or raise --max-request-bytes.",
  },
  "unsupported-media-type": {
    status: 415,
    title: "The body is no JSON",
    fix: "Send Content-Type: application/json.",
  },
  "range-not-satisfiable": {
    status: 416,
    title: "The file has no such range",
    fix: "Ask within the file's size.",
  },
  misdirected: { status: 421, title: "Unknown Host", fix: "Allow the name with --host-whitelist." },
  unprocessable: { status: 422, title: "The request cannot be carried out", fix: "Ask for less." },
  "idempotency-key-reused": {
    status: 422,
    title: "The idempotency key was used for another request",
    fix: "Use a fresh key for each request, and the same key only to repeat it.",
  },
  "too-many-requests": { status: 429, title: "Too many requests", fix: "Wait as Retry-After says." },
  internal: {
    status: 500,
    title: "A fault of the server",
    fix: "Report it with the request id; the log has more.",
  },
  corrupt: {
    status: 500,
    title: "The cluster is corrupt",
    fix: "Compare members with POST /maintenance/hashes.",
  },
  "not-implemented": {
    status: 501,
    title: "This server does not have that",
    fix: "See the list of operations at /docs.",
  },
  unavailable: { status: 503, title: "Not available now", fix: "Try again, or ask another member." },
  "idempotency-full": {
    status: 503,
    title: "Too many idempotency keys",
    fix: "Wait: keys are kept for 15 minutes and never forgotten early.",
  },
  timeout: {
    status: 504,
    title: "No answer in time",
    fix: "Read the key to learn whether a write happened.",
  },
  "no-space": {
    status: 507,
    title: "The database has no space",
    fix: "Delete keys, compact (POST /maintenance/compact), give space back, then DELETE /alarms/nospace.",
  },
} as const satisfies Record<string, { status: number; title: string; fix: string }>;

export type ProblemKind = keyof typeof problemKinds;

/** What further a problem says. */
export interface ProblemDetails {
  readonly fix?: string;
  /** Members of the document beside the standard ones. */
  readonly more?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** The refusal that it came from. */
  readonly cause?: StoreError;
}

/** A request that fails in an expected way. */
export class Problem extends Error {
  override readonly name = "Problem";

  constructor(
    readonly kind: ProblemKind,
    detail: string,
    readonly details: ProblemDetails = {},
  ) {
    super(detail);
  }

  get status(): number {
    return problemKinds[this.kind].status;
  }

  /** False when a write may have happened although it failed. */
  get definite(): boolean {
    return this.details.cause?.definite ?? this.kind !== "internal";
  }
}

/** The document of a problem. `outcome` is there for writes only. */
export function problemDocument(
  problem: Problem,
  requestId: string,
  write: boolean,
): Record<string, unknown> {
  const { status, title, fix } = problemKinds[problem.kind];
  const { cause } = problem.details;
  return {
    type: `urn:keelson:problem:${problem.kind}`,
    title,
    status,
    detail: problem.message,
    fix: problem.details.fix ?? fix,
    requestId,
    ...(cause === undefined ? {} : { etcd: { code: cause.code, message: cause.message } }),
    ...(write ? { outcome: problem.definite ? "not-applied" : "unknown" } : {}),
    ...problem.details.more,
  };
}

/** Where a refusal's REST kind differs from what its code says. */
const kindOfRefusal: Partial<Record<RefusalName, ProblemKind>> = {
  emptyKey: "empty-key",
  compacted: "compacted",
  futureRev: "bad-parameter",
  noSpace: "no-space",
  leaseNotFound: "lease-not-found",
  leaseTTLTooLarge: "bad-parameter",
  keyNotFound: "key-not-found",
  requestTooLarge: "too-large",
  requestTooManyRequests: "too-many-requests",
  memberNotFound: "member-not-found",
  memberNotEnoughStarted: "conflict",
  notSupportedForLearner: "unavailable",
  notLeader: "unavailable",
  corrupt: "corrupt",
  idempotencyKeyReused: "idempotency-key-reused",
  tooManyIdempotencyKeys: "idempotency-full",
  stopped: "unavailable",
  timeout: "timeout",
  timeoutDueToLeaderFail: "timeout",
  timeoutDueToConnectionLost: "timeout",
  timeoutWaitAppliedIndex: "timeout",
};

const kindByText = new Map<string, ProblemKind>(
  Object.entries(kindOfRefusal).map(([name, kind]) => [refusals[name as RefusalName].text, kind]),
);

// The text of etcd's lock when the caller's lease ended while it waited.
kindByText.set("mutex: session is expired", "lease-not-found");

const kindByCode: Readonly<Record<GrpcCode, ProblemKind>> = {
  [GrpcCode.ok]: "internal",
  [GrpcCode.canceled]: "unavailable",
  [GrpcCode.unknown]: "internal",
  [GrpcCode.invalidArgument]: "bad-request",
  [GrpcCode.deadlineExceeded]: "timeout",
  [GrpcCode.notFound]: "not-found",
  [GrpcCode.alreadyExists]: "conflict",
  [GrpcCode.permissionDenied]: "forbidden",
  [GrpcCode.resourceExhausted]: "too-many-requests",
  [GrpcCode.failedPrecondition]: "conflict",
  [GrpcCode.aborted]: "conflict",
  [GrpcCode.outOfRange]: "bad-request",
  [GrpcCode.unimplemented]: "not-implemented",
  [GrpcCode.internal]: "internal",
  [GrpcCode.unavailable]: "unavailable",
  [GrpcCode.dataLoss]: "corrupt",
  [GrpcCode.unauthenticated]: "unauthorized",
};

/** Kinds that may be over in a moment. */
const retryAfterSeconds: Partial<Record<ProblemKind, string>> = {
  "too-many-requests": "1",
  unavailable: "1",
  "idempotency-full": "60",
};

/** The problem that a refusal of the store is. */
export function problemOf(error: StoreError, more: ProblemDetails = {}): Problem {
  const kind = kindByText.get(error.message) ?? kindByCode[error.code];
  return new Problem(kind, error.message, { ...more, cause: error });
}

/** Headers of a problem's answer. */
export function problemHeaders(problem: Problem): Record<string, string> {
  const retryAfter = retryAfterSeconds[problem.kind];
  return {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
    ...(retryAfter === undefined ? {} : { "retry-after": retryAfter }),
    ...problem.details.headers,
  };
}
