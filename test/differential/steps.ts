/** The language of the differential test: what is done to both servers, one step after the other. */
import type { DescMessage, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";

export type Door = "grpc" | "gateway";

/** A unary request. */
export interface UnaryStep {
  readonly kind: "unary";
  readonly method: DescMethodUnary<DescMessage, DescMessage>;
  readonly request: MessageShape<DescMessage>;
  readonly door: Door;
  /** Through the gateway: lowerCamel field names instead of the proto's. */
  readonly camel: boolean;
}

/** Bytes on a gRPC stream, right or wrong. */
export interface RawGrpcStep {
  readonly kind: "raw-grpc";
  readonly what: string;
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

/** A plain HTTP/1.1 request. */
export interface HttpStep {
  readonly kind: "http";
  readonly what: string;
  readonly verb: string;
  readonly path: string;
  readonly body: string | undefined;
}

/** Asks for a watcher on one of the watch streams and waits for the answer. */
export interface WatchStep {
  readonly kind: "watch";
  readonly stream: number;
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  readonly startRevision: bigint;
  readonly filters: readonly number[];
  readonly prevKv: boolean;
  readonly fragment: boolean;
  readonly progressNotify: boolean;
  readonly watchId: bigint;
}

/** Cancels a watcher by id, known or not. */
export interface CancelStep {
  readonly kind: "cancel";
  readonly stream: number;
  readonly watchId: bigint;
}

/** Ends a whole watch stream, as a client that goes away, and opens a new one. */
export interface ReopenStep {
  readonly kind: "reopen";
  readonly stream: number;
}

/** One message on the keep-alive stream. */
export interface KeepAliveStep {
  readonly kind: "keep-alive";
  readonly id: bigint;
}

/** Waits until every watcher of both servers has everything, and compares what they were told. */
export interface SettleStep {
  readonly kind: "settle";
}

export type Step =
  UnaryStep | RawGrpcStep | HttpStep | WatchStep | CancelStep | ReopenStep | KeepAliveStep | SettleStep;

/** Leaves out what is at its default, and shows bytes and big integers as text. */
function show(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value) === 0 ? undefined : String(value);
  if (value instanceof Uint8Array) {
    if (value.length === 0) return undefined;
    const latin1 = Buffer.from(value).toString("latin1");
    return latin1.length > 30 ? `${latin1.slice(0, 10)}… ${latin1.length} bytes` : latin1;
  }
  if (Array.isArray(value)) {
    if (value.length === 0) return undefined;
    const shown = value.slice(0, 6).map((item) => show(item) ?? {});
    return value.length > 6 ? [...shown, `… ${value.length} in all`] : shown;
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .filter(([name]) => name !== "$typeName")
      .map(([name, item]) => [name, show(item)] as const)
      .filter(([, item]) => item !== undefined);
    return Object.fromEntries(entries);
  }
  return value === 0 || value === false || value === "" ? undefined : value;
}

/** One line for people. */
export function describeStep(step: Step): string {
  if (step.kind === "unary") return `${step.door} ${step.method.name} ${JSON.stringify(show(step.request))}`;
  return JSON.stringify(show(step));
}
