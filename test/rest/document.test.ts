/**
 * The OpenAPI document: it is valid, its examples run, and a seeded walk over every parameter with valid, boundary and
 * invalid values meets no status and no shape that it does not declare.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv, { type ValidateFunction } from "ajv";
import { SeededRng } from "../../src/rng";
import { type Asked, type AskOptions, at, RestHarness } from "./harness";

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly schema: Schema;
  readonly example?: string;
}
interface Schema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
}
interface Example {
  readonly target: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
  readonly status: number;
  readonly after?: readonly string[];
  readonly given?: Record<string, { readonly operation: string; readonly at: readonly (string | number)[] }>;
}
interface Route {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: {
    readonly content: Record<string, { readonly schema: object; readonly example?: unknown }>;
  };
  readonly responses: Record<
    string,
    { readonly description: string; readonly content?: Record<string, { readonly schema: object }> }
  >;
  readonly "x-examples": readonly Example[];
}
interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, Route>>;
  readonly components: { readonly schemas: Record<string, object> };
}

const base = "/api/v1";
let store: RestHarness;
let document: Document;
let ajv: Ajv;
const validators = new Map<string, ValidateFunction>();

/** OpenAPI 3.0 says "nullable" where JSON Schema has a type of its own. */
function toJsonSchema(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toJsonSchema);
  if (typeof value !== "object" || value === null) return value;
  const { nullable, example: _, ...rest } = value as Record<string, unknown>;
  const mapped = Object.fromEntries(
    Object.entries(rest).map(([name, inner]) => [
      name,
      name === "$ref" && typeof inner === "string"
        ? inner.replace("#/components/schemas/", "keelson:")
        : toJsonSchema(inner),
    ]),
  );
  return nullable === true ? { anyOf: [mapped, { type: "null" }] } : mapped;
}

beforeAll(async () => {
  store = await RestHarness.start();
  document = JSON.parse(await store.server.rest.document()) as Document;
  ajv = new Ajv({ strict: false, formats: { int64: true, "date-time": true, binary: true } });
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    ajv.addSchema(toJsonSchema(schema) as object, `keelson:${name}`);
  }
});
afterAll(() => store.stop());

/** Every operation with where it is. */
function routes(): { path: string; method: string; route: Route }[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => ({ path, method: method.toUpperCase(), route })),
  );
}

function complaintsOf(name: string, schema: object, value: unknown): string | undefined {
  let validate = validators.get(name);
  if (validate === undefined) {
    validate = ajv.compile(toJsonSchema(schema) as object);
    validators.set(name, validate);
  }
  return validate(value) === true ? undefined : ajv.errorsText(validate.errors);
}

/** What the document does not allow about an answer. */
function undeclared(route: Route, answer: Asked): string | undefined {
  const declared = route.responses[answer.status];
  if (declared === undefined) return `status ${answer.status}: ${answer.text}`;
  if (answer.status >= 500) return `status ${answer.status}: ${answer.text}`;
  if (answer.bytes.length === 0 && declared.content === undefined) return undefined;
  const type = (answer.headers["content-type"] ?? "none").split(";")[0]!;
  const content = declared.content?.[type];
  if (content === undefined) return `${answer.status} with content type ${type}`;
  const name = `${route.operationId} ${answer.status} ${type}`;
  const check = (value: unknown): string | undefined => {
    const complaint = complaintsOf(name, content.schema, value);
    return complaint === undefined
      ? undefined
      : `${name}: ${complaint}: ${JSON.stringify(value).slice(0, 300)}`;
  };
  if (type === "application/octet-stream") return undefined;
  if (type === "application/x-ndjson") {
    return answer.text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => check(JSON.parse(line)))
      .find((complaint) => complaint !== undefined);
  }
  if (type === "text/event-stream") {
    return answer.text
      .split("\n")
      .filter((line) => line.startsWith("data: "))
      .map((line) => check(JSON.parse(line.slice(6))))
      .find((complaint) => complaint !== undefined);
  }
  return check(answer.json);
}

