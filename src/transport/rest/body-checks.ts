/** Holds JSON bodies to the schemas that the document shows. */
import type { TSchema } from "@sinclair/typebox";
import { type TypeCheck, TypeCompiler } from "@sinclair/typebox/compiler";
import { Problem } from "./problem";

/** Compiled checks, made at an operation's first use. */
export class BodyChecks {
  readonly #checks = new Map<string, TypeCheck<TSchema>>();

  /** The value as it is. Throws a Problem that names the first place that does not fit. */
  check(operationId: string, schema: TSchema, value: unknown): unknown {
    let compiled = this.#checks.get(operationId);
    if (compiled === undefined) {
      compiled = TypeCompiler.Compile(schema);
      this.#checks.set(operationId, compiled);
    }
    if (compiled.Check(value)) return value;
    const first = compiled.Errors(value).First();
    const where = first === undefined || first.path === "" ? "The body" : `The body at ${first.path}`;
    throw new Problem("bad-body", `${where}: ${first?.message ?? "does not fit its schema"}.`);
  }
}
