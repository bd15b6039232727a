/** What a call's headers say, read once for all calls whose headers are the same. */
import { GrpcCode, StoreError } from "../../errors";
import type { RequestHeaders } from "../http2/request";
import type { BoundMethod, BoundMethods } from "../methods";
import { unimplemented } from "../methods";
import { grpcContentType, isUtf8, parseTimeoutMs } from "./metadata";

export class CallHead {
  /** What the call is answered with before anything else is looked at. */
  refusal: { readonly status: StoreError; readonly httpStatus: number } | undefined;
  contentType = "application/grpc";
  bound: BoundMethod | undefined;
  timeoutMs: number | undefined;
  readonly version: string | undefined;
  readonly versionIsUtf8: boolean;
  readonly hasLeader: boolean;

  constructor(methods: BoundMethods, headers: RequestHeaders) {
    this.version = headers.get("client-api-version");
    this.versionIsUtf8 = this.version === undefined || isUtf8(this.version);
    this.hasLeader = headers.get("hasleader") === "true";
    const given = headers.get("content-type");
    const contentType = grpcContentType(given);
    if (contentType === undefined) {
      const shown = JSON.stringify(given ?? "");
      this.#refuse(GrpcCode.invalidArgument, `invalid gRPC request content-type ${shown}`, 415);
      return;
    }
    if (headers.method !== "POST") {
      const shown = JSON.stringify(headers.method ?? "");
      const text = `Received a HEADERS frame with :method ${shown} which should be POST`;
      this.#refuse(GrpcCode.internal, text, 405);
      return;
    }
    const timeout = headers.get("grpc-timeout");
    const timeoutMs = timeout === undefined ? undefined : parseTimeoutMs(timeout);
    if (typeof timeoutMs === "string") {
      this.#refuse(GrpcCode.internal, timeoutMs, 400);
      return;
    }
    this.timeoutMs = timeoutMs;
    this.contentType = contentType;
    const path = headers.path ?? "";
    this.bound = methods.get(path);
    if (this.bound === undefined) {
      this.refusal = { status: unimplemented(methods, path), httpStatus: 200 };
      return;
    }
    const encoding = headers.get("grpc-encoding");
    if (encoding !== undefined && encoding !== "identity") {
      const shown = JSON.stringify(encoding);
      this.#refuse(
        GrpcCode.unimplemented,
        `grpc: Decompressor is not installed for grpc-encoding ${shown}`,
        200,
      );
    }
  }

  #refuse(code: GrpcCode, text: string, httpStatus: number): void {
    this.refusal = { status: new StoreError(code, text), httpStatus };
  }
}
