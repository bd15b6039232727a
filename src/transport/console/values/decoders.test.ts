/** Views of values show what is there, refuse what they cannot read, and stay within their bounds. */
import { expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { decode, hexDump, naturalView, type ViewName, viewNames } from "./decoders";
import { jsonLayout } from "./json-layout";

async function show(value: string | Uint8Array, view: ViewName): Promise<string> {
  const decoded = await decode(typeof value === "string" ? Buffer.from(value) : value, view);
  return decoded.ok ? Buffer.from(decoded.bytes).toString() : `refused: ${decoded.reason}`;
}

test("JSON is laid out without changing a token", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value);
      const laidOut = jsonLayout(text)!;
      expect(JSON.parse(laidOut)).toEqual(JSON.parse(text));
      expect(
        laidOut.replace(/"(?:[^"\\]|\\.)*"|\s+/gs, (token) => (token.startsWith('"') ? token : "")),
      ).toBe(text);
    }),
  );
  expect(jsonLayout('{"a":12345678901234567890,"a":1.0,"b":[],"c":{ },"d":"\\u0041"}')).toBe(
    '{\n  "a": 12345678901234567890,\n  "a": 1.0,\n  "b": [],\n  "c": {},\n  "d": "\\u0041"\n}',
  );
  expect(jsonLayout("{a:1}")).toBeUndefined();
  expect(jsonLayout("")).toBeUndefined();
});

test("each view shows or says why not", async () => {
  expect(await show("a: [1, 2]\n# note\n", "yaml")).toContain("# note");
  expect(await show("a: 'x\n", "yaml")).toStartWith("refused: It is no YAML");
  expect(await show("aGVsbG8=", "base64")).toBe("hello");
  expect(await show("hello, world", "base64")).toBe("aGVsbG8sIHdvcmxk");
  expect(await show(gzipSync("packed"), "gzip")).toBe("packed");
  expect(await show("plain", "gzip")).toStartWith("refused");
  expect(await show(Buffer.from([0x1f, 0x8b, 1, 2]), "gzip")).toContain("damaged");
  expect(await show(gzipSync(Buffer.alloc(5 * 1024 * 1024)), "gzip")).toContain("4 MiB");
  expect(await show("nope", "json")).toBe("refused: It is no JSON.");
  expect(hexDump(Buffer.from("ABCDEFGHIJKLMNOPQ"))).toBe(
    "00000000  41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP\n" +
      "00000010  51                                                Q",
  );
});

test("a YAML text that can be read but not written again is refused", async () => {
  expect(await show("*\0", "yaml")).toStartWith("refused: It is no YAML");
});

test("a YAML text of a few lines does not become a large one", async () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefghi"
    .split("")
    .map(
      (name, at) => `${name}: &${name} [${Array.from({ length: 9 }, () => `*${"abcdefgh"[at]}`).join(",")}]`,
    )
    .join("\n")}\n`;
  expect((await show(bomb, "yaml")).length).toBeLessThan(5_000);
});

test("bytes of any kind are shown in every view without a throw", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (value) => {
      expect(viewNames).toContain(naturalView(value));
      for (const view of viewNames) await decode(value, view);
    }),
    { numRuns: 1_000 },
  );
});

test("the natural view fits what the value is", () => {
  expect(naturalView(Buffer.from('{"a":1}'))).toBe("json");
  expect(naturalView(Buffer.from("{nope"))).toBe("text");
  expect(naturalView(Buffer.from([0xff, 1]))).toBe("hex");
  expect(naturalView(gzipSync("x"))).toBe("gzip");
  expect(naturalView(Buffer.from(""))).toBe("text");
});
