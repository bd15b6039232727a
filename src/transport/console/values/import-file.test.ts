import { expect, test } from "bun:test";
import fc from "fast-check";
import { byteField } from "../../rest/byte-fields";
import { type ImportedKey, readImport } from "./import-file";

const keys = fc.uniqueArray(
  fc.record({ key: fc.uint8Array({ minLength: 1, maxLength: 8 }), value: fc.uint8Array({ maxLength: 12 }) }),
  { maxLength: 8, selector: ({ key }) => Buffer.from(key).toString("latin1") },
);
const plain = (all: readonly ImportedKey[]): string[] =>
  all.map(({ key, value }) => `${Buffer.from(key).toString("hex")}=${Buffer.from(value).toString("hex")}`);

test("what was exported is read back, in every form", async () => {
  await fc.assert(
    fc.asyncProperty(keys, async (all) => {
      const objects = all.map(({ key, value }) => ({
        ...byteField("key", key),
        ...byteField("value", value),
        modRevision: "7",
      }));
      const lines = `${objects.map((one) => `${JSON.stringify(one)}\n`).join("")}{"end":true,"count":"${all.length}"}\n`;
      const document = JSON.stringify({ revision: "7", keys: objects });
      const list = JSON.stringify(objects, undefined, 2);
      for (const [text, whole] of [
        [lines, true],
        [document, true],
        [list, true],
        [lines.slice(0, lines.lastIndexOf('{"end"')), false],
      ] as const) {
        const file = await readImport(Buffer.from(text));
        expect(plain(file.keys)).toEqual(plain(all));
        expect(file.whole).toBe(whole);
      }
    }),
    { numRuns: 200 },
  );
});

test("what is wrong is said with its place", async () => {
  const problem = (text: string | Uint8Array): Promise<string> =>
    readImport(Buffer.from(text as string)).then(
      () => "none",
      (error: unknown) => (error as Error).message,
    );
  expect(await problem('{"key":"a","value":"1"}\n{"key":"b"}\n')).toContain("Line 2");
  expect(await problem('{"key":"a","value":"1"}\n{"key":"a","value":"2"}\n')).toContain("came before");
  expect(await problem('{"key":"a","value":"1"}\nnonsense\n')).toContain("Line 2");
  expect(await problem('{"key":"","value":"1"}\n{"key":"b","value":""}\n')).toContain("Line 1");
  expect(await problem('{"key":"a","value":"1"}\n{"end":true}\n{"key":"b","value":"1"}\n')).toContain(
    "behind",
  );
  expect(await problem('[{"key":"a","value":"1"},7]')).toContain("Key 2");
  expect(await problem(Buffer.from([0xff, 0x0a]))).toContain("UTF-8");
});
