/**
 * The console at /ui/: finds the page or action of a request, checks who asks, and answers with a whole document.
 * GET never writes; POST only ever comes from a form of the same session.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { InvariantError } from "../../assert";
import { StoreError } from "../../errors";
import type { Logger } from "../../log";
import type { RestHandler } from "../http/door";
import type { AdminAccess } from "../rest/admin-access";
import type { Answer } from "../rest/answer";
import { NodeRequest, send } from "../rest/node-door";
import { Problem, problemOf } from "../rest/problem";
import { type RawTarget, rawTarget } from "../rest/target";
import { assetAnswer, assetsPath } from "./assets";
import { Form } from "./form";
import { pageHeaders } from "./headers";
import { join, type LiveCell } from "./html";
import { LiveRooms, liveAnswer, livePath } from "./live";
import { loginPath, loginPage } from "./login";
import { Notices } from "./notices";
import type {
  Action,
  ConsoleServices,
  Outcome,
  Page,
  PageContent,
  PageRequest,
  Section,
  Theme,
} from "./page";
import { actions, pages } from "./pages";
import { address, Query } from "./query";
import { cookiesOf, isFormOf, type Session, Sessions } from "./session";
import { document, errorPage, Strip, stripTarget } from "./shell";
import { themeCookie } from "./theme";

export const consolePath = "/ui";
const bodyBytesMaxDefault = 2 * 1024 * 1024;
/** Pages that show of the cluster only the verdict above them, which may be made from figures of three seconds ago. */
const besideFigures: ReadonlySet<Section> = new Set(["keys", "help", "kit"]);
const stripPatienceMs = 2_000;

export interface ConsoleOptions {
  readonly services: ConsoleServices;
  readonly access: AdminAccess;
  readonly log: Logger;
  readonly wallMs: () => number;
  /** Distinguishes this process in request ids, and tells open pages that it is another one. */
  readonly bootId: string;
  /** A broken invariant escaped: the process must end. */
  readonly onFatal?: (error: Error) => void;
}

/** A row of a route table with its path taken apart. */
interface Route<Row> {
  readonly segments: readonly string[];
  readonly row: Row;
}

function routesOf<Row extends { readonly path: string }>(rows: readonly Row[]): readonly Route<Row>[] {
  return rows.map((row) => ({ segments: row.path.split("/").slice(1), row }));
}

/** The row for a path below /ui, with the path's parameters. */
function find<Row>(
  routes: readonly Route<Row>[],
  path: string,
): { readonly row: Row; readonly parameters: Record<string, string> } | undefined {
  const given = path.split("/").slice(1);
  search: for (const { segments, row } of routes) {
    if (segments.length !== given.length) continue;
    const parameters: Record<string, string> = {};
    for (let at = 0; at < segments.length; at++) {
      const wanted = segments[at]!;
      if (!wanted.startsWith(":")) {
        if (wanted !== given[at]) continue search;
        continue;
      }
      try {
        parameters[wanted.slice(1)] = decodeURIComponent(given[at]!);
      } catch {
        continue search;
      }
    }
    return { row, parameters };
  }
  return undefined;
}

/** A request on its way through the console. */
interface Visit {
  readonly node: NodeRequest;
  readonly target: RawTarget;
  readonly path: string;
  readonly session: Session;
  readonly theme: Theme;
  readonly requestId: string;
}

export class Console implements RestHandler {
  readonly #options: ConsoleOptions;
  readonly #sessions: Sessions;
  readonly #notices = new Notices();
  readonly #rooms: LiveRooms;
  readonly #pages = routesOf(pages);
  readonly #actions = routesOf(actions);
  readonly #budget = { heldBytes: 0 };
  #requests = 0;