const leaving = (route: Route): AskOptions => (route.operationId === "watch" ? { leaveAfterMs: 3 } : {});

describe("the document", () => {
  test("is valid OpenAPI 3.0.3", async () => {
    expect(document.openapi).toBe("3.0.3");
    const result = await new Validator().validate(
      structuredClone(document) as unknown as Record<string, unknown>,
    );
    expect(result.errors).toBeUndefined();
    expect(result.valid).toBe(true);
    const text = JSON.stringify(document);
    expect(text).not.toContain('"const"');
    expect(text).not.toContain('"type":"null"');
    expect(text).not.toContain("patternProperties");
  });

  test("the validator would have noticed", async () => {
    const broken = structuredClone(document) as unknown as Record<string, unknown> & {
      paths: Record<string, Record<string, { responses: unknown }>>;
    };
    broken.paths[`${base}/keys`]!["get"]!.responses = { 200: {} };
    expect((await new Validator().validate(broken)).valid).toBe(false);
  });

  test("is served, and each operation says what it is, what it needs and what it answers", async () => {
    const served = await fetch(`${store.url}${base}/openapi.json`);
    expect(served.headers.get("content-type")).toBe("application/json");
    expect(await served.json()).toEqual(document);
    const ids = routes().map(({ route }) => route.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { route } of routes()) {
      expect(route).toMatchObject({
        summary: expect.any(String),
        tags: [expect.any(String)],
        "x-permission": expect.any(String),
      });
      expect([route.operationId, route["x-examples"].length > 0]).toEqual([route.operationId, true]);
      for (const { description } of Object.values(route.responses))
        expect(description.length).toBeGreaterThan(3);
    }
  });

  test("every example runs", async () => {
    const byId = new Map(routes().map((entry) => [entry.route.operationId, entry]));
    const run = async (id: string): Promise<void> => {
      const { method, route } = byId.get(id)!;
      for (const example of route["x-examples"]) {
        for (const earlier of example.after ?? []) await prepare(earlier);
        const target = await filled(example);
        const answer = await store.ask(method, target, { ...example, ...leaving(route) });
        expect([id, answer.status, answer.status < 400 ? "" : answer.text]).toEqual([id, example.status, ""]);
        expect(undeclared(route, answer)).toBeUndefined();
        await ended();
      }
    };
    /** As `run`, but what is there already is fine. */
    const prepare = async (id: string): Promise<void> => {
      const { method, route } = byId.get(id)!;
      for (const example of route["x-examples"]) await store.ask(method, example.target, example);
      await ended();
    };
    /** The target with what other examples answer in place of the names in braces. */
    const filled = async ({ target, given = {} }: Example): Promise<string> => {
      let whole = target;
      for (const [name, { operation, at: path }] of Object.entries(given)) {
        const { method, route } = byId.get(operation)!;
        const example = route["x-examples"][0]!;
        const { json } = await store.ask(method, example.target, example);
        whole = whole.replace(`{${name}}`, at(json, ...path));
      }
      return whole;
    };
    const order = [...byId.keys()].filter((id) => !id.startsWith("delete") && !id.startsWith("revoke"));
    for (const id of [...order, ...[...byId.keys()].filter((other) => !order.includes(other))]) {
      if (id === "putKey" || id === "putKey64") await store.ask("DELETE", "/kv/greeting");
      if (id === "grantLease") await store.ask("DELETE", "/leases/694d71ddacfda227");
      await run(id);
    }
    await ended();
  });
});

/** Waits until no job runs. */
async function ended(): Promise<void> {
  for (;;) {
    const { json } = await store.ask("GET", "/jobs");
    if (!JSON.stringify(json).includes('"running"')) return;
    await Bun.sleep(10);
  }
}

