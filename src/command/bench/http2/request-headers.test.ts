import { expect, test } from "bun:test";

import { HpackDecoder } from "../../../transport/http2/hpack";
import { RequestHeaderEncoder } from "./request-headers";

function decodeAll(decoder: HpackDecoder, block: Uint8Array): string[] {
  const headers: string[] = [];
  decoder.decode(block, 0, block.length, {
    header: ({ name, value }) => headers.push(`${name}: ${value}`),
  });
  return headers;
}

test("what the encoder writes, the decoder reads, for every mix of paths, and later calls take five bytes", () => {
  const encoder = new RequestHeaderEncoder("127.0.0.1:2379", false, 4096);
  const decoder = new HpackDecoder();
  for (const path of ["/a.B/C", "/a.B/C", "/a.B/D", "/a.B/C", "/a.B/D", "/x.Y/Z", "/a.B/C"]) {
    expect(decodeAll(decoder, encoder.encode(path))).toEqual([
      ":method: POST",
      ":scheme: http",
      `:path: ${path}`,
      ":authority: 127.0.0.1:2379",
      "content-type: application/grpc",
      "te: trailers",
    ]);
  }
  expect(encoder.encode("/a.B/C").length).toBe(6);
});

test("a server without a table gets literals, the first time behind a size update", () => {
  const encoder = new RequestHeaderEncoder("h:1", true, 0);
  expect(encoder.encode("/p")[0]).toBe(0x20);
  const decoder = new HpackDecoder();
  for (let i = 0; i < 3; i++) {
    expect(decodeAll(decoder, encoder.encode("/p"))).toContain(":path: /p");
  }
});
