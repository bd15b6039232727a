/** JSON bodies: valid UTF-8, no name twice in one object, no unbounded depth. */
import { Problem } from "./problem";
import { utf8Text } from "./byte-fields";

const depthMax = 64;

/** Parses a body. Throws a Problem that says what is wrong. */
export function parseJson(bytes: Uint8Array): unknown {
  const text = utf8Text(bytes);
  if (text === undefined) throw new Problem("bad-body", "The body is not valid UTF-8.");
  // Before the parser, which takes long for what nests a hundred thousand deep.
  if (nestsDeeper(bytes, depthMax))
    throw new Problem("bad-body", `The body nests more than ${depthMax} deep.`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Problem(
      "bad-body",
      `The body is no JSON: ${error instanceof Error ? error.message : String(error)}.`,
    );
  }
  checkNames(text);
  return value;
}

const byte = {
  quote: 0x22,
  backslash: 0x5c,
  openList: 0x5b,
  closeList: 0x5d,
  open: 0x7b,
  close: 0x7d,
} as const;

/** Whether brackets outside of strings nest deeper than `depthMax`, in whatever text. */
function nestsDeeper(bytes: Uint8Array, most: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < bytes.length; at++) {
    const code = bytes[at];
    if (code === byte.quote) inString = !inString;
    else if (inString) {
      if (code === byte.backslash) at++;
    } else if (code === byte.open || code === byte.openList) {
      if (++depth > most) return true;
    } else if (code === byte.close || code === byte.closeList) depth--;
  }
  return false;
}

/**
 * Refuses an object that has a name twice: parsers disagree on which one counts. Walks over text that JSON.parse
 * took, so that it needs to know strings, brackets and colons only.
 */
function checkNames(text: string): void {
  const open: (Set<string> | undefined)[] = [];
  let at = 0;
  while (at < text.length) {
    const character = text[at]!;
    if (character === '"') {
      const start = at;
      at = endOfString(text, at);
      const names = open[open.length - 1];
      if (names === undefined) continue;
      let behind = at;
      while (/\s/.test(text[behind] ?? "")) behind++;
      if (text[behind] !== ":") continue;
      const name = JSON.parse(text.slice(start, at)) as string;
      if (names.has(name))
        throw new Problem("bad-body", `The body has ${JSON.stringify(name)} twice in one object.`);
      names.add(name);
      continue;
    }
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push(undefined);
    else if (character === "}" || character === "]") open.pop();
    at++;
  }
}

/** The place behind the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"') return at + 1;
  }
}
