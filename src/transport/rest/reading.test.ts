/** What is read from requests: targets, entity tags, JSON bodies. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { matches, tagList } from "./etag";
import { parseJson } from "./strict-json";
import { base64UrlDecode, keyOfPath, keyOfPath64, percentDecode, queryParameters, rawTarget } from "./target";

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString("latin1");

describe("targets", () => {
  test("are cut at the first question mark, in either form", () => {
    expect(rawTarget("/a?b?c")).toEqual({ path: "/a", query: "b?c" });
    expect(rawTarget("http://h:1/a%2F?x")).toEqual({ path: "/a%2F", query: "x" });
    expect(rawTarget("https://h")).toEqual({ path: "/", query: "" });
    expect(rawTarget("*")).toBeUndefined();
    expect(rawTarget("h:1")).toBeUndefined();
  });

  test("any bytes survive percent-encoding, and what is no escape is refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, upper) => {
        const encoded = [...bytes]
          .map(
            (byte) =>
              `%${upper ? byte.toString(16).toUpperCase().padStart(2, "0") : byte.toString(16).padStart(2, "0")}`,
          )
          .join("");
        expect(Buffer.compare(percentDecode(encoded, false)!, bytes)).toBe(0);
        expect(Buffer.compare(base64UrlDecode(Buffer.from(bytes).toString("base64url"))!, bytes)).toBe(0);
      }),
    );
    for (const bad of ["%", "%a", "%g0", "%0g", "a b", "a#b", "\u0000", "\u0100"])
      expect(percentDecode(bad, false)).toBeUndefined();
    expect(text(percentDecode("a+b%2B", true))).toBe("a b+");
    expect(text(percentDecode("a+b%2B", false))).toBe("a+b+");
  });

  test("one key has one base64url text", () => {
    for (const bad of ["a", "YR", "YQ=", "YQ===", "Y Q", "a+b=", "a/b="])
      expect(base64UrlDecode(bad)).toBeUndefined();
    expect(text(base64UrlDecode("YQ=="))).toBe("a");
    expect(text(keyOfPath64("YQ%3D%3D"))).toBe("a");
    expect(() => keyOfPath64("")).toThrow("no key");
  });

  test("dot segments are refused however they are written, and dots elsewhere are dots", () => {
    for (const bad of [".", "..", "a/./b", "a/%2e%2E/b", "..%2Fa", "a%2f.", "%2E"])
      expect(() => keyOfPath(bad)).toThrow();
    for (const good of ["...", ".a", "a.", "a/.b/c..", "..a"]) expect(text(keyOfPath(good))).toBe(good);
  });

  test("queries keep order, repetition and bytes", () => {
    const parameters = queryParameters("a=1&b&a=%ff&&c==");
    expect([...parameters].map(([name, values]) => [name, values.map(text)])).toEqual([
      ["a", ["1", "\xff"]],
      ["b", [""]],
      ["c", ["="]],
    ]);
    expect(() => queryParameters("a=%f")).toThrow("%");
  });
});

describe("entity tags", () => {
  test("lists, weak ones and the star are read; what no revision can be matches nothing", () => {
    expect(tagList(undefined, "If-Match")).toBeUndefined();
    expect(tagList(" * ", "If-Match")).toBe("*");
    expect(tagList('"5", W/"7" ,,"5"', "If-Match")).toEqual([5n, 7n]);
    expect(tagList('"0","x","-1","99999999999999999999",""', "If-Match")).toEqual([]);
    for (const bad of ["5", '"5', '"5" "6"', "W/5", "", ",", '*, "5"'])
      expect(() => tagList(bad, "If-Match")).toThrow("If-Match");
    expect(matches("*", undefined)).toBe(false);
    expect(matches([5n], 5n)).toBe(true);
    expect(matches([5n], 6n)).toBe(false);
  });
});

describe("JSON bodies", () => {
  const parse = (body: string): unknown => parseJson(Buffer.from(body));

  test("whatever JSON.parse takes is taken, but for names given twice", () => {
    fc.assert(
      fc.property(fc.json(), (body) => expect(parse(body)).toEqual(JSON.parse(body))),
      { numRuns: 300 },
    );
    for (const twice of ['{"a":1,"a":2}', '{"x":[{"a":1,"\\u0061":2}]}', '{"a" :1, "b":{}, "a"\n:3}'])
      expect(() => parse(twice)).toThrow("twice");
    for (const once of [
      '{"a":{"a":1}}',
      '[{"a":1},{"a":2}]',
      '{"a":"a","b":"a"}',
      '{"a":["a","a"]}',
      '{"a\\"":1,"a":2}',
    ]) {
      expect(parse(once)).toEqual(JSON.parse(once));
    }
  });

  test("what is no UTF-8, no JSON or without end is refused", () => {
    for (const bad of ["", "{", "{a:1}", "[1,]", "nul"]) expect(() => parse(bad)).toThrow("no JSON");
    expect(() => parseJson(Buffer.from([0x22, 0xff, 0x22]))).toThrow("UTF-8");
    expect(() => parse("[".repeat(100) + "]".repeat(100))).toThrow("deep");
    const brackets = `"${"[{".repeat(100)}\\"["`;
    expect(parse(`{"a":${brackets},"b":[${"[[],".repeat(20)}[]${"]".repeat(20)}]}`)).toBeObject();
    const { parse: parser } = JSON;
    JSON.parse = () => {
      throw new Error("the parser takes long for such a text");
    };
    try {
      expect(() => parse(`${'{"a":['.repeat(100_000)}1`)).toThrow("deep");
    } finally {
      JSON.parse = parser;
    }
  });
});
