/** The REST API: operations of one table behind /api/v1, routed by Elysia. README.md beside this file explains. */
import { Elysia } from "elysia";
import { InvariantError } from "../../assert";
import { refuse, StoreError } from "../../errors";
import { requestBytesMaxDefault } from "../../limits";
import type { Logger } from "../../log";
import type { MemberView } from "../grpc/options";
import { type Answer, jsonHeaders } from "./answer";
import { BodyChecks } from "./body-checks";
import { Exchange, type PlainRequest } from "./exchange";
import { describeRoute, documentPath, normalisedDocument, openApiPlugin } from "./openapi";
import type { Operation } from "./operation";
import { operations } from "./operations/all";
import { basePath } from "./paths";
import { Problem, problemDocument, problemHeaders, problemOf } from "./problem";
import type { RestServices } from "./services";
import { rawTarget } from "./target";

/** Requests that may be answered at the same time; streams count apart. */
const requestsMaxDefault = 4_096;
/** Watches and streamed lists that may be open. */
const streamsMaxDefault = 4_096;

export interface RestOptions {
  readonly services: RestServices;
  readonly log: Logger;
  /** Absent: the member is a voter. */
  readonly member?: MemberView;
  /** etcd's --max-request-bytes. Bodies may be larger by what JSON adds. */
  readonly requestBytesMax?: number;
  readonly requestsMax?: number;
  readonly streamsMax?: number;
  /** Distinguishes this process in request ids. */
  readonly requestIdPrefix?: string;
  /** A broken invariant escaped: the process must end. */
  readonly onFatal?: (error: Error) => void;
  /** Told of each request that an operation answered in one piece, however it went. */
  readonly answered?: (durationMs: number) => void;
}

/** What Elysia's handlers answer: the answer itself travels in the exchange, as plain data. */
const routed = new Response(null, { status: 204 });

/** The operation that was found for a request, or none. */
interface Routing {
  operation: Operation | undefined;
}

function onlyReads({ method }: PlainRequest): boolean {
  return method === "GET" || method === "HEAD";
}

export class RestApi {
  readonly #options: RestOptions;
  readonly #app: { fetch(request: Request): Response | Promise<Response> };
  readonly #routing = new WeakMap<Request, Routing>();
  readonly #checks = new BodyChecks();
  readonly #open = new Set<Exchange>();
  readonly #tails: readonly string[];
  readonly #keyedRoutes = new Map<string, Operation>();
  #streams = 0;
  #requests = 0;
  #stopping = false;
  #document: Promise<string> | undefined;

