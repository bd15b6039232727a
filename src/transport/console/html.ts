/**
 * Markup as values: text that was written as JSX is markup, every other text is escaped when it is put in. There is no
 * way to put markup in by accident, because only {@link Html} is taken as it is.
 */

/** A part of a page that a stream brings up to date, by its id. */
export interface LiveCell {
  readonly id: string;
  readonly text: string;
}

const noCells: readonly LiveCell[] = [];

/** Finished markup, with the live cells that are in it. */
export class Html {
  constructor(
    readonly text: string,
    readonly cells: readonly LiveCell[] = noCells,
  ) {}

  toString(): string {
    return this.text;
  }
}

/** What may stand between tags. Nothing is written for booleans, null and undefined. */
export type Child = Html | string | number | bigint | boolean | null | undefined | readonly Child[];

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text as it may stand between tags and in quoted attributes. NUL, which no document can hold, becomes U+FFFD. */
export function escapeText(text: string): string {
  if (!/[&<>"'\0]/.test(text)) return text;
  return text.replace(/[&<>"'\0]/g, (character) => escapes[character] ?? "\u{fffd}");
}

/** Children joined to markup. */
export function join(children: Child): Html {
  const cells: LiveCell[] = [];
  const text = textOf(children, cells);
  return new Html(text, cells.length === 0 ? noCells : cells);
}

function textOf(child: Child, cells: LiveCell[]): string {
  if (typeof child === "string") return escapeText(child);
  if (child instanceof Html) {
    if (child.cells.length > 0) cells.push(...child.cells);
    return child.text;
  }
  if (Array.isArray(child)) {
    let text = "";
    for (const one of child as readonly Child[]) text += textOf(one, cells);
    return text;
  }
  if (typeof child === "number" || typeof child === "bigint") return String(child);
  return "";
}
