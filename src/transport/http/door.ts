/** The HTTP/1.1 door of a client port: health, version, metrics, and the way to the JSON gateway. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Logger } from "../../log";
import type { Metrics } from "../../metrics/metrics";
import type { Gateway } from "../gateway/gateway";
import { BrowserAccess, type Denial } from "./access";
import { KeyLane, type LaneHandler } from "../http1/key-lane";
import { checksOf, HealthChecks, textReply, type CheckType, type Reply } from "./checks";
import { type ConnectionTimeouts, timeoutsDefault } from "./connection-deadlines";
import type { HealthSource } from "./health-source";
import { createHttpServer } from "./http-server";

export interface HttpDoorOptions {
  readonly health: HealthSource;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Serves /v3/*; absent when it is switched off, and on listeners for metrics only. */
  readonly gateway?: Gateway;
  /** Serves the REST API and its explorer; absent on listeners for metrics only. */
  readonly rest?: RestHandler;
  /** Answers plain requests for single keys without the full server. */
  readonly keys?: LaneHandler;
  /** Serves the pages below /ui; absent on listeners for metrics only. */
  readonly console?: RestHandler;
  /** True for --listen-metrics-urls: health and metrics only. Default false. */
  readonly metricsOnly?: boolean;
  /** etcd's --cors: origins that browsers may call from; "*" is all. Default: this server's own. */
  readonly cors?: readonly string[] | undefined;
  /** etcd's --host-whitelist: Host names accepted on plain HTTP; "*" is all. Default: see `access.ts`. */
  readonly hostWhitelist?: readonly string[] | undefined;
  /** Names by which this server is known, and so may be called. */
  readonly ownNames?: readonly string[];
  /** How long a health check waits for a read. Default 7000, as requests do. */
  readonly healthTimeoutMs?: number;
  /** Default: 10 s for headers, 5 min idle, 2 min for a body. */
  readonly timeouts?: Partial<ConnectionTimeouts>;
}

/** What serves paths that the operation table of REST knows; it sees the raw target. */
export interface RestHandler {
  /** Whether a request with this raw target is its business. */
  owns(target: string): boolean;
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Tells a browser's page that it is turned away, in this handler's own form. Absent: as text. */
  turnAway?(request: IncomingMessage, response: ServerResponse, denial: Denial): Promise<void>;
}

const headerBytesMax = 64 * 1024;

/** The path and query of a request target, which may be in absolute form; undefined when it is no path. */
export function splitTarget(target: string): { path: string; query: string } | undefined {
  const absolute = /^https?:\/\/[^/?#]*/i.exec(target);
  const origin = absolute === null ? target : target.slice(absolute[0].length) || "/";
  const mark = origin.indexOf("?");
  const rawPath = mark === -1 ? origin : origin.slice(0, mark);
  if (!rawPath.startsWith("/")) return undefined;
  try {
    return {
      path: rawPath.includes("%") ? decodeURIComponent(rawPath) : rawPath,
      query: mark === -1 ? "" : origin.slice(mark + 1),
    };
  } catch {
    return undefined;
  }
}

/** A browser that was given no more than this server's name. */
function isVisit({ method, headers }: IncomingMessage, path: string): boolean {
  return (
    path === "/" && (method === "GET" || method === "HEAD") && /\btext\/html\b/i.test(headers.accept ?? "")
  );
}

/** What is wrong with a request whatever it asks for, as Go's server says it; undefined when nothing is. */
function malformation(request: IncomingMessage): { status: 400 | 501; text: string } | undefined {
  const { headers, httpVersion, rawHeaders } = request;
  if (httpVersion === "0.9") return { status: 400, text: "400 Bad Request: malformed HTTP version" };
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]!.toLowerCase() === "host") hosts++;
  if (hosts > 1) return { status: 400, text: "400 Bad Request: too many Host headers" };
  if (hosts === 0 && httpVersion === "1.1")
    return { status: 400, text: "400 Bad Request: missing required Host header" };
  const coding = headers["transfer-encoding"];
  // Anything but chunks would be taken for the body itself.
  return coding === undefined || coding.toLowerCase() === "chunked"
    ? undefined
    : { status: 501, text: "501 Not Implemented: Unsupported transfer encoding" };
}

const notFound = textReply(404, "404 page not found");
const methodNotAllowed = textReply(405, "Method Not Allowed", { allow: "GET" });

