/** JSON laid out for reading. Only white space changes: numbers, escapes and repeated names stay as they are written. */

/** The text laid out with two spaces a level; undefined when it is no JSON. */
export function jsonLayout(text: string): string | undefined {
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  const out: string[] = [];
  let depth = 0;
  const newLine = (): void => void out.push("\n", "  ".repeat(Math.min(depth, 40)));
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs)) {
    if (token === "{" || token === "[") {
      out.push(token);
      depth++;
      newLine();
    } else if (token === "}" || token === "]") {
      depth--;
      // Nothing came since it was opened: it stays on one line.
      const open = token === "}" ? "{" : "[";
      if (out.at(-3) === open && out.at(-2) === "\n") out.splice(-2, 2);
      else newLine();
      out.push(token);
    } else if (token === ",") {
      out.push(token);
      newLine();
    } else if (token === ":") out.push(": ");
    else out.push(token);
  }
  return out.join("");
}
