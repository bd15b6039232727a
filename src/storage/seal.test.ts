import { expect, test } from "bun:test";
import { open, plainKeyId, seal, SealError, sealInto, sealOverheadBytes } from "./seal";

test("a sealed payload opens to the same bytes without a copy", () => {
  const sealed = seal(Uint8Array.of(1, 2, 3));
  expect([...sealed]).toEqual([plainKeyId, 1, 2, 3]);
  const opened = open(sealed);
  expect([...opened]).toEqual([1, 2, 3]);
  expect(opened.buffer).toBe(sealed.buffer);
  expect(open(seal(new Uint8Array(0))).length).toBe(0);
});

test("sealing into a buffer writes exactly what seal would", () => {
  const buffer = new Uint8Array(8).fill(9);
  expect(sealInto(buffer, 2, Uint8Array.of(5, 6))).toBe(4 + sealOverheadBytes);
  expect([...buffer]).toEqual([9, 9, plainKeyId, 5, 6, 9, 9, 9]);
});

test("an unknown key id is refused with advice, and so is an empty payload", () => {
  expect(() => open(Uint8Array.of(7, 1))).toThrow(/sealed with key 7.*start the version that wrote/);
  expect(() => open(Uint8Array.of(7, 1))).toThrow(SealError);
  expect(() => open(new Uint8Array(0))).toThrow(SealError);
});
