/** The OpenAPI 3.0.3 document: made by Elysia's plugin from the routes, and mended where the plugin errs. */
import { swagger } from "@elysiajs/swagger";
import type { TSchema } from "@sinclair/typebox";
import { keelsonVersion } from "../../version";
import type { Content, HeaderDescription, Operation, Parameters } from "./operation";
import { type ProblemKind, problemKinds } from "./problem";
import { ProblemShape } from "./schemas";

export const documentPath = "/openapi.json";

const tags = [
  { name: "keys", description: "One key at a time: values are raw bodies, conditions are entity tags." },
  { name: "lists", description: "Many keys: lists, range deletes, history." },
  { name: "transactions", description: "Compares, then, else." },
  { name: "watch", description: "Changes as they happen." },
  { name: "leases", description: "Leases and locks." },
  { name: "cluster", description: "Members, status, alarms." },
  { name: "maintenance", description: "Compaction, space, hashes, snapshots, and the jobs that do them." },
] as const;

/** Elysia's plugin, which serves the raw document; its own pages, which load scripts from elsewhere, are not used. */
export function openApiPlugin(): ReturnType<typeof swagger> {
  return swagger({
    path: "/unused-explorer",
    specPath: documentPath,
    documentation: {
      info: {
        title: "Keelson",
        version: keelsonVersion,
        description:
          "Plain keys and values over HTTP. 64-bit numbers are decimal strings, ids 16 hexadecimal digits. Errors " +
          "are RFC 9457 problem documents.",
        license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
      },
      servers: [{ url: "/", description: "The member that served this document." }],
      tags: [...tags],
      components: {
        securitySchemes: {
          adminToken: {
            type: "http",
            scheme: "bearer",
            description:
              "The token of --admin-token-file. Without that flag, requests from the member's own machine need none.",
          },
        },
      },
      security: [{}, { adminToken: [] }],
    },
  });
}

/** Problems that any operation may answer with. */
const commonProblems: readonly ProblemKind[] = [
  "bad-request",
  "unauthorized",
  "forbidden",
  "misdirected",
  "too-many-requests",
  "internal",
  "unavailable",
  "timeout",
];

/** The statuses with which an operation may fail, and the kinds of problem behind each. */
export function problemsOf(operation: Operation): Map<number, ProblemKind[]> {
  const kinds = new Set<ProblemKind>([...commonProblems, ...operation.problems]);
  if (operation.tail !== undefined)
    for (const kind of ["bad-escape", "dot-segment", "empty-key"] as const) kinds.add(kind);
  // A value that is empty, or has a slash, makes another path of it.
  if (Object.keys(operation.pathParameters).length > 0) kinds.add("not-found").add("method-not-allowed");
  if (operation.body !== undefined) kinds.add("too-large");
  if (operation.body?.kind === "json") kinds.add("bad-body").add("unsupported-media-type");
  if (operation.write === "replicated") kinds.add("idempotency-key-reused").add("idempotency-full");
  const byStatus = new Map<number, ProblemKind[]>();
  for (const kind of kinds) {
    const { status } = problemKinds[kind];
    byStatus.set(status, [...(byStatus.get(status) ?? []), kind]);
  }
  return byStatus;
}

function parametersOf(place: "path" | "query", parameters: Parameters): Record<string, unknown>[] {
  return Object.entries(parameters).map(([name, { schema, description, example }]) => ({
    name,
    in: place,
    description,
    required: place === "path",
    ...(place === "query" ? { allowEmptyValue: true } : {}),
    schema,
    ...(example === undefined ? {} : { example }),
  }));
}

const idempotencyKeyHeader: HeaderDescription = {
  description:
    "1 to 128 printable characters. A request sent again under the same key within 15 minutes is applied once, and answered as the first time.",
};

function headerParametersOf(operation: Operation): Record<string, unknown>[] {
  const headers = {
    ...operation.headers,
    ...(operation.write === "replicated" ? { "Idempotency-Key": idempotencyKeyHeader } : {}),
  };
  return Object.entries(headers).map(([name, { description, example }]) => ({
    name,
    in: "header",
    description,
    required: false,
    schema: { type: "string" },
    ...(example === undefined ? {} : { example }),
  }));
}

function mediaTypes(content: readonly Content[]): Record<string, unknown> {
  return Object.fromEntries(
    content.map((form) => {
      if (form.kind === "json") return ["application/json", { schema: form.schema }];
      if (form.kind === "raw") {
        return [
          form.mediaType,
          { schema: { type: "string", format: "binary", description: form.description } },
        ];
      }
      // OpenAPI 3.0 cannot say "many of these": the schema is that of one line, or of one event's data.
      return [form.mediaType, { schema: form.schema, "x-stream": form.description }];
    }),
  );
}

function headersOf(headers: Readonly<Record<string, HeaderDescription>> = {}): Record<string, unknown> {
  return {
    ...Object.fromEntries(
      Object.entries(headers).map(([name, { description, example }]) => [
        name,
        { description, schema: { type: "string" }, ...(example === undefined ? {} : { example }) },
      ]),
    ),
    "X-Request-Id": { description: "The request's id, as in logs and problems.", schema: { type: "string" } },
  };
}

