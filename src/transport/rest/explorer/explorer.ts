/**
 * The explorer at /docs: a page, a style sheet and a script, all inside the executable, under a strict policy. It looks
 * as the console does, with the console's style sheet, fonts and mark.
 */
import { assetPaths } from "../../console/assets";
import type { Answer } from "../answer";
import page from "./explorer.html" with { type: "text" };
import script from "./explorer.client.js" with { type: "text" };
import style from "./explorer.css" with { type: "text" };

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "font-src 'self'",
  "img-src 'self'",
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

const html = (page as unknown as string)
  .replaceAll("console.css", assetPaths.style)
  .replaceAll("console.svg", assetPaths.mark);

const files: ReadonlyMap<string, Answer> = new Map([
  ["/docs", file(html, "text/html")],
  ["/docs/explorer.css", file(style, "text/css")],
  ["/docs/explorer.js", file(script, "text/javascript")],
]);

/** The file at this path, if it is the explorer's. */
export function explorerPage(path: string): Answer | undefined {
  return files.get(path === "/docs/" ? "/docs" : path);
}
