import { expect, test } from "bun:test";
import fc from "fast-check";
import { piecesOf } from "../text";
import { fieldText, plainLine, visible } from "./visible";

test("large and small ways to show bytes agree", () => {
  const part = fc.constantFrom(
    "a",
    "\n",
    "\t",
    "\r",
    "\0",
    "\u202e",
    "é",
    "\u{1f600}",
    "\u00a0",
    "\u200b",
    "<",
    "\ufeff",
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 20 }), (parts) => {
      const value = Buffer.from(parts.join(""));
      expect(visible(value, 1_000)).toEqual({ pieces: piecesOf(value, true), bytes: value.length });
    }),
  );
});

test("characters are not cut in two, and a mebibyte is shown soon", () => {
  expect(visible(Buffer.from("aé"), 2)).toEqual({ pieces: [{ text: "a", named: false }], bytes: 1 });
  const startedAt = performance.now();
  visible(Buffer.alloc(1024 * 1024, "\u202eabc"), 64 * 1024);
  visible(Buffer.alloc(1024 * 1024, 0xff), 64 * 1024);
  expect(performance.now() - startedAt).toBeLessThan(200);
});

test("a line names what cannot be seen, and a field takes only what it gives back", () => {
  expect(plainLine(Buffer.from("a\u202eb\0"))).toBe("a⟨U+202E⟩b⟨U+0000⟩");
  expect(plainLine(Buffer.from([0xff, 0x61]))).toBe("⟨FF⟩a");
  expect(plainLine(Buffer.alloc(300, 97), 5)).toBe("aaaaa…");
  expect(fieldText(Buffer.from("a/é b"))).toBe("a/é b");
  expect(fieldText(Buffer.from("a\n"))).toBeUndefined();
  expect(fieldText(Buffer.from([0xff]))).toBeUndefined();
});