  constructor(options: RestOptions) {
    this.#options = options;
    this.#tails = [
      ...new Set(
        operations
          .filter(({ tail }) => tail !== undefined)
          .map(({ path }) => path.slice(0, path.indexOf("{"))),
      ),
    ];
    const app = new Elysia({ prefix: basePath, strictPath: true }).onError(() => routed).use(openApiPlugin());
    for (const operation of operations) {
      app.route(
        operation.method,
        operation.path.replace(/\{(\w+)\}/g, ":$1"),
        ({ request }: { request: Request }) => {
          this.#routing.get(request)!.operation = operation;
          return routed;
        },
        { config: {}, detail: describeRoute(operation) },
      );
    }
    this.#app = app;
  }

  /** The OpenAPI document as JSON text. */
  document(): Promise<string> {
    this.#document ??= (async () => {
      const response = await this.#app.fetch(new Request(`http://keelson${basePath}${documentPath}`));
      return JSON.stringify(normalisedDocument(await response.json()));
    })();
    return this.#document;
  }

  /** Answers one request whose path lies below {@link basePath}; `admit` throws when the caller may not ask. Never rejects. */
  async ask(plain: PlainRequest, admit: () => void = () => {}): Promise<Answer> {
    const requestId = this.#requestId(plain);
    const startedAtMs = performance.now();
    let operation: Operation | undefined;
    let exchange: Exchange | undefined;
    try {
      admit();
      const target = rawTarget(plain.target);
      if (target === undefined || !target.path.startsWith(basePath)) {
        throw new Problem("not-found", "This is no path of the API.");
      }
      const path = target.path.slice(basePath.length);
      if (path === documentPath && onlyReads(plain)) {
        return {
          status: 200,
          headers: { ...jsonHeaders, "x-request-id": requestId },
          body: await this.document(),
        };
      }
      const prefix = this.#tails.find((candidate) => path.startsWith(candidate));
      const rawTail = prefix === undefined ? undefined : path.slice(prefix.length);
      const routedPath = prefix === undefined ? path : `${prefix}_`;
      exchange = new Exchange(plain, requestId, routedPath, target.query, rawTail);
      operation = await this.#route(plain.method, routedPath, prefix !== undefined);
      const answer = await this.#run(operation, exchange);
      return { ...answer, headers: { ...answer.headers, "x-request-id": requestId } };
    } catch (error) {
      // Whoever is refused before it is known what they want may have wanted to write.
      const writes = operation === undefined ? !onlyReads(plain) : operation.write !== "no";
      return this.#problemAnswer(error, requestId, operation, writes);
    } finally {
      // What streams, or waits for something to happen, lasts as long as its client wants.
      if (operation !== undefined && exchange?.streaming === false && !exchange.endless) {
        this.#options.answered?.(performance.now() - startedAtMs);
      }
    }
  }

  #requestId(plain: PlainRequest): string {
    const given = plain.header("x-request-id");
    if (given !== undefined && /^[\w.:-]{1,64}$/.test(given)) return given;
    return `${this.#options.requestIdPrefix ?? "r"}-${(++this.#requests).toString(36)}`;
  }

  async #route(method: string, path: string, keyed: boolean): Promise<Operation> {
    const asked = method === "HEAD" ? "GET" : method;
    // Paths of keys are all one to the router, and asked for most.
    const name = `${asked} ${path}`;
    const known = keyed ? this.#keyedRoutes.get(name) : undefined;
    if (known !== undefined) return known;
    const found = await this.#find(asked, path);
    if (found !== undefined) {
      if (keyed) this.#keyedRoutes.set(name, found);
      return found;
    }
    const allowed: string[] = [];
    for (const other of ["GET", "PUT", "POST", "DELETE"]) {
      if (other !== asked && (await this.#find(other, path)) !== undefined) allowed.push(other);
    }
    if (allowed.length === 0) throw new Problem("not-found", "This is no path of the API.");
    throw new Problem("method-not-allowed", `${method} is not what this path takes.`, {
      headers: { allow: allowed.join(", ") },
    });
  }

  async #find(method: string, path: string): Promise<Operation | undefined> {
    // Elysia sees a URL that needs no normalising; what is raw in the target was set apart before.
    if (!/^[\w.~%/!$&'()*+,;=:@-]*$/.test(path) || /(?:^|\/)\.{1,2}(?:\/|$)/.test(path)) return undefined;
    const request = new Request(`http://keelson${basePath}${path}`, { method });
    const routing: Routing = { operation: undefined };
    this.#routing.set(request, routing);
    const outcome = this.#app.fetch(request);
    if (outcome instanceof Promise) await outcome;
    return routing.operation;
  }

  async #run(operation: Operation, exchange: Exchange): Promise<Answer> {
    if (this.#stopping) throw new Problem("unavailable", "The server stops.");
    this.#admit(operation, exchange);
    if (this.#open.size >= (this.#options.requestsMax ?? requestsMaxDefault) + this.#streams) {
      throw new Problem("too-many-requests", "Too many requests are being answered.");
    }
    exchange.endless = operation.endless === true;
    this.#open.add(exchange);
    try {
      const bytesMax = this.#options.requestBytesMax ?? requestBytesMaxDefault;
      await exchange.read(operation, bytesMax, this.#checks);
      const answer = await operation.handle(
        exchange as Parameters<Operation["handle"]>[0],
        this.#options.services,
      );
      if (typeof answer.body !== "function") return answer;
      if (exchange.plain.method === "HEAD") {
        // Nobody takes the body: what would write it is to end.
        exchange.cancel();
        return { status: answer.status, headers: answer.headers };
      }
      // What was written cannot be refused any more.
      if (operation.write === "no" && this.#streams >= (this.#options.streamsMax ?? streamsMaxDefault)) {
        throw new Problem("too-many-requests", "Too many streams are open.");
      }
      exchange.streaming = true;
      return this.#counted(answer, exchange, operation);
    } finally {
      if (!exchange.streaming) this.#open.delete(exchange);
    }
  }

  /** A learner answers what needs no vote: the same rule as at the other doors (etcd-wire 6). */
  #admit({ learner = "refuse" }: Operation, exchange: Exchange): void {
    if (learner === "serve" || this.#options.member?.isLearner() !== true) return;
    const serializable = /(?:^|&)serializable(?:=(?:true)?)?(?:&|$)/.test(exchange.rawQuery);
    if (!(learner === "serializable" && serializable)) throw refuse("notSupportedForLearner");
  }

  /** A streamed answer is in the books until its body has ended. */
  #counted(answer: Answer, exchange: Exchange, operation: Operation): Answer {
    const body = answer.body as Exclude<Answer["body"], string | Uint8Array | undefined>;
    this.#streams++;
    let ended = false;
    const end = (): void => {
      if (ended) return;
      ended = true;
      this.#streams--;
      this.#open.delete(exchange);
    };
    exchange.plain.onClose(end);
    return {
      ...answer,
      body: async (writer) => {
        try {
          await body(writer);
        } catch (error) {
          // The client sees a broken connection; what broke it must not be lost.
          if (!(error instanceof StoreError || error instanceof Problem))
            this.#unexpected(error, operation, exchange.requestId);
          throw error;
        } finally {
          end();
        }
      },
    };
  }

  #problemAnswer(
    error: unknown,
    requestId: string,
    operation: Operation | undefined,
    writes: boolean,
  ): Answer {
    let problem: Problem;
    if (error instanceof Problem) problem = error;
    else if (error instanceof StoreError) problem = problemOf(error);
    else {
      this.#unexpected(error, operation, requestId);
      problem = new Problem("internal", "The server met a fault of its own.");
    }
    if (problem.kind === "compacted" && problem.details.more?.["oldestRevision"] === undefined) {
      const oldestRevision = String(Math.max(1, this.#options.services.store.compactedRevision));
      problem = new Problem("compacted", problem.message, { ...problem.details, more: { oldestRevision } });
    }
    const document = problemDocument(problem, requestId, writes);
    return {
      status: problem.status,
      headers: { ...problemHeaders(problem), "x-request-id": requestId },
      body: JSON.stringify(document, (_key, field: unknown) =>
        typeof field === "bigint" ? field.toString() : field,
      ),
    };
  }

  #unexpected(error: unknown, operation: Operation | undefined, requestId: string): void {
    const unexpected = error instanceof Error ? error : new Error(String(error));
    this.#options.log.error("a REST request failed unexpectedly", {
      operation: operation?.id,
      requestId,
      error: unexpected,
    });
    if (unexpected instanceof InvariantError) this.#options.onFatal?.(unexpected);
  }

  /** Ends streams and refuses what comes. Resolves when nothing is open any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const exchange of this.#open) if (exchange.streaming || exchange.endless) exchange.cancel();
    while (this.#open.size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
