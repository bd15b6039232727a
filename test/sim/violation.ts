/** A promise or rule that was broken; its message begins with the rule's id where it has one. */
export class Violation extends Error {
  override readonly name = "Violation";
}

export function claim(condition: boolean, message: string | (() => string)): asserts condition {
  if (!condition) throw new Violation(typeof message === "string" ? message : message());
}
