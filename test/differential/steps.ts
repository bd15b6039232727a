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

function show(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_name, item: unknown) => {
      if (typeof item === "bigint") return `${item}n`;
      if (typeof item !== "object" || item === null) return item;
      if (item instanceof Uint8Array || (item as { type?: unknown }).type === "Buffer") {
        const bytes =
          item instanceof Uint8Array ? Buffer.from(item) : Buffer.from((item as { data: number[] }).data);
        const latin1 = bytes.toString("latin1");
        return latin1.length > 60 ? `${latin1.slice(0, 20)}… ${latin1.length} bytes` : latin1;
      }
      return item;
    }),
  );
}

/** One line for people. */
export function describeStep(step: Step): string {
  if (step.kind === "unary") {
    return `${step.door} ${step.method.name} ${JSON.stringify(show(step.request)).replace(/"\$typeName":"[^"]*",?/g, "")}`;
  }
  return JSON.stringify(show(step));
}
