import { expect, test } from "bun:test";

import { connect } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { HpackDecoder } from "./hpack";
import { decodeHuffman } from "./huffman";
import { OutputBudget } from "./output";
import { Http2Session } from "./session";

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

test("every byte is decoded from the Huffman code of another implementation", async () => {
  const seen: string[] = [];
  const server = createServer((socket) => {
    const session = new Http2Session(socket, {
      maxConcurrentStreams: 100,
      headerListBytesMax: 64 * 1024,
      budget: new OutputBudget(1024),
      failed: (reason) => seen.push(reason),
    });
    session.start({
      request: (stream, headers) => {
        seen.push(headers.get("x-value") ?? "nothing");
        stream.refuse([[":status", "200"]]);
      },
      ping: () => true,
      wrote: () => {},
      closed: () => {},
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const visible = String.fromCharCode(...Array.from({ length: 94 }, (_, i) => 0x21 + i));
  const values = [
    visible,
    ...[...visible].map((character) => character.repeat(9)),
    "e",
    "a b",
    "0".repeat(5_000),
  ];
  for (const value of values) {
    await new Promise<void>((resolve) => {
      const stream = client.request({ ":path": "/", "x-value": value });
      stream.on("close", () => resolve());
      stream.resume();
      stream.end();
    });
  }
  client.destroy();
  server.close();
  expect(seen).toEqual(values);
});

test.each([
  ["a symbol cut off", "1c"],
  ["padding of eight bits", "f8ff"],
  ["padding that is not ones", "18"],
  ["the end-of-string symbol", "ffffffff"],
])("a Huffman string with %s is refused", (_what, text) => {
  const bytes = hex(text);
  expect(() => decodeHuffman(bytes, 0, bytes.length)).toThrow("HPACK");
});
