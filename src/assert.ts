/** A broken invariant: the process must not go on, because its state can no longer be trusted. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/**
 * Throws an {@link InvariantError} unless `condition` holds. Stays on in production: whoever drives the
 * program ends the process when one escapes. On hot paths the message is a function: text is made when it is needed.
 */
export function assert(condition: unknown, message: string | (() => string)): asserts condition {
  if (!condition) throw new InvariantError(typeof message === "string" ? message : message());
}

/** Marks a branch that the types say is impossible. */
export function unreachable(value: never, what: string): never {
  throw new InvariantError(`unexpected ${what}: ${String(value)}`);
}