  constructor(options: ConsoleOptions) {
    this.#options = options;
    this.#sessions = new Sessions(options.access, options.services.status.clusterId, options.wallMs);
    this.#rooms = new LiveRooms({
      bootId: options.bootId,
      render: (target) => this.#renderLive(target),
      keepAsking: () => options.services.status.keepAsking(),
    });
  }

  owns(target: string): boolean {
    const path = rawTarget(target)?.path;
    return path === consolePath || path?.startsWith(`${consolePath}/`) === true;
  }

  async handle(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const node = new NodeRequest(message, response, this.#budget);
    try {
      await send(message, response, await this.#answer(node));
    } catch (error) {
      // Whatever it is, it concerns this request alone.
      this.#options.log.error("the console could not answer", { error });
      response.destroy();
    }
  }

  /** Ends the streams; pages find the server again by themselves. */
  stop(): void {
    this.#rooms.stop();
  }

  async #answer(node: NodeRequest): Promise<Answer> {
    const target = rawTarget(node.target)!;
    if (target.path.startsWith(assetsPath) && (node.method === "GET" || node.method === "HEAD")) {
      const asset = await assetAnswer(target.path, node.header("accept-encoding"));
      if (asset !== undefined) return asset;
    }
    const cookies = cookiesOf(node.header("cookie"));
    const given = cookies.get(themeCookie);
    const visit: Visit = {
      node,
      target,
      path: target.path === consolePath ? "/" : target.path.slice(consolePath.length),
      session: this.#sessions.of(cookies, isEncrypted(node.message)),
      theme: given === "light" || given === "dark" ? given : "system",
      requestId: `${this.#options.bootId}-ui${(++this.#requests).toString(36)}`,
    };
    const answer = await this.#visited(visit);
    const headers: Record<string, string> = { ...answer.headers, "x-request-id": visit.requestId };
    if (visit.session.cookie !== undefined) headers["set-cookie"] ??= visit.session.cookie;
    return { ...answer, headers };
  }

  async #visited(visit: Visit): Promise<Answer> {
    const { node, path, target } = visit;
    if (target.path === consolePath) return redirect(`${consolePath}/`);
    try {
      const denied = this.#admit(visit);
      if (denied !== undefined) return denied;
      if (node.method === "POST") return await this.#act(visit);
      if (node.method !== "GET" && node.method !== "HEAD") {
        throw new Problem("method-not-allowed", `${node.method} is not what pages take.`, {
          headers: { allow: "GET, HEAD, POST" },
        });
      }
      if (path === livePath) {
        return await liveAnswer(this.#rooms, new Query(target.query), (listener) => node.onClose(listener));
      }
      const found = find(this.#pages, path);
      if (found === undefined) {
        throw new Problem("not-found", "There is no such page.", { fix: "Choose one from the menu." });
      }
      const request = this.#request(visit, found.parameters);
      // Figures are of now, not of when somebody looked last; a member that is silent is not waited for.
      const { status } = this.#options.services;
      await status.refresh(besideFigures.has(found.row.section) ? stripPatienceMs : undefined);
      return this.#page(visit, request, found.row, await found.row.render(request));
    } catch (error) {
      return this.#failed(visit, error);
    }
  }

  /** Undefined when the caller may go on; otherwise what it gets instead. Throws Problems. */
  #admit(visit: Visit): Answer | undefined {
    const { node, path, session } = visit;
    const { access } = this.#options;
    if (path === loginPath) return access.needsToken ? undefined : redirect(`${consolePath}/`);
    if (session.proven && access.needsToken) return undefined;
    try {
      access.check(node.message.socket.remoteAddress, node.message.headers);
      return undefined;
    } catch (error) {
      const mayLogIn = error instanceof Problem && error.kind === "unauthorized";
      if (!mayLogIn || node.header("authorization") !== undefined) throw error;
      if (path === livePath || node.header("hx-request") !== undefined) throw error;
      const to = node.method === "POST" ? `${consolePath}/` : node.target;
      return redirect(address(consolePath + loginPath, { to }));
    }
  }

  async #act(visit: Visit): Promise<Answer> {
    const { node, path, session } = visit;
    const found = find(this.#actions, path);
    if (found === undefined) throw new Problem("not-found", "There is no such action.");
    const bytes = await node.readBody(found.row.bodyBytesMax ?? bodyBytesMaxDefault);
    const form = await Form.read(node.header("content-type"), bytes);
    if (!isFormOf(session, form.text("form-token"))) {
      throw new Problem("forbidden", "This form was not made for this browser's session.", {
        fix: "Load the page anew and send the form again. Cookies have to be on.",
      });
    }
    const request = { ...this.#request(visit, found.parameters), form };
    if (path === loginPath) return this.#logIn(visit, request);
    if (path === "/logout") {
      return redirect(consolePath + loginPath, [this.#sessions.ended(isEncrypted(node.message))]);
    }
    return this.#finished(visit, request, found.row, await found.row.run(request));
  }

  #logIn(visit: Visit, request: PageRequest & { readonly form: Form }): Answer {
    const { form } = request;
    const to = localTarget(form.text("to"));
    if (!this.#options.access.isToken(form.text("token")?.trim() ?? "")) {
      const content = loginPage(request, to, "This is not the token.");
      return this.#document(visit, request, content, { known: false });
    }
    const session = this.#sessions.proven(isEncrypted(visit.node.message));
    return redirect(to, [session.cookie!]);
  }

  #finished(visit: Visit, request: PageRequest, action: Action, outcome: Outcome): Answer {
    if (outcome.kind === "page")
      return this.#document(visit, request, outcome.content, { section: action.section });
    const to = localTarget(outcome.to);
    if (outcome.notice === undefined) return redirect(to, outcome.cookies);
    const id = this.#notices.keep(outcome.notice, this.#options.wallMs());
    const [path, query = ""] = to.split("?");
    return redirect(`${path}?${query === "" ? "" : `${query}&`}done=${id}`, outcome.cookies);
  }

  #request({ node, target, session, theme, requestId }: Visit, path: Record<string, string>): PageRequest {
    const encrypted = isEncrypted(node.message);
    return {
      path,
      query: new Query(target.query),
      target: target.query === "" ? target.path : `${target.path}?${target.query}`,
      services: this.#options.services,
      formToken: session.formToken,
      theme,
      origin: `${encrypted ? "https" : "http"}://${node.header("host") ?? "127.0.0.1:2379"}`,
      nowMs: this.#options.wallMs(),
      partial: node.header("hx-request-type") === "partial",
      requestId,
      header: (name) => node.header(name),
    };
  }

  #page(visit: Visit, request: PageRequest, page: Page, content: PageContent | Answer): Answer {
    if (!("title" in content)) return { ...content, headers: { ...pageHeaders, ...content.headers } };
    return this.#document(visit, request, content, {
      section: page.section,
      live: page.live === true,
      // Whoever has still to sign in learns nothing of the cluster.
      known: visit.path !== loginPath,
    });
  }

  /** A whole document, or for scripts that ask for it the page's own part. */
  #document(
    visit: Visit,
    request: PageRequest,
    content: PageContent,
    { section, live = false, known = true }: { section?: Section; live?: boolean; known?: boolean } = {},
  ): Answer {
    const body = request.partial
      ? content.body
      : document({
          request,
          content,
          section,
          live,
          notice: known ? this.#notices.find(request.query.text("done"), request.nowMs) : undefined,
          mayLogOut: visit.session.proven && this.#options.access.needsToken,
          view: known ? this.#options.services.status.view() : undefined,
          bootId: this.#options.bootId,
          posted: visit.node.method === "POST",
        });
    return {
      status: content.status ?? 200,
      headers: { ...pageHeaders, vary: "HX-Request-Type, Cookie", ...content.headers },
      body: body.text,
    };
  }

  /** The live cells of a page, as anybody would see them. Undefined when the page has none. */
  async #renderLive(target: string): Promise<readonly LiveCell[] | undefined> {
    const raw = rawTarget(target);
    if (target === stripTarget) {
      return join(Strip({ view: this.#options.services.status.view(), nowMs: this.#options.wallMs() })).cells;
    }
    if (raw === undefined || !raw.path.startsWith(`${consolePath}/`)) return undefined;
    const found = find(this.#pages, raw.path.slice(consolePath.length));
    if (found === undefined || found.row.live !== true) return undefined;
    const request: PageRequest = {
      path: found.parameters,
      query: new Query(raw.query),
      target,
      services: this.#options.services,
      formToken: "",
      theme: "system",
      origin: "",
      nowMs: this.#options.wallMs(),
      partial: false,
      requestId: "",
      header: () => undefined,
    };
    const content = await found.row.render(request);
    if (!("title" in content)) return undefined;
    return document({
      request,
      content,
      section: found.row.section,
      live: true,
      notice: undefined,
      mayLogOut: false,
      view: this.#options.services.status.view(),
      bootId: this.#options.bootId,
    }).cells;
  }

  #failed(visit: Visit, error: unknown): Answer {
    const problem = this.#problemOf(error, visit);
    const request = this.#request({ ...visit, target: { ...visit.target, query: "" } }, {});
    const unsure = visit.node.method === "POST" && !problem.definite;
    const content = errorPage(problem, visit.requestId, unsure, request.nowMs);
    // Who may not be here learns nothing of the cluster.
    const known = problem.kind !== "forbidden" && problem.kind !== "unauthorized";
    const headers = problem.details.headers ?? {};
    return this.#document(visit, request, { ...content, headers }, { known });
  }

  #problemOf(error: unknown, { target, requestId }: Visit): Problem {
    if (error instanceof Problem) return error;
    if (error instanceof StoreError) return problemOf(error);
    const unexpected = error instanceof Error ? error : new Error(String(error));
    this.#options.log.error("a page failed unexpectedly", {
      path: target.path,
      requestId,
      error: unexpected,
    });
    if (unexpected instanceof InvariantError) this.#options.onFatal?.(unexpected);
    return new Problem("internal", "The server met a fault of its own.");
  }
}

function isEncrypted(message: IncomingMessage): boolean {
  return (message.socket as Partial<TLSSocket>).encrypted === true;
}

/** An address of this console, whatever was asked for. */
export function localTarget(to: string | undefined): string {
  return to !== undefined && /^\/ui\/[\x21-\x7e]*$/.test(to) && !to.includes("\\") ? to : `${consolePath}/`;
}

function redirect(to: string, cookies: readonly string[] = []): Answer {
  const headers: Record<string, string> = { ...pageHeaders, location: to };
  if (cookies[0] !== undefined) headers["set-cookie"] = cookies[0];
  return { status: 303, headers, body: "" };
}
