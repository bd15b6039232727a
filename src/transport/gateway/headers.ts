/** How HTTP/1.1 headers become gRPC metadata and deadlines, and statuses become HTTP status codes. */
import type { IncomingHttpHeaders } from "node:http";
import { GrpcCode } from "../../errors";
import { timeoutUnitMs } from "../timeout-units";

/** Headers of HTTP itself that a service may see, under `grpcgateway-<name>`. */
const permanentHeaders: ReadonlySet<string> = new Set([
  "accept",
  "accept-charset",
  "accept-language",
  "accept-ranges",
  "authorization",
  "cache-control",
  "content-type",
  "cookie",
  "date",
  "expect",
  "from",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-schedule-tag-match",
  "if-unmodified-since",
  "max-forwards",
  "origin",
  "pragma",
  "referer",
  "user-agent",
  "via",
  "warning",
]);

const gatewayPrefix = "grpcgateway-";
const metadataPrefix = "grpc-metadata-";

/** A header's text if it may stand in metadata: anything but printable ASCII is left out, as etcd's gateway does. */
function printable(value: string | readonly string[] | undefined): string | undefined {
  if (value === undefined) return undefined;
  const text = typeof value === "string" ? value : value.join(", ");
  return /^[\x20-\x7e]*$/.test(text) ? text : undefined;
}

/** The metadata value of this lower-case name in a request that came over HTTP/1.1. */
export function metadataOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  if (name.startsWith(gatewayPrefix)) {
    const header = name.slice(gatewayPrefix.length);
    return permanentHeaders.has(header) ? printable(headers[header]) : undefined;
  }
  const given = printable(headers[metadataPrefix + name]);
  if (name !== "authorization") return given;
  return printable(headers.authorization) ?? given;
}

/**
 * Milliseconds of a `Grpc-Timeout` header: an integer and a unit, zero meaning none (undefined). A negative one has
 * passed already. Null when the text is no timeout.
 */
export function parseGatewayTimeout(text: string): number | undefined | null {
  const parts = /^([+-]?\d{1,18})([HMSmun])$/.exec(text);
  if (parts === null) return null;
  const timeoutMs = Number(parts[1]) * timeoutUnitMs[parts[2]!]!;
  return timeoutMs === 0 ? undefined : timeoutMs;
}

const httpStatuses: Readonly<Record<GrpcCode, number>> = {
  [GrpcCode.ok]: 200,
  [GrpcCode.canceled]: 499,
  [GrpcCode.unknown]: 500,
  [GrpcCode.invalidArgument]: 400,
  [GrpcCode.deadlineExceeded]: 504,
  [GrpcCode.notFound]: 404,
  [GrpcCode.alreadyExists]: 409,
  [GrpcCode.permissionDenied]: 403,
  [GrpcCode.resourceExhausted]: 429,
  [GrpcCode.failedPrecondition]: 400,
  [GrpcCode.aborted]: 409,
  [GrpcCode.outOfRange]: 400,
  [GrpcCode.unimplemented]: 501,
  [GrpcCode.internal]: 500,
  [GrpcCode.unavailable]: 503,
  [GrpcCode.dataLoss]: 500,
  [GrpcCode.unauthenticated]: 401,
};

/** The HTTP status that carries a gRPC status (etcd-wire 7.3). */
export function httpStatus(code: GrpcCode): number {
  return httpStatuses[code];
}
