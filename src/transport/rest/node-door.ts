/** REST over node:http: bodies are read within limits, streams are written no faster than the client reads. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { assert } from "../../assert";
import { whenWritable } from "../gateway/write";
import type { Denial } from "../http/access";
import type { RestHandler } from "../http/door";
import type { LaneAnswer, LaneHandler, LaneRequest } from "../http1/key-lane";
import type { AdminAccess } from "./admin-access";
import type { Answer, BodyWriter } from "./answer";
import type { PlainRequest } from "./exchange";
import { explorerPage } from "./explorer/explorer";
import { Problem } from "./problem";
import { basePath } from "./paths";
import type { RateLimit } from "./rate-limit";
import type { RestApi } from "./rest";
import { rawTarget } from "./target";

/** Bytes of bodies that all clients together may make the server hold. */
const bodyBytesHeldMax = 128 * 1024 * 1024;

/** How many bytes of bodies are held, over all requests of a door. */
export interface BodyBudget {
  heldBytes: number;
}

function tooLarge(bytesMax: number): Problem {
  return new Problem("too-large", `The body is larger than ${bytesMax} bytes.`, {
    headers: { connection: "close" },
  });
}

export class NodeRequest implements PlainRequest {
  constructor(
    readonly message: IncomingMessage,
    readonly response: ServerResponse,
    readonly door: BodyBudget,
  ) {}

  get method(): string {
    return this.message.method ?? "GET";
  }
  get target(): string {
    return this.message.url ?? "";
  }

  header(name: string): string | undefined {
    const value = this.message.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  readBody(bytesMax: number): Promise<Uint8Array> {
    const { message, door } = this;
    if (Number(message.headers["content-length"] ?? 0) > bytesMax) return Promise.reject(tooLarge(bytesMax));
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      const release = (): void => {
        door.heldBytes -= bytes;
        bytes = 0;
      };
      message.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        door.heldBytes += chunk.length;
        chunks.push(chunk);
        if (bytes <= bytesMax && door.heldBytes <= bodyBytesHeldMax) return;
        const problem =
          bytes > bytesMax
            ? tooLarge(bytesMax)
            : new Problem("unavailable", "Too many bodies are being read at the moment.");
        release();
        chunks.length = 0;
        message.removeAllListeners("data");
        message.resume();
        reject(problem);
      });
      message.on("end", () => {
        release();
        resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
      });
      message.on("close", () => {
        release();
        if (!message.complete) reject(new Problem("bad-request", "The body broke off."));
      });
    });
  }

  onClose(listener: () => void): void {
    // A client that left before this was asked for left nevertheless.
    if (this.response.destroyed || this.message.socket.destroyed) listener();
    else this.response.on("close", listener);
  }
}

/** The node:http side of one API and its explorer. */
export class RestDoor implements RestHandler, BodyBudget {
  heldBytes = 0;

  constructor(
    readonly api: RestApi,
    readonly access: AdminAccess,
    readonly rate: RateLimit,
  ) {}

  owns(target: string): boolean {
    const path = rawTarget(target)?.path;
    return (
      path !== undefined &&
      (path === basePath || path.startsWith(`${basePath}/`) || explorerPage(path) !== undefined)
    );
  }

  async handle(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = new NodeRequest(message, response, this);
    await send(message, response, await this.#answer(request));
  }

  async turnAway(message: IncomingMessage, response: ServerResponse, denial: Denial): Promise<void> {
    const [detail = "", ...fix] = denial.text.split("\n").filter((line) => line !== "");
    const problem = new Problem(denial.status === 421 ? "misdirected" : "forbidden", detail, {
      fix: fix.join(" ").replace(/\s+/g, " "),
    });
    const answer = await this.api.ask(new NodeRequest(message, response, this), () => {
      throw problem;
    });
    await send(message, response, answer);
  }

  #answer(request: NodeRequest): Promise<Answer> | Answer {
    const { message } = request;
    // The explorer's files hold nothing of the store; what they call is checked like anybody's call.
    const page = explorerPage(rawTarget(request.target)?.path ?? "");
    if (page !== undefined) return page;
    const { remoteAddress } = message.socket;
    return this.api.ask(request, () => {
      this.rate.count(remoteAddress);
      this.access.check(remoteAddress, message.headers);
    });
  }
}

/** The same API for requests of single keys that came whole. */
export class KeyDoor implements LaneHandler {
  constructor(
    readonly api: RestApi,
    readonly access: AdminAccess,
    readonly rate: RateLimit,
  ) {}

  takes(target: string): boolean {
    return target.startsWith(`${basePath}/kv/`) || target.startsWith(`${basePath}/kv64/`);
  }

  async answer(request: LaneRequest): Promise<LaneAnswer> {
    const { headers, body } = request;
    const {
      status,
      headers: answerHeaders,
      body: answerBody,
    } = await this.api.ask(
      {
        method: request.method,
        target: request.target,
        header: (name) => headers[name] as string | undefined,
        readBody: (bytesMax) => {
          if (body.length > bytesMax) throw tooLarge(bytesMax);
          return body;
        },
        onClose: (listener) => request.onClose(listener),
      },
      () => {
        this.rate.count(request.remoteAddress);
        if (request.admitted) return;
        this.access.check(request.remoteAddress, headers);
        request.admit();
      },
    );
    assert(typeof answerBody !== "function", "an operation of single keys answers with a stream");
    return { status, headers: answerHeaders, body: answerBody };
  }
}

/** Writes an answer; a body that fails midway resets the connection, so that it cannot pass for a whole one. */
export async function send(
  message: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
): Promise<void> {
  if (response.destroyed) return;
  // What is left of a body would block the connection's next request.
  if (!message.complete) message.resume();
  const { body, headers, status } = answer;
  if (typeof body !== "function") {
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    // Head and body in one write: two cost a quarter of the whole request.
    const { socket } = response;
    socket?.cork();
    process.nextTick(() => socket?.uncork());
    // To HEAD the length is that of the body which GET would have; that of a stream nobody knows.
    if (status !== 204 && status !== 304 && (bytes !== undefined || message.method !== "HEAD")) {
      response.writeHead(status, { ...headers, "content-length": bytes?.length ?? 0 });
    } else response.writeHead(status, headers);
    if (bytes === undefined || message.method === "HEAD") response.end();
    else response.end(bytes);
    return;
  }
  response.writeHead(status, headers);
  response.flushHeaders();
  const writer: BodyWriter = {
    write: (piece) => {
      if (response.destroyed) return true;
      return response.write(piece);
    },
    drained: () => whenWritable(response),
    get over() {
      return response.destroyed;
    },
  };
  try {
    await body(writer);
    response.end();
  } catch {
    response.destroy();
  }
}