/** What Elysia is told of a route, for its plugin to write down. */
export function describeRoute(operation: Operation): Record<string, unknown> {
  const { tail, body } = operation;
  const responses: Record<string, unknown> = {};
  for (const [status, answer] of Object.entries(operation.answers)) {
    responses[status] = {
      description: answer.description,
      headers: headersOf(answer.headers),
      ...(answer.content === undefined ? {} : { content: mediaTypes(answer.content) }),
    };
  }
  for (const [status, kinds] of problemsOf(operation)) {
    const retries = status === 429 || status === 503;
    responses[status] = {
      description: kinds.map((kind) => `${problemKinds[kind].title} (${kind}).`).join(" "),
      headers: headersOf(
        retries ? { "Retry-After": { description: "Seconds after which another try may succeed." } } : {},
      ),
      content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
    };
  }
  return {
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    ...(operation.description === undefined ? {} : { description: operation.description }),
    parameters: [
      ...(tail === undefined
        ? []
        : [
            {
              name: tail.name,
              in: "path",
              required: true,
              description: tail.description,
              schema: { type: "string", minLength: 1 },
              example: tail.example,
              "x-takes-slashes": true,
            },
          ]),
      ...parametersOf("path", operation.pathParameters),
      ...parametersOf("query", operation.query),
      ...headerParametersOf(operation),
    ],
    ...(body === undefined ? {} : { requestBody: requestBodyOf(operation) }),
    responses,
    "x-permission": operation.permission,
    "x-examples": operation.examples,
  };
}

function requestBodyOf(operation: Operation): Record<string, unknown> {
  const body = operation.body!;
  if (body.kind === "raw") {
    return {
      required: !body.mayBeEmpty,
      description: body.description,
      content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
    };
  }
  const example = operation.examples.find((one) => one.body !== undefined)?.body;
  return {
    required: body.optional !== true,
    content: {
      "application/json": { schema: body.schema, ...(example === undefined ? {} : { example }) },
    },
  };
}

type Json = Record<string, unknown>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Turns what JSON Schema and TypeBox say into what OpenAPI 3.0.3 can say. Schemas with an $id move to `hoisted`. */
function mendSchema(schema: Json, hoisted: Map<string, Json>): Json {
  const { $id, ...rest } = schema;
  if (typeof $id === "string") {
    if (!hoisted.has($id)) {
      hoisted.set($id, {});
      hoisted.set($id, mendSchema(rest, hoisted));
    }
    return { $ref: `#/components/schemas/${$id}` };
  }
  if (typeof rest["$ref"] === "string") {
    const ref = rest["$ref"];
    return { $ref: ref.startsWith("#/") ? ref : `#/components/schemas/${ref}` };
  }
  const mended: Json = {};
  for (const [name, value] of Object.entries(rest)) {
    if (name === "const") mended["enum"] = [value];
    else if (name === "patternProperties" && isObject(value)) {
      mended["additionalProperties"] = mend(Object.values(value)[0], hoisted);
    } else if (name === "exclusiveMinimum" && typeof value === "number") {
      mended["minimum"] = value;
      mended["exclusiveMinimum"] = true;
    } else if (name === "exclusiveMaximum" && typeof value === "number") {
      mended["maximum"] = value;
      mended["exclusiveMaximum"] = true;
    } else if (name === "examples" && Array.isArray(value)) mended["example"] = value[0];
    else if (name === "properties" && isObject(value)) {
      mended["properties"] = Object.fromEntries(
        Object.entries(value).map(([property, shape]) => [property, mend(shape, hoisted)]),
      );
    } else if (name === "example" || name === "enum" || name === "default" || name === "required") {
      mended[name] = value;
    } else mended[name] = mend(value, hoisted);
  }
  return mendAlternatives(mended);
}

/** `anyOf` with null is nullable; `anyOf` of constants is one enum. */
function mendAlternatives(schema: Json): Json {
  const alternatives = schema["anyOf"];
  if (!Array.isArray(alternatives)) return schema;
  const { anyOf: _, ...outer } = schema;
  const real = alternatives.filter((one) => !(isObject(one) && one["type"] === "null"));
  if (real.length < alternatives.length) {
    const only = real.length === 1 ? (real[0] as Json) : { anyOf: real };
    return "$ref" in only
      ? { ...outer, nullable: true, allOf: [only] }
      : { ...only, ...outer, nullable: true };
  }
  const enums = real.map((one) => (isObject(one) && one["type"] === "string" ? one["enum"] : undefined));
  if (real.length > 0 && enums.every(Array.isArray)) return { ...outer, type: "string", enum: enums.flat() };
  return schema;
}

function mend(value: unknown, hoisted: Map<string, Json>): unknown {
  if (Array.isArray(value)) return value.map((item) => mend(item, hoisted));
  return isObject(value) ? mendSchema(value, hoisted) : value;
}

const schemaHolders = new Set(["schema"]);

/** Walks the document down to its schemas. */
function mendTree(value: unknown, hoisted: Map<string, Json>): unknown {
  if (Array.isArray(value)) return value.map((item) => mendTree(item, hoisted));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => {
      if (name === "example" || name === "x-examples") return [name, inner];
      return [name, schemaHolders.has(name) ? mend(inner, hoisted) : mendTree(inner, hoisted)];
    }),
  );
}

/** The plugin's document, valid OpenAPI 3.0.3. */
export function normalisedDocument(raw: unknown): Json {
  const plain = JSON.parse(JSON.stringify(raw)) as Json;
  const hoisted = new Map<string, Json>();
  const document = mendTree(plain, hoisted) as Json;
  for (const path of Object.values(document["paths"] as Json)) {
    for (const route of Object.values(path as Json)) fillIn(route as Json);
  }
  const components = document["components"] as Json;
  components["schemas"] = {
    Problem: mend(JSON.parse(JSON.stringify(ProblemShape satisfies TSchema)), hoisted),
    ...Object.fromEntries(hoisted),
  };
  return document;
}

/** Every answer needs a description, and the plugin forgets it for some. */
function fillIn(route: Json): void {
  for (const response of Object.values((route["responses"] ?? {}) as Json)) {
    const answer = response as Json;
    if (typeof answer["description"] !== "string") answer["description"] = "An answer.";
  }
}
