/** Values survive a text area, as HTML and browsers treat it. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Form } from "../form";
import { TextArea } from "../components/form";
import { editableText, lineEndsOf, valueOfText } from "./edited-text";

/** What a browser makes of the markup of a text area: HTML Standard, parsing, and its "raw value". */
function parsed(markup: string): string {
  const inner = markup.slice(markup.indexOf(">") + 1, markup.lastIndexOf("</textarea>"));
  return inner
    .replace(/\r\n?/g, "\n")
    .replace(/^\n/, "")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&amp;", "&");
}

/** What a browser sends for it. */
function sent(name: string, value: string): Uint8Array {
  const text = value.replace(/\r\n?|\n/g, "\r\n");
  return Buffer.from(`${name}=${encodeURIComponent(text).replaceAll("%20", "+")}`);
}

async function throughBrowser(
  value: Uint8Array,
  edit: (text: string) => string,
): Promise<Uint8Array | undefined> {
  const shown = editableText(value);
  if (!shown.editable) return undefined;
  const markup = TextArea({ id: "v", name: "v", value: shown.text }).text;
  const form = await Form.read("application/x-www-form-urlencoded", sent("v", edit(parsed(markup))));
  return valueOfText(form.bytes("v")!, lineEndsOf(shown.lineEnds));
}

const piece = fc.constantFrom(
  "a",
  "é",
  "\u{1f600}",
  "<b>",
  "&amp;",
  "\u202e",
  " ",
  "\t",
  "\ufeff",
  "",
  "'",
  '"',
  "</textarea>",
);

test.each(["\n", "\r\n"])("text with line ends %j comes back as it was, to the byte", async (end) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(piece, fc.constant(end)), { maxLength: 20 }), async (parts) => {
      const value = Buffer.from(parts.join(""));
      const back = await throughBrowser(value, (text) => text);
      expect(Buffer.from(back!).toString("hex")).toBe(value.toString("hex"));
    }),
    { numRuns: 500 },
  );
});

test("leading, trailing and missing line ends are kept through an edit", async () => {
  const edit = (text: string): string => text.replace("b", "B");
  for (const [before, after] of [
    ["\nb", "\nB"],
    ["\n\nb\n", "\n\nB\n"],
    ["a\r\nb", "a\r\nB"],
    ["\r\nb\r\n", "\r\nB\r\n"],
    ["b", "B"],
  ] as const) {
    expect(Buffer.from((await throughBrowser(Buffer.from(before), edit))!).toString()).toBe(after);
  }
  const grown = await throughBrowser(Buffer.from("one"), (text) => `${text}\ntwo`);
  expect(Buffer.from(grown!).toString()).toBe("one\ntwo");
});

test("what a text area would change is refused, with the reason", () => {
  const reason = (value: Uint8Array): string => {
    const shown = editableText(value);
    return shown.editable ? "" : shown.reason;
  };
  expect(reason(Buffer.from("a\r\nb\nc"))).toContain("two ways");
  expect(reason(Buffer.from("a\rb"))).toContain("carriage returns");
  expect(reason(Buffer.from("a\r\r\n"))).toContain("carriage returns");
  expect(reason(Buffer.from("a\0"))).toContain("NUL");
  expect(reason(Buffer.from([0xff, 0xfe]))).toContain("UTF-8");
  expect(reason(Buffer.alloc(1024 * 1024 + 1, 97))).toContain("1 MiB");
  expect(reason(Buffer.from("a\nb\n"))).toBe("");
});
