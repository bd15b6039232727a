/** A broken invariant: the process must not go on, because its state can no longer be trusted. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/**
 * Throws an {@link InvariantError} unless `condition` holds. Stays on in production: whoever drives the
 * program ends the process when one escapes.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Marks a branch that the types say is impossible. */
export function unreachable(value: never, what: string): never {
  throw new InvariantError(`unexpected ${what}: ${String(value)}`);
}
