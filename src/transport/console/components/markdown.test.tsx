/** @jsxImportSource #console */
import { expect, test } from "bun:test";
import { markdown, slugOf } from "./markdown";

test("texts become markup of ours, and nothing in them does", () => {
  const { title, headings, body } = markdown(
    "# Title\n\n## Who & what\n\nA `<b>` and **bold** [place](/ui/keys) <script>alert(1)</script>\n\n- one\n- two\n\n" +
      "| a | b |\n| - | - |\n| 1 | `x|y` |\n\n```sh\necho '<i>'\n```\n",
  );
  expect(title).toBe("Title");
  expect(headings).toEqual(["Who & what"]);
  expect(body.text).toContain('<h2 id="who-what">Who &amp; what</h2>');
  expect(body.text).toContain("<code>&lt;b&gt;</code>");
  expect(body.text).toContain('<a href="/ui/keys">place</a>');
  expect(body.text).toContain("<li>one</li>");
  expect(body.text).toContain("echo &#39;&lt;i&gt;&#39;");
  expect(body.text).not.toMatch(/<script|<i>|<b>/);
});

test("links that are no pages are text", () => {
  for (const href of ["javascript:alert(1)", "//evil", "data:text/html,x", "http://elsewhere/"]) {
    expect(markdown(`# T\n\n[x](${href})`).body.text).toBe("<p>x</p>");
  }
  expect(slugOf("From one member to three")).toBe("from-one-member-to-three");
});