/** Values that are fine, at the edge, and wrong, for what a schema says. */
function valuesFor(parameter: Parameter, rng: SeededRng): string {
  const { schema, example, name } = parameter;
  const valid: string[] = [...(example === undefined ? [] : [example]), ...(schema.enum ?? [])];
  const edge: string[] = [
    "",
    "0",
    "1",
    " ",
    "-1",
    "01",
    "true",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "ffffffffffffffff",
    "7fffffffffffffff",
  ];
  if (schema.minimum !== undefined) edge.push(String(schema.minimum), String(schema.minimum - 1));
  if (schema.maximum !== undefined) edge.push(String(schema.maximum), String(schema.maximum + 1));
  if (name === "revision") valid.push("1", "5", "10");
  if (name === "limit") valid.push("1", "3");
  if (parameter.in === "header") {
    valid.push(
      '"5"',
      'W/"5", "6"',
      "*",
      "bytes=0-9",
      "bytes=-5",
      "5",
      "7.1",
      "7.1.0123abcd",
      `key-${rng.below(50)}`,
    );
    edge.push('"', ",", "bytes=9-1", "bytes=99999999999-", "é", "x".repeat(200));
  }
  const wrong = [
    "%",
    "null",
    "[]",
    "{}",
    "\u0000",
    "ÿ",
    "a".repeat(5_000),
    "../..",
    "\ud83d\ude00",
    "1e9",
    "NaN",
    "a&b=c",
    "'\"<>",
  ];
  const from = rng.below(10) < 6 && valid.length > 0 ? valid : rng.below(2) === 0 ? edge : wrong;
  return from[rng.below(from.length)]!;
}

const bodies: readonly unknown[] = [
  {},
  [],
  null,
  0,
  "text",
  { ttl: 60 },
  { ttl: 6_000, id: "694d71ddacfda227" },
  { ttl: 0 },
  { ttl: 9_000_000_000 },
  { ttl: 9_000_000_001 },
  { ttl: 5, id: "0" },
  { ttl: 5, id: "7fffffffffffffff" },
  { ttl: 5, id: "8000000000000000" },
  { ttl: "60" },
  { ttl: 60, extra: 1 },
  { revision: "1" },
  { revision: "99999999999999999999" },
  { revision: 3 },
  { revision: "9223372036854775807" },
  { member: "1" },
  { member: "zz" },
  {
    compare: [{ key: "a", target: "exists", exists: true }],
    then: [{ get: { key: "a" } }],
    else: [{ put: { key: "a", value: "b" } }],
  },
  { then: [{ delete: { prefix: "" } }] },
  { then: [{ put: { key: "a", value: "b", lease: "1" } }] },
  { compare: [{}] },
  { then: Array.from({ length: 129 }, (_, i) => ({ get: { key: String(i) } })) },
  { then: [{ get: { from: "z", to: "a" } }] },
  { compare: [{ key: "a", target: "version", is: "<", number: "9223372036854775807" }] },
  { then: [{ txn: { then: [{ txn: {} }] } }] },
  { peerUrls: [] },
  { peerUrls: ["nonsense"] },
  { peerUrls: ["http://127.0.0.1:12380"] },
  { peerUrls: ["http://127.0.0.1:1"], learner: true, x: 1 },
  { waitSeconds: 0 },
  { ttl: 1, lease: "5" },
  { lease: "5" },
  { key: "\ud800" },
  JSON.parse('{"__proto__": {"ttl": 5}}') as unknown,
  Buffer.from("{"),
  Buffer.from([0xff, 0xfe]),
  Buffer.from('{"ttl":1,"ttl":2}'),
  Buffer.from(`${"[".repeat(200)}${"]".repeat(200)}`),
];

/** What would end the walk rather than be part of it: walked over as a question only. */
const onlyAsked = new Set(["addMember", "removeMember"]);

