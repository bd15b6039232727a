/** A whole member in this process, asked over REST without a socket, or over HTTP where that is the point. */
import { join } from "node:path";
import { parseCommandLine } from "../../src/command/options";
import { CapturingLogger } from "../../src/log";
import { type Server, startServer } from "../../src/server";
import type { BodyWriter } from "../../src/transport/rest/answer";
import { Problem } from "../../src/transport/rest/problem";
import { basePath } from "../../src/transport/rest/paths";
import { freePorts, scratchDir } from "../tools/server";

export interface Asked {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes: Uint8Array;
  readonly text: string;
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown;
}

/** What lies at a path inside JSON, as text; "undefined" where there is nothing. */
export function at(json: unknown, ...path: readonly (string | number)[]): string {
  let value = json;
  for (const name of path) value = (value as Record<string | number, unknown> | undefined)?.[name];
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "undefined");
}

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** Anything but bytes and text is sent as JSON. */
  readonly body?: unknown;
  /** The client leaves after this long, whether the answer is complete or not. */
  readonly leaveAfterMs?: number;
  /** The client leaves once it has the first piece of a stream. */
  readonly leaveAfterFirst?: boolean;
}

/** What a body is sent as. */
export function bodyBytes(body: unknown): { readonly bytes: Uint8Array; readonly type: string } {
  if (body instanceof Uint8Array) return { bytes: body, type: "application/octet-stream" };
  if (typeof body === "string") return { bytes: Buffer.from(body), type: "text/plain" };
  return { bytes: Buffer.from(JSON.stringify(body)), type: "application/json" };
}

function answered(status: number, headers: Readonly<Record<string, string>>, bytes: Uint8Array): Asked {
  const text = Buffer.from(bytes).toString("utf8");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status, headers, bytes, text, json };
}

export class RestHarness {
  private constructor(
    readonly server: Server,
    readonly directory: string,
    readonly log: CapturingLogger,
  ) {}

  static async start(
    flags: readonly string[] = [],
    directory = join(scratchDir("rest"), "data"),
  ): Promise<RestHarness> {
    const parsed = parseCommandLine(
      [
        `--data-dir=${directory}`,
        "--listen-client-urls=http://127.0.0.1:0",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--unsafe-no-fsync",
        ...flags,
      ],
      {},
    );
    if (parsed.kind !== "server") throw new Error(JSON.stringify(parsed));
    const log = new CapturingLogger();
    const fatal = (error: unknown): void => {
      throw error instanceof Error ? error : new Error(String(error));
    };
    return new RestHarness(await startServer(parsed.options, log, { fatal, removed() {} }), directory, log);
  }

  /** Members of one new cluster, all in this process. */
  static async startCluster(count: number): Promise<RestHarness[]> {
    const ports = await freePorts(count);
    const cluster = ports.map((port, at) => `m${at}=http://127.0.0.1:${port}`).join(",");
    return Promise.all(
      ports.map((port, at) =>
        RestHarness.start([
          `--name=m${at}`,
          `--initial-cluster=${cluster}`,
          `--initial-advertise-peer-urls=http://127.0.0.1:${port}`,
          `--listen-peer-urls=http://127.0.0.1:${port}`,
        ]),
      ),
    );
  }

  /** Such as http://127.0.0.1:34567. */
  get url(): string {
    return this.server.clientUrls[0]!;
  }

  /** Asks the API in this process; a streamed body is collected until it ends or fails. */
  async ask(
    method: string,
    path: string,
    { headers = {}, body, leaveAfterMs, leaveAfterFirst }: AskOptions = {},
  ): Promise<Asked> {
    const sent = body === undefined ? undefined : bodyBytes(body);
    const all: Record<string, string> = {};
    if (sent !== undefined) {
      all["content-type"] = sent.type;
      all["content-length"] = String(sent.bytes.length);
    }
    for (const [name, value] of Object.entries(headers)) all[name.toLowerCase()] = value;
    const closing: (() => void)[] = [];
    const answer = await this.server.rest.ask({
      method,
      target: basePath + path,
      header: (name) => all[name],
      readBody: async (bytesMax) => {
        if ((sent?.bytes.length ?? 0) > bytesMax) throw new Problem("too-large", "The body is too large.");
        return sent?.bytes ?? new Uint8Array(0);
      },
      onClose: (listener) => void closing.push(listener),
    });
    if (typeof answer.body === "function") {
      const pieces: Buffer[] = [];
      const writer: BodyWriter = {
        write: (piece) => {
          pieces.push(Buffer.from(piece as string));
          if (leaveAfterFirst === true) leave();
          return true;
        },
        drained: () => new Promise((resolve) => setImmediate(resolve)),
        get over() {
          return left;
        },
      };
      let left = false;
      const leave = (): void => {
        left = true;
        for (const listener of closing) listener();
      };
      const timer = leaveAfterMs === undefined ? undefined : setTimeout(leave, leaveAfterMs);
      try {
        await answer.body(writer);
      } catch (error) {
        if (!left) throw error;
      } finally {
        clearTimeout(timer);
      }
      return answered(answer.status, answer.headers, Buffer.concat(pieces));
    }
    const bytes =
      typeof answer.body === "string" ? Buffer.from(answer.body) : (answer.body ?? new Uint8Array(0));
    return answered(answer.status, answer.headers, bytes);
  }

  stop(): Promise<void> {
    return this.server.stop();
  }
}
