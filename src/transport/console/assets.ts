/**
 * Style sheet, scripts, icons and fonts of the console, embedded in the executable. Names carry a hash of the content,
 * so browsers keep them for ever; compressed forms are made once, off the event loop.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import geistPath from "@fontsource-variable/geist/files/geist-latin-wght-normal.woff2" with { type: "file" };
import geistMonoPath from "@fontsource-variable/geist-mono/files/geist-mono-latin-wght-normal.woff2" with { type: "file" };
import streamScript from "htmx.org/dist/ext/hx-sse.min.js" with { type: "text" };
import htmxScript from "htmx.org/dist/htmx.min.js" with { type: "text" };
import consoleScript from "../../../web/console.client.js" with { type: "text" };
import styleSheet from "../../../web/console.css" with { type: "text" };
import keysSheet from "../../../web/keys.css" with { type: "text" };
import iconSprite from "../../../web/icons.svg" with { type: "text" };
import mark from "../../../web/mark.svg" with { type: "text" };
import type { Answer } from "../rest/answer";
import { securityHeaders } from "./headers";

export const assetsPath = "/ui/assets/";

const types = {
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml; charset=utf-8",
  woff2: "font/woff2",
} as const;

interface Asset {
  readonly type: (typeof types)[keyof typeof types];
  readonly content: Buffer;
  /** Absent for what is compressed already. */
  readonly compressed?: { gzip?: Promise<Buffer>; br?: Promise<Buffer> };
}

const files = new Map<string, Asset>();

/** Takes a file up; the answer is the path at which it is served. */
function embed(name: string, extension: keyof typeof types, content: Buffer): string {
  const hash = createHash("sha256").update(content).digest("base64url").slice(0, 10);
  const path = `${assetsPath}${name}-${hash}.${extension}`;
  files.set(path, {
    type: types[extension],
    content,
    ...(extension === "woff2" ? {} : { compressed: {} }),
  });
  return path;
}

const fonts = {
  "geist.woff2": embed("geist", "woff2", readFileSync(geistPath)),
  "geist-mono.woff2": embed("geist-mono", "woff2", readFileSync(geistMonoPath)),
};
let style = styleSheet + keysSheet;
for (const [name, path] of Object.entries(fonts)) style = style.replaceAll(`"${name}"`, `"${path}"`);

/** Where each file is served. */
export const assetPaths = {
  style: embed("console", "css", Buffer.from(style)),
  htmx: embed("htmx", "js", Buffer.from(`${htmxScript}\n${streamScript}`)),
  script: embed("console", "js", Buffer.from(consoleScript)),
  icons: embed("icons", "svg", Buffer.from(iconSprite)),
  mark: embed("mark", "svg", Buffer.from(mark)),
  font: fonts["geist.woff2"],
  monoFont: fonts["geist-mono.woff2"],
} as const;

/** Differs whenever any file does: pages of another version are to be loaded anew. */
export const assetsVersion = createHash("sha256")
  .update([...files.keys()].join("\n"))
  .digest("base64url")
  .slice(0, 10);

const gzipped = promisify(gzip);
const brotli = promisify(brotliCompress);

function gzipOf(asset: Required<Asset>): Promise<Buffer> {
  return (asset.compressed.gzip ??= gzipped(asset.content, { level: 9 }));
}

function brotliOf(asset: Required<Asset>): Promise<Buffer> {
  const params = { [constants.BROTLI_PARAM_SIZE_HINT]: asset.content.length };
  return (asset.compressed.br ??= brotli(asset.content, { params }));
}

/** Bytes of all files by how they travel: text compressed with gzip, and fonts. */
export async function assetSizes(): Promise<{ readonly gzipBytes: number; readonly fontBytes: number }> {
  let gzipBytes = 0;
  let fontBytes = 0;
  for (const asset of files.values()) {
    if (asset.compressed === undefined) fontBytes += asset.content.length;
    else gzipBytes += (await gzipOf(asset as Required<Asset>)).length;
  }
  return { gzipBytes, fontBytes };
}

/** The file at this path in a form that the client takes; undefined when there is none. */
export async function assetAnswer(
  path: string,
  acceptEncoding: string | undefined,
): Promise<Answer | undefined> {
  const asset = files.get(path);
  if (asset === undefined) return undefined;
  const headers: Record<string, string> = {
    ...securityHeaders,
    "content-type": asset.type,
    "cache-control": "public, max-age=31536000, immutable",
  };
  if (asset.compressed === undefined) return { status: 200, headers, body: asset.content };
  headers["vary"] = "Accept-Encoding";
  const accepted = new Set(
    (acceptEncoding ?? "")
      .split(",")
      .filter((one) => !/;\s*q=0(?:\.0*)?\s*$/.test(one))
      .map((one) => one.split(";")[0]!.trim().toLowerCase()),
  );
  const encoding = accepted.has("br") ? "br" : accepted.has("gzip") ? "gzip" : undefined;
  if (encoding === undefined) return { status: 200, headers, body: asset.content };
  headers["content-encoding"] = encoding;
  const form = encoding === "br" ? brotliOf : gzipOf;
  return { status: 200, headers, body: await form(asset as Required<Asset>) };
}
