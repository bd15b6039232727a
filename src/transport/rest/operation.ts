/**
 * One row of the operation table: everything that the routes, the checks and the OpenAPI document need to know of
 * an operation, declared once.
 */
import type { Static, TSchema } from "@sinclair/typebox";
import type { DescMethod } from "@bufbuild/protobuf";
import type { LearnerRule, Permission } from "../methods";
import type { Answer } from "./answer";
import type { RestCall } from "./call";
import type { Parameter } from "./parameters";
import type { ProblemKind } from "./problem";
import type { RestServices } from "./services";

export type Parameters = Readonly<Record<string, Parameter<unknown>>>;

/** What reading parameters gives; those of a query may be absent. */
export type Read<Of extends Parameters> = {
  readonly [Name in keyof Of]: Of[Name] extends Parameter<infer Value> ? Value : never;
};

/** The last parameter of a path, which takes all that is left of it, slashes included, raw. */
export interface TailParameter {
  readonly name: string;
  readonly description: string;
  readonly example: string;
  read(raw: string): Uint8Array;
}

export interface HeaderDescription {
  readonly description: string;
  readonly example?: string;
}

/** A body or an answer of some media type. */
export type Content =
  | { readonly kind: "json"; readonly schema: TSchema }
  /** Bytes as they are. */
  | { readonly kind: "raw"; readonly mediaType: string; readonly description: string }
  /** Lines of JSON, or server-sent events whose data is such JSON. */
  | {
      readonly kind: "stream";
      readonly mediaType: string;
      readonly schema: TSchema;
      readonly description: string;
    };

export interface AnswerDescription {
  readonly description: string;
  readonly content?: readonly Content[];
  readonly headers?: Readonly<Record<string, HeaderDescription>>;
}

/** A place in the JSON that an example of an operation answers with. */
export interface Given {
  readonly operation: string;
  readonly at: readonly (string | number)[];
}

/** A request that works, in a store where the preparation was carried out. */
export interface Example {
  readonly summary: string;
  /** The path behind the base with its query, as it is sent. */
  readonly target: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON unless it is text. */
  readonly body?: unknown;
  readonly status: number;
  /** Examples of other operations that are to be run first, by operation id. */
  readonly after?: readonly string[];
  /**
   * What stands for the names in braces in the target, which nobody can know beforehand: where in the answer of another
   * operation's example it is found.
   */
  readonly given?: Readonly<Record<string, Given>>;
}

export type BodyDescription<Schema extends TSchema> =
  | { readonly kind: "json"; readonly schema: Schema; readonly optional?: boolean }
  | { readonly kind: "raw"; readonly description: string; readonly mayBeEmpty: boolean };

/** What a handler is given. */
export interface RestRequest<Path, Query, Body> {
  readonly path: Path;
  readonly query: Partial<Query>;
  readonly body: Body;
  /** The key in the path; empty for operations without one. */
  readonly tail: Uint8Array;
  readonly requestId: string;
  /** A request header by its lower-case name. */
  header(name: string): string | undefined;
  /** The call under which a service is asked. */
  call(rpc: DescMethod): RestCall;
  /** Hashes the query without the named parameters: what a cursor is bound to. */
  queryHash(without: readonly string[]): string;
  /** Whether the client would rather have this media type than the other. */
  prefers(mediaType: string, over: string): boolean;
}

interface Common {
  /** The OpenAPI operation id. */
  readonly id: string;
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Below the base path, in OpenAPI's form. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  /** What a caller must be allowed to do while authentication is on. */
  readonly permission: Permission;
  /**
   * Whether it changes something, and then failures say whether it happened: "replicated" goes through the log and
   * takes an Idempotency-Key, "local" is the work of one member.
   */
  readonly write: "no" | "replicated" | "local";
  /** What a learner does with it. Default "refuse". */
  readonly learner?: LearnerRule;
  /** It may wait for long, or answer for ever: a stop of the server ends it. */
  readonly endless?: boolean;
  readonly tail?: TailParameter;
  /** Request headers that it reads. */
  readonly headers?: Readonly<Record<string, HeaderDescription>>;
  readonly answers: Readonly<Record<number, AnswerDescription>>;
  /** Problems beyond those that every operation may answer with. */
  readonly problems: readonly ProblemKind[];
  readonly examples: readonly Example[];
}

/** A row as the rest of this folder sees it. */
export interface Operation extends Common {
  readonly pathParameters: Parameters;
  readonly query: Parameters;
  readonly body?: BodyDescription<TSchema>;
  handle(
    request: RestRequest<Read<Parameters>, Read<Parameters>, unknown>,
    services: RestServices,
  ): Promise<Answer> | Answer;
}

interface Declared<
  Path extends Parameters,
  Query extends Parameters,
  Schema extends TSchema,
  Body,
> extends Common {
  readonly pathParameters?: Path;
  readonly query?: Query;
  readonly body?: BodyDescription<Schema>;
  handle(
    request: RestRequest<Read<Path>, Read<Query>, Body>,
    services: RestServices,
  ): Promise<Answer> | Answer;
}

type NoParameters = Record<never, never>;

/** Declares an operation without a body, or with one of JSON. */
export function operation<
  const Path extends Parameters = NoParameters,
  const Query extends Parameters = NoParameters,
  const Schema extends TSchema = TSchema,
>(row: Declared<Path, Query, Schema, Static<Schema>>): Operation {
  return { pathParameters: {}, query: {}, ...row } as unknown as Operation;
}

/** Declares an operation whose body is bytes. */
export function rawOperation<
  const Path extends Parameters = NoParameters,
  const Query extends Parameters = NoParameters,
>(row: Declared<Path, Query, TSchema, Uint8Array>): Operation {
  return { pathParameters: {}, query: {}, ...row } as unknown as Operation;
}
