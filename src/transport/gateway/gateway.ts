/** The JSON gateway: /v3/* over HTTP/1.1, mapped onto the method table. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { GrpcCode, refuse, StoreError } from "../../errors";
import { requestBytesMaxDefault } from "../../limits";
import type { Logger } from "../../log";
import { Deadlines } from "../grpc/deadlines";
import type { GrpcObserver, MemberView } from "../grpc/options";
import { methods, type BoundMethod, type BoundMethods } from "../methods";
import { writeError, type GatewayCore } from "./call";
import { StreamGatewayCall } from "./stream";
import { UnaryGatewayCall } from "./unary";

/** Bytes of incomplete requests that all clients together may make the gateway hold. */
const bufferedBytesMaxDefault = 128 * 1024 * 1024;
/** Bytes of large answers that may be on their way to all clients together. */
const answerBytesMaxDefault = 1024 ** 3;

export interface GatewayOptions {
  readonly methods: BoundMethods;
  readonly log: Logger;
  /** Absent: a leader is always known and the member is a voter. */
  readonly member?: MemberView;
  /** The interval at which streams with `hasleader` look for a leader. Default 1000. */
  readonly electionTimeoutMs?: number;
  /** etcd's --max-request-bytes, of the encoded message. Default 1.5 MiB. */
  readonly requestBytesMax?: number;
  /** Bytes of incomplete requests that all clients together may make the gateway hold. Default 128 MiB. */
  readonly bufferedBytesMax?: number;
  /**
   * Bytes of large answers that may be on their way to all clients together: with more, further large ranges are refused.
   * Default 1 GiB.
   */
  readonly answerBytesMax?: number;
  readonly observer?: GrpcObserver;
  /** A broken invariant escaped from a handler: the process must end. */
  readonly onFatal?: (error: Error) => void;
}

export interface Gateway {
  /** Answers one request whose path (without query) begins with /v3/ or /v3beta/. */
  handle(request: IncomingMessage, response: ServerResponse, path: string): void;
  /** Whether a request on this path has a body without an end. */
  takesStream(path: string): boolean;
  /** Ends every call: streams as Unavailable. Resolves when none is left. */
  stop(): Promise<void>;
  /** What the gateway holds right now; all zero when it is idle. */
  counts(): { readonly calls: number; readonly bufferedRequestBytes: number; readonly answerBytes: number };
}

/** The prefix of an older API, answered as if it were the present one. */
const betaPrefix = "/v3beta/";

function presentPath(path: string): string {
  return path.startsWith(betaPrefix) ? `/v3/${path.slice(betaPrefix.length)}` : path;
}

export function createGateway(options: GatewayOptions): Gateway {
  const byPath = new Map<string, BoundMethod>();
  for (const bound of new Set(options.methods.values())) {
    for (const path of bound.method.gatewayPaths) byPath.set(path, bound);
  }
  /** Paths of the table whose service is not there: known to clients, unknown to this server. */
  const unbound = new Set(
    methods.flatMap((method) => method.gatewayPaths).filter((path) => !byPath.has(path)),
  );

  const core: GatewayCore = {
    member: options.member ?? { leaderKnown: () => true, isLearner: () => false },
    requestBytesMax: options.requestBytesMax ?? requestBytesMaxDefault,
    observer: options.observer ?? {},
    log: options.log,
    onFatal: options.onFatal ?? ((): void => {}),
    deadlines: new Deadlines(),
    calls: new Set(),
    leaderWatchers: new Map(),
    bufferedBytes: 0,
    bufferedBytesMax: options.bufferedBytesMax ?? bufferedBytesMaxDefault,
    answerBytes: 0,
    answerBytesMax: options.answerBytesMax ?? answerBytesMaxDefault,
  };
  const leaderLook = setInterval(() => lookForLeader(core), options.electionTimeoutMs ?? 1000);
  leaderLook.unref();
  let stopping = false;

  return {
    handle(request, response, path): void {
      const known = presentPath(path);
      const bound = byPath.get(known);
      let refusal: StoreError | undefined;
      if (bound === undefined && !unbound.has(known))
        refusal = new StoreError(GrpcCode.notFound, "Not Found");
      else if (request.method !== "POST")
        refusal = new StoreError(GrpcCode.unimplemented, "Method Not Allowed");
      else if (bound === undefined)
        refusal = new StoreError(GrpcCode.unimplemented, `unknown method ${known}`);
      else if (stopping) refusal = refuse("stopped");
      if (refusal !== undefined || bound === undefined) {
        request.on("error", () => {});
        request.resume();
        if (refusal !== undefined) writeError(response, refusal);
        return;
      }
      const call =
        bound.kind === "unary"
          ? new UnaryGatewayCall(core, bound, request, response)
          : new StreamGatewayCall(core, bound, request, response);
      call.start();
    },

    takesStream: (path) => byPath.get(presentPath(path))?.method.kind === "bidi_streaming",

    async stop(): Promise<void> {
      stopping = true;
      clearInterval(leaderLook);
      for (const call of core.calls) {
        if (call.bound.kind === "stream") call.cancelWith(refuse("stopped"));
      }
      while (core.calls.size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
      core.deadlines.close();
    },

    counts: () => ({
      calls: core.calls.size,
      bufferedRequestBytes: core.bufferedBytes,
      answerBytes: core.answerBytes,
    }),
  };
}

/** Looks without a leader that a stream with `hasleader` survives. */
const looksWithoutLeaderMax = 3;

function lookForLeader(core: GatewayCore): void {
  const known = core.member.leaderKnown();
  for (const [call, missed] of core.leaderWatchers) {
    if (known) core.leaderWatchers.set(call, 0);
    else if (missed + 1 >= looksWithoutLeaderMax) call.cancelWith(refuse("noLeader"));
    else core.leaderWatchers.set(call, missed + 1);
  }
}