/** Creates the door; it does not listen itself, a listener hands it connections. */
export function createHttpDoor(options: HttpDoorOptions): KeyLane | Server {
  const { gateway, health, metrics, log } = options;
  const checks = new HealthChecks(health, metrics, log, options.healthTimeoutMs ?? 7_000);
  const metricsOnly = options.metricsOnly === true;
  const access = new BrowserAccess({
    cors: options.cors ?? (metricsOnly ? ["*"] : undefined),
    hostWhitelist: options.hostWhitelist ?? (metricsOnly ? ["*"] : undefined),
    ownNames: options.ownNames ?? [],
  });

  /** The pages by path; each is read-only, so each takes GET only, but for /metrics as etcd has it. */
  const pages = new Map<string, (query: URLSearchParams) => Promise<Reply>>();
  pages.set("/health", (query) => checks.health(query));
  for (const type of Object.keys(checksOf) as CheckType[]) {
    pages.set(`/${type}`, (query) => checks.run(type, undefined, query));
    for (const name of checksOf[type])
      pages.set(`/${type}/${name}`, (query) => checks.run(type, name, query));
  }
  pages.set("/metrics", async () => ({
    status: 200,
    body: await metrics.text(),
    headers: { "content-type": metrics.contentType },
  }));
  if (!metricsOnly) {
    pages.set("/version", async () => {
      const { etcdserver, etcdcluster, storage } = health.versions();
      const body = JSON.stringify({ etcdserver, etcdcluster, storage });
      return { status: 200, body, headers: { "content-type": "application/json" } };
    });
  }

  const reply = (response: ServerResponse, { status, body, headers }: Reply, route: string): void => {
    metrics.keelson.httpRequests.of(route, String(status)).inc();
    if (response.headersSent || response.destroyed) return;
    const bytes = Buffer.from(body);
    response.writeHead(status, { ...headers, "content-length": bytes.length });
    response.end(bytes);
  };

  const allowOrigin = (request: IncomingMessage, response: ServerResponse): void => {
    const origin = access.allowedOrigin(request.headers.origin);
    if (origin === undefined) return;
    response.setHeader("access-control-allow-headers", "accept, content-type, authorization");
    response.setHeader("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE");
    response.setHeader("access-control-allow-origin", origin.value);
    if (origin.varies) response.setHeader("vary", "Origin");
  };

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    response.on("error", () => {});
    request.on("error", () => {});
    const encrypted = (request.socket as Socket & { encrypted?: boolean }).encrypted === true;
    const malformed = malformation(request);
    if (malformed !== undefined) {
      request.resume();
      reply(response, textReply(malformed.status, malformed.text, { connection: "close" }), "none");
      return;
    }
    const denial = access.denial(request.method ?? "", request.headers, encrypted);
    if (denial !== undefined) {
      if (options.rest?.turnAway !== undefined && options.rest.owns(request.url ?? "")) {
        metrics.keelson.httpRequests.of("none", String(denial.status)).inc();
        void options.rest.turnAway(request, response, denial);
        return;
      }
      request.resume();
      reply(response, textReply(denial.status, denial.text), "none");
      return;
    }
    allowOrigin(request, response);
    if (options.rest?.owns(request.url ?? "") === true && request.method !== "OPTIONS") {
      response.on("finish", () => metrics.keelson.httpRequests.of("rest", String(response.statusCode)).inc());
      void options.rest.handle(request, response);
      return;
    }
    if (options.console?.owns(request.url ?? "") === true && request.method !== "OPTIONS") {
      response.on("finish", () => metrics.keelson.httpRequests.of("ui", String(response.statusCode)).inc());
      void options.console.handle(request, response);
      return;
    }
    const target = splitTarget(request.url ?? "");
    if (request.method === "OPTIONS") {
      request.resume();
      reply(response, { status: 200, body: "" }, "none");
      return;
    }
    if (target === undefined) {
      request.resume();
      reply(response, textReply(400, "400 Bad Request"), "none");
      return;
    }
    const { path, query } = target;
    if (gateway !== undefined && (path.startsWith("/v3/") || path.startsWith("/v3beta/"))) {
      response.on("finish", () =>
        metrics.keelson.httpRequests.of("gateway", String(response.statusCode)).inc(),
      );
      gateway.handle(request, response, path);
      return;
    }
    request.resume();
    if (options.console !== undefined && isVisit(request, path)) {
      reply(response, { status: 303, body: "", headers: { location: "/ui/", vary: "Accept" } }, "/");
      return;
    }
    const page = pages.get(path);
    if (page === undefined) {
      reply(response, notFound, "none");
    } else if (request.method !== "GET" && path !== "/metrics") {
      reply(response, methodNotAllowed, path);
    } else {
      page(new URLSearchParams(query)).then(
        (content) => reply(response, content, path),
        (error: unknown) => {
          log.error("a page failed", { path, error });
          reply(response, textReply(500, "500 Internal Server Error"), path);
        },
      );
    }
  };

  const server = createHttpServer(
    {
      headerBytesMax,
      timeouts: { ...timeoutsDefault, ...options.timeouts },
      bodyIsStream: (request) => {
        const path = splitTarget(request.url ?? "")?.path;
        return path !== undefined && gateway?.takesStream(path) === true;
      },
    },
    (request, response) => {
      try {
        answer(request, response);
      } catch (error) {
        log.error("a request failed unexpectedly", { error });
        reply(response, textReply(500, "500 Internal Server Error", { connection: "close" }), "none");
      }
    },
  );
  server.on("clientError", (error: Error & { code?: string }, socket) => {
    const status =
      error.code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request";
    if (socket.writable) {
      socket.end(
        `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n${status}`,
      );
    } else {
      socket.destroy();
    }
  });
  // Where every answer names an allowed origin, the full server gives them all.
  if (options.keys === undefined || access.allowedOrigin(undefined) !== undefined) return server;
  return new KeyLane(server, {
    handler: options.keys,
    letsIn: (method, headers, encrypted) => access.denial(method, headers, encrypted) === undefined,
    timeouts: { ...timeoutsDefault, ...options.timeouts },
    answered: (status) => metrics.keelson.httpRequests.of("rest", String(status)).inc(),
  });
}
