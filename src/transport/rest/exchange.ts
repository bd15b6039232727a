/** One request on its way through an operation: what it asks for is read and checked here, by the table's row. */
import { createHash } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";
import type { Idempotency } from "../../idempotency";
import { RestCall } from "./call";
import type { BodyChecks } from "./body-checks";
import type { Operation, RestRequest } from "./operation";
import { Problem } from "./problem";
import { parseJson } from "./strict-json";
import { percentDecode, queryParameters } from "./target";

/** A request in plain data, from whichever door. */
export interface PlainRequest {
  readonly method: string;
  /** The target as it came. */
  readonly target: string;
  /** A header by its lower-case name; several of one name are joined. */
  header(name: string): string | undefined;
  /** All of the body. Throws a Problem when it is larger than the limit or the client left. */
  readBody(bytesMax: number): Promise<Uint8Array> | Uint8Array;
  /** Calls back when the client has left. */
  onClose(listener: () => void): void;
}

/** Headers that change what a write does, and so belong to its identity. */
const meaningfulHeaders = ["if-match", "if-none-match"] as const;
const idempotencyKeyPattern = /^[\x21-\x7e]{1,128}$/;
const noBytes = new Uint8Array(0);

export class Exchange implements RestRequest<Record<string, unknown>, Record<string, unknown>, unknown> {
  path: Record<string, unknown> = {};
  query: Record<string, unknown> = {};
  body: unknown = undefined;
  tail: Uint8Array = noBytes;
  /** Its answer's body is being written as it comes. */
  streaming = false;
  /** It may wait for long: a stop of the server ends it. */
  endless = false;
  readonly #calls: RestCall[] = [];
  #query = new Map<string, Uint8Array[]>();
  #idempotency: Idempotency | undefined;
  #gone = false;

  constructor(
    readonly plain: PlainRequest,
    readonly requestId: string,
    readonly rawPath: string,
    readonly rawQuery: string,
    readonly rawTail: string | undefined,
  ) {}

  header(name: string): string | undefined {
    return this.plain.header(name);
  }

  /** Reads path, query, headers and body as the operation declares them. Throws Problems. */
  async read(operation: Operation, bytesMax: number, checks: BodyChecks): Promise<void> {
    if (operation.tail !== undefined) this.tail = operation.tail.read(this.rawTail ?? "");
    this.#readPath(operation);
    this.#readQuery(operation);
    const { body } = operation;
    let bytes = noBytes as Uint8Array;
    if (body !== undefined) {
      if (body.kind === "json") this.#checkMediaType(body.optional === true);
      bytes = await this.plain.readBody(bytesMax);
      if (body.kind === "raw") this.body = bytes;
      else if (bytes.length === 0 && body.optional === true) this.body = {};
      else this.body = checks.check(operation.id, body.schema, parseJson(bytes));
    }
    this.#readIdempotency(operation, bytes);
    this.plain.onClose(() => this.cancel());
  }

  #readPath(operation: Operation): void {
    const wanted = operation.path.split("/");
    const given = this.rawPath.split("/");
    wanted.forEach((segment, at) => {
      if (!segment.startsWith("{")) return;
      const name = segment.slice(1, -1);
      const parameter = operation.pathParameters[name];
      if (parameter === undefined) return;
      const bytes = percentDecode(given[at] ?? "", false);
      if (bytes === undefined) throw new Problem("bad-escape", `${name} in the path has a bad escape.`);
      this.path[name] = parameter.read(bytes, name);
    });
  }

  #readQuery(operation: Operation): void {
    if (this.rawQuery === "") return;
    this.#query = queryParameters(this.rawQuery);
    for (const [name, values] of this.#query) {
      const parameter = Object.hasOwn(operation.query, name) ? operation.query[name] : undefined;
      if (parameter === undefined) {
        const known = Object.keys(operation.query).join(", ") || "none";
        throw new Problem("bad-parameter", `There is no parameter ${JSON.stringify(name)} here.`, {
          fix: `Parameters of this operation: ${known}.`,
        });
      }
      if (values.length > 1) throw new Problem("bad-parameter", `${JSON.stringify(name)} is given twice.`);
      this.query[name] = parameter.read(values[0]!, name);
    }
  }

  /** A form of another site can send text, but no JSON without asking first. */
  #checkMediaType(optional: boolean): void {
    const type = this.header("content-type");
    if (type === undefined && optional && (this.header("content-length") ?? "0") === "0") return;
    if (/^application\/json\s*(?:;|$)/i.test(type ?? "")) return;
    throw new Problem(
      "unsupported-media-type",
      `This operation takes JSON, not ${type ?? "a body without a type"}.`,
    );
  }

  #readIdempotency(operation: Operation, body: Uint8Array): void {
    const given = this.header("idempotency-key");
    if (given === undefined || operation.write === "no") return;
    if (operation.write === "local") {
      throw new Problem("bad-parameter", "This operation is not replicated, so it takes no Idempotency-Key.");
    }
    if (!idempotencyKeyPattern.test(given)) {
      throw new Problem(
        "bad-parameter",
        "An Idempotency-Key is 1 to 128 printable ASCII characters without spaces.",
      );
    }
    const hash = createHash("sha256");
    for (const part of [operation.id, this.rawPath, this.rawTail ?? "", this.rawQuery])
      hash.update(`${part}\n`);
    for (const name of meaningfulHeaders) hash.update(`${name}:${this.header(name) ?? ""}\n`);
    this.#idempotency = { key: Buffer.from(given, "latin1"), requestHash: hash.update(body).digest() };
  }

  call(rpc: DescMethod): RestCall {
    const call = new RestCall(rpc, this.#stepIdempotency(rpc));
    this.#calls.push(call);
    if (this.#gone) call.cancel();
    return call;
  }

  /** Each command that a request leads to has a key of its own: the n-th of its kind. */
  #stepIdempotency(rpc: DescMethod): Idempotency | undefined {
    if (this.#idempotency === undefined) return undefined;
    const earlier = this.#calls.filter(({ method }) => method === rpc).length;
    const { key, requestHash } = this.#idempotency;
    return { key: Buffer.concat([key, Buffer.from(` ${rpc.name} ${earlier}`)]), requestHash };
  }

  /** The client has left, or the server stops: every call of this request ends. */
  cancel(): void {
    this.#gone = true;
    for (const call of this.#calls) call.cancel();
  }

  get gone(): boolean {
    return this.#gone;
  }

  queryHash(without: readonly string[]): string {
    const hash = createHash("sha256");
    for (const name of [...this.#query.keys()].sort()) {
      if (!without.includes(name)) hash.update(`${name}=`).update(this.#query.get(name)![0]!).update("\n");
    }
    return hash.digest("base64url").slice(0, 16);
  }

  prefers(mediaType: string, over: string): boolean {
    const accept = this.header("accept");
    if (accept === undefined) return false;
    return quality(accept, mediaType) > quality(accept, over);
  }
}

/** How much an Accept header wants a media type, 0 to 1 (RFC 9110, section 12.5.1). */
function quality(accept: string, mediaType: string): number {
  let best = 0;
  let closest = -1;
  for (const range of accept.split(",")) {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
    const near =
      type === mediaType ? 2 : type === `${mediaType.split("/")[0]}/*` ? 1 : type === "*/*" ? 0 : -1;
    if (near <= closest) continue;
    closest = near;
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    best = q === undefined ? 1 : Number(q.slice(2)) || 0;
  }
  return best;
}
