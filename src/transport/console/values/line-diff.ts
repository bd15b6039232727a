/** Two values side by side, line by line; bytes that are no text as rows of a hex dump. */
import { diffArrays } from "diff";
import { hexDump } from "./decoders";

export interface DiffLine {
  readonly kind: "same" | "removed" | "added" | "skipped";
  /** Line numbers from 1, where the line is on that side. */
  readonly before?: number;
  readonly after?: number;
  /** With its line end; for "skipped": nothing. */
  readonly bytes: Uint8Array;
  /** Equal lines that are left out. */
  readonly count?: number;
}

export interface Diff {
  readonly lines: readonly DiffLine[];
  readonly removed: number;
  readonly added: number;
  /** Rows of a hex dump are compared, because one side is no text. */
  readonly hex: boolean;
  /** Too different, or too large, to be compared line by line: the changed middle is shown as a whole. */
  readonly coarse: boolean;
  /** Lines behind these are left out. */
  readonly cut: number;
}

/** Equal lines that stay around a change. */
const contextLines = 3;
/** Edits that are searched for; the search costs their square. */
const editsMax = 200;
/** Lines that are compared at all. */
const comparedLinesMax = 20_000;
const shownLinesMax = 2_000;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isText(bytes: Uint8Array): boolean {
  if (bytes.includes(0)) return false;
  try {
    strictUtf8.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Lines as binary strings, with their ends. */
function linesOf(bytes: Uint8Array): string[] {
  if (bytes.length === 0) return [];
  const lines = Buffer.from(bytes)
    .toString("latin1")
    .split(/(?<=\n)/);
  return lines;
}

/** What changed from one value to the other. */
export function diffOf(before: Uint8Array, after: Uint8Array): Diff {
  const hex = !isText(before) || !isText(after);
  const [left, right] = hex
    ? [hexDump(before), hexDump(after)].map((dump) => linesOf(Buffer.from(dump)))
    : [linesOf(before), linesOf(after)];
  const a = left!;
  const b = right!;
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const middleA = a.slice(start, a.length - end);
  const middleB = b.slice(start, b.length - end);
  const small = middleA.length + middleB.length <= comparedLinesMax;
  const found = small ? diffArrays(middleA, middleB, { maxEditLength: editsMax }) : undefined;
  const parts = found ?? [
    { value: middleA, removed: true, added: false },
    { value: middleB, removed: false, added: true },
  ];
  const all: DiffLine[] = [];
  let lineA = 1;
  let lineB = 1;
  const push = (kind: "same" | "removed" | "added", line: string): void => {
    all.push({
      kind,
      ...(kind === "added" ? {} : { before: lineA++ }),
      ...(kind === "removed" ? {} : { after: lineB++ }),
      bytes: Buffer.from(line, "latin1"),
    });
  };
  for (const line of a.slice(0, start)) push("same", line);
  let removed = 0;
  let added = 0;
  for (const part of parts) {
    const kind = part.removed ? "removed" : part.added ? "added" : "same";
    if (kind === "removed") removed += part.value.length;
    if (kind === "added") added += part.value.length;
    for (const line of part.value) push(kind, line);
  }
  for (const line of a.slice(a.length - end)) push("same", line);
  const folded = fold(all);
  return {
    lines: folded.slice(0, shownLinesMax),
    removed,
    added,
    hex,
    coarse: found === undefined,
    cut: Math.max(0, folded.length - shownLinesMax),
  };
}

/** Leaves out equal lines that are far from every change. */
function fold(lines: readonly DiffLine[]): DiffLine[] {
  const near = new Uint8Array(lines.length);
  lines.forEach(({ kind }, at) => {
    if (kind === "same") return;
    near.fill(1, Math.max(0, at - contextLines), Math.min(lines.length, at + contextLines + 1));
  });
  const folded: DiffLine[] = [];
  let skipped: DiffLine[] = [];
  const flush = (): void => {
    // One line takes as much room as the word that it is left out.
    if (skipped.length === 1) folded.push(...skipped);
    else if (skipped.length > 1) {
      folded.push({ kind: "skipped", bytes: new Uint8Array(0), count: skipped.length });
    }
    skipped = [];
  };
  lines.forEach((line, at) => {
    if (near[at] === 1) {
      flush();
      folded.push(line);
    } else skipped.push(line);
  });
  flush();
  return folded;
}
