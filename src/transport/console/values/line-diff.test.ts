/** Diffs rebuild both sides, keep within their bounds, and tell line ends apart. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Diff, diffOf } from "./line-diff";

function side(diff: Diff, other: "removed" | "added"): string {
  return diff.lines
    .filter(({ kind }) => kind !== other)
    .map(({ bytes }) => Buffer.from(bytes).toString("latin1"))
    .join("");
}

test("both sides can be read from a diff", () => {
  const line = fc.constantFrom("a\n", "b\n", "c\r\n", "\n", "d\n");
  const text = fc
    .tuple(fc.array(line, { maxLength: 6 }), fc.constantFrom("", "tail"))
    .map(([lines, tail]) => lines.join("") + tail);
  fc.assert(
    fc.property(text, text, (before, after) => {
      const diff = diffOf(Buffer.from(before), Buffer.from(after));
      if (before === after) {
        expect(diff.removed + diff.added).toBe(0);
        return;
      }
      if (diff.lines.some(({ kind }) => kind === "skipped")) return;
      expect(side(diff, "added")).toBe(before);
      expect(side(diff, "removed")).toBe(after);
    }),
    { numRuns: 500 },
  );
});

test("a missing line end and another kind of line end are changes", () => {
  expect(diffOf(Buffer.from("a\n"), Buffer.from("a"))).toMatchObject({ removed: 1, added: 1, hex: false });
  expect(diffOf(Buffer.from("a\r\n"), Buffer.from("a\n"))).toMatchObject({ removed: 1, added: 1 });
});

test("far equal lines are folded, and bytes are compared as hex", () => {
  const long = Array.from({ length: 100 }, (_, at) => `line ${at}\n`);
  const changed = long.with(50, "other\n");
  const { lines, removed, added } = diffOf(Buffer.from(long.join("")), Buffer.from(changed.join("")));
  expect({ removed, added, shown: lines.length }).toEqual({ removed: 1, added: 1, shown: 10 });
  expect(lines[0]).toMatchObject({ kind: "skipped", count: 47 });
  expect(diffOf(Buffer.from([0, 1]), Buffer.from([0, 2]))).toMatchObject({ hex: true, removed: 1, added: 1 });
});

test("large values that have nothing in common are answered soon", () => {
  const make = (salt: number): Buffer =>
    Buffer.from(Array.from({ length: 9_000 }, (_, at) => `${at * salt}x\n`).join(""));
  const startedAt = performance.now();
  const diff = diffOf(make(3), make(7));
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  expect(diff.coarse).toBe(true);
  expect(diff.lines.length).toBe(2_000);
  expect(diff.cut).toBeGreaterThan(0);
});