test("a seeded walk sees no 5xx, no undeclared status and no undeclared shape", async () => {
  const requests = Number(process.env["KEELSON_REST_WALK"] ?? 20_000);
  const rng = new SeededRng(Number(process.env["KEELSON_REST_SEED"] ?? 4));
  const all = routes();
  const statuses = new Map<string, Set<number>>();
  const snapshots: string[] = [];
  const jobs: string[] = [];
  for (let round = 0; round < requests; round++) {
    // A lease that the examples' id finds.
    if (round % 500 === 0)
      await store.ask("POST", "/leases", { body: { ttl: 6_000, id: "694d71ddacfda227" } });
    const { path, method, route } = all[rng.below(all.length)]!;
    const id = route.operationId;
    // Jobs and copies take their time; they are walked over less often.
    const slow = [
      "takeSnapshot",
      "compact",
      "giveSpaceBack",
      "compareHashes",
      "acquireLock",
      "watch",
    ].includes(id);
    if (slow && rng.below(8) !== 0) continue;
    let target = path.slice(base.length);
    const query: string[] = [];
    const headers: Record<string, string> = {};
    for (const parameter of route.parameters ?? []) {
      let value = valuesFor(parameter, rng);
      if (parameter.in === "path") {
        // Half of the names are those of things that are there.
        const there = target.startsWith("/snapshots/")
          ? snapshots
          : target.startsWith("/jobs/")
            ? jobs
            : target.startsWith("/members/")
              ? [at((await store.ask("GET", "/members")).json, "members", 0, "id")]
              : [];
        if (there.length > 0 && rng.below(2) === 0) value = there[rng.below(there.length)]!;
        const raw = rng.below(20) === 0 ? value.replace(/[^\x21-\x7e]|[#?]/g, "") : encodeURIComponent(value);
        target = target.replace(`{${parameter.name}}`, () => raw);
      } else if (parameter.in === "query") {
        if (rng.below(4) === 0)
          query.push(
            rng.below(10) === 0
              ? `${parameter.name}`
              : `${parameter.name}=${rng.below(30) === 0 ? value.replace(/[^\x21-\x7e]|[&#]/g, "") : encodeURIComponent(value)}`,
          );
      } else if (rng.below(3) === 0) headers[parameter.name] = value.replace(/[^\x20-\xff]/g, "");
    }
    if (rng.below(40) === 0) query.push("unknown=1");
    if (onlyAsked.has(id) && !query.includes("dryRun=true")) query.splice(0, query.length, "dryRun=true");
    const accept = ["application/x-ndjson", "text/event-stream", "application/json", "*/*", "nonsense;q="][
      rng.below(8)
    ];
    if (accept !== undefined) headers["accept"] = accept;
    const wantsBody = route.requestBody !== undefined && rng.below(15) !== 0;
    const body = wantsBody ? (rng.below(4) === 0 ? "plain" : bodies[rng.below(bodies.length)]) : undefined;
    if (body instanceof Buffer) headers["content-type"] = "application/json";
    const full = query.length === 0 ? target : `${target}?${query.join("&")}`;
    const answer = await store.ask(method, full, {
      headers,
      ...(body === undefined
        ? {}
        : { body: body === "plain" && rng.below(2) === 0 ? "v".repeat(rng.below(300)) : body }),
      ...leaving(route),
    });
    const where = `round ${round}: ${method} ${full.slice(0, 300)} ${JSON.stringify(headers).slice(0, 200)} ${JSON.stringify(body)?.slice(0, 200)}`;
    // Jobs are bounded, which is no fault of theirs.
    const found = undeclared(route, answer);
    expect([where, found]).toEqual([where, undefined]);
    const seen = statuses.get(id) ?? new Set();
    statuses.set(id, seen.add(answer.status));
    if (answer.status === 202) {
      await ended();
      jobs.push(at(answer.json, "id"));
      const job = await store.ask("GET", `/jobs/${at(answer.json, "id")}`);
      expect([id, at(job.json, "state"), at(job.json, "error")]).toEqual([id, "done", "undefined"]);
      const name = at(job.json, "result", "name");
      if (id === "takeSnapshot" && name !== "undefined") snapshots.push(name);
    }
  }
  // The walk is of use only when it came to both sides of each operation.
  for (const { route } of all) {
    const seen = [...(statuses.get(route.operationId) ?? [])];
    expect([route.operationId, seen.some((status) => status < 400)]).toEqual([route.operationId, true]);
  }
}, 240_000);
