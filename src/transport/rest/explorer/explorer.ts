/** The explorer at /docs: a page, a style sheet and a script, all inside the executable, under a strict policy. */
import type { Answer } from "../answer";
import page from "./explorer.html" with { type: "text" };
import script from "./explorer.client.js" with { type: "text" };
import style from "./explorer.css" with { type: "text" };

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

function file(body: string, type: string): Answer {
  return {
    status: 200,
    headers: {
      "content-type": `${type}; charset=utf-8`,
      "content-security-policy": policy,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cross-origin-opener-policy": "same-origin",
      "cache-control": "no-cache",
    },
    body,
  };
}

const files: ReadonlyMap<string, Answer> = new Map([
  ["/docs", file(page as unknown as string, "text/html")],
  ["/docs/explorer.css", file(style, "text/css")],
  ["/docs/explorer.js", file(script, "text/javascript")],
]);

/** The file at this path, if it is the explorer's. */
export function explorerPage(path: string): Answer | undefined {
  return files.get(path === "/docs/" ? "/docs" : path);
}
