/** @jsxImportSource #console */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Bytes } from "./components/values";
import { Html } from "./html";
import { Live } from "./components/live";
import { jsx } from "./jsx-runtime";
import { piecesOf } from "./text";

const hostile = `<script>alert("1")</script>' onload='x`;

test("text is escaped between tags and in attributes, markup is not escaped twice", () => {
  const inner = <b title={hostile}>{hostile}</b>;
  const { text } = <p>{[inner, " & ", 3, null, false, undefined]}</p>;
  const escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; onload=&#39;x";
  expect(text).toBe(`<p><b title="${escaped}">${escaped}</b> &amp; 3</p>`);
});

test("no text leaves an element or an attribute, whatever it is", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const markup = (
        <a title={text} href="/ui/">
          {text}
        </a>
      ).text;
      const seen: string[] = [];
      new HTMLRewriter().on("*", { element: (element) => void seen.push(element.tagName) }).transform(markup);
      expect(seen).toEqual(["a"]);
      expect(markup).not.toContain("\0");
    }),
  );
});

test("attributes that a strict policy blocks, and addresses that run scripts, are refused", () => {
  expect(() => jsx("p", { onclick: "x()" })).toThrow();
  expect(() => jsx("p", { style: "color:red" })).toThrow();
  expect(() => jsx("p", { "hx-on:click": "x()" })).toThrow();
  expect(() => jsx("p", { 'x"y': "1" })).toThrow();
  for (const href of [
    "javascript:alert(1)",
    " javascript:alert(1)",
    "data:text/html,x",
    "//evil",
    "/\\evil",
  ]) {
    expect(() => <a href={href}>x</a>).toThrow();
  }
  expect((<a href="/ui/key?k=%00">x</a>).text).toBe('<a href="/ui/key?k=%00">x</a>');
});

test("keys show every byte: nothing hides, nothing is lost", () => {
  const key = Buffer.concat([Buffer.from("a\u{202e}b\0\u{200b}\u{e0001}c d"), Buffer.from([0xff, 0xc3])]);
  const pieces = piecesOf(key);
  expect(pieces.filter(({ named }) => named).map(({ text }) => text)).toEqual([
    "U+202E",
    "U+0000",
    "U+200B",
    "U+E0001",
    "FF",
    "C3",
  ]);
  expect(pieces.filter(({ named }) => !named).map(({ text }) => text)).toEqual(["a", "b", "c d"]);
  expect((<Bytes of={Buffer.from("<b>")} />).text).toBe('<bdi class="bytes">&lt;b&gt;</bdi>');
});

test("live cells are collected from wherever they stand", () => {
  const page = (
    <main>
      <Live id="a">{"<1>"}</Live>
      <p>{[<Live id="b">2</Live>]}</p>
    </main>
  );
  expect(page).toBeInstanceOf(Html);
  expect(page.cells).toEqual([
    { id: "live-a", text: "&lt;1&gt;" },
    { id: "live-b", text: "2" },
  ]);
  expect(page.text).toContain('<span id="live-a" data-live>&lt;1&gt;</span>');
});
