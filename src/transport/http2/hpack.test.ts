import { expect, test } from "bun:test";

import { HpackDecoder } from "./hpack";
import { decodeHuffman } from "./huffman";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

function decodeAll(decoder: HpackDecoder, block: Uint8Array): string[] {
  const headers: string[] = [];
  decoder.decode(block, 0, block.length, {
    header: ({ name, value }) => headers.push(`${name}: ${value}`),
  });
  return headers;
}

test("the strings of RFC 7541, appendix C, are decoded", () => {
  const strings: [string, string][] = [
    ["f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"],
    ["a8eb 1064 9cbf", "no-cache"],
    ["d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"],
  ];
  for (const [encoded, text] of strings) {
    const bytes = hex(encoded);
    expect(decodeHuffman(bytes, 0, bytes.length)).toBe(text);
  }
});

test("three requests on one connection share the table (RFC 7541, C.4)", () => {
  const decoder = new HpackDecoder();
  expect(decodeAll(decoder, hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"))).toEqual([
    ":method: GET",
    ":scheme: http",
    ":path: /",
    ":authority: www.example.com",
  ]);
  expect(decodeAll(decoder, hex("8286 84be 5886 a8eb 1064 9cbf"))).toContain("cache-control: no-cache");
  expect(decodeAll(decoder, hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"))).toEqual([
    ":method: GET",
    ":scheme: https",
    ":path: /index.html",
    ":authority: www.example.com",
    "custom-key: custom-value",
  ]);
});

test("a table that shrinks forgets its oldest entries (RFC 7541, C.5)", () => {
  const decoder = new HpackDecoder();
  decodeAll(decoder, hex("3fe1 01"));
  decodeAll(
    decoder,
    hex(
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    ),
  );
  // The fourth entry back is ":status 302"; size 0 and back leaves nothing behind.
  expect(decodeAll(decoder, hex("c1"))).toEqual([":status: 302"]);
  decodeAll(decoder, hex("20 3fe1 01"));
  expect(() => decodeAll(decoder, hex("be"))).toThrow("no entry 62");
});

test.each(["7f", "0005", "ff ffff ffff ffff", "4188 f1e3", "0001 6184 ffff ffff"])(
  "a broken block (%s) is refused",
  (block) => {
    expect(() => decodeAll(new HpackDecoder(), hex(block))).toThrow("HPACK");
  },
);
