/**
 * Request targets as they came, before anybody normalised them: key paths are bytes, and every slash, dot and
 * escape in them counts.
 */
import { Problem } from "./problem";

/** A target cut at its question mark; both parts raw. */
export interface RawTarget {
  /** Begins with a slash. */
  readonly path: string;
  readonly query: string;
}

/** Takes a request target apart, also one in absolute form; undefined when it names no path. */
export function rawTarget(target: string): RawTarget | undefined {
  const absolute = /^https?:\/\/[^/?#]*/i.exec(target);
  const origin = absolute === null ? target : target.slice(absolute[0].length) || "/";
  if (!origin.startsWith("/")) return undefined;
  const mark = origin.indexOf("?");
  return mark === -1
    ? { path: origin, query: "" }
    : { path: origin.slice(0, mark), query: origin.slice(mark + 1) };
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

/**
 * Percent-decodes once, to bytes. With `plusIsSpace` a plus is a space, as forms and most clients write queries.
 * Undefined when an escape is not two hexadecimal digits, or a character cannot stand in a target.
 */
export function percentDecode(text: string, plusIsSpace: boolean): Uint8Array | undefined {
  const bytes = Buffer.allocUnsafe(text.length);
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    let code = text.charCodeAt(at);
    if (code === 0x25) {
      const high = hexDigit(text.charCodeAt(at + 1));
      const low = hexDigit(text.charCodeAt(at + 2));
      if (high < 0 || low < 0) return undefined;
      code = high * 16 + low;
      at += 2;
    } else if (code === 0x2b && plusIsSpace) {
      code = 0x20;
    } else if (code > 0xff || code <= 0x20 || code === 0x7f || code === 0x23) {
      return undefined;
    }
    bytes[length++] = code;
  }
  return bytes.subarray(0, length);
}

/** Also behind an escaped slash: some proxies decode before they look. */
const dotSegment = /(?:^|\/|%2[fF])(?:\.|%2[eE]){1,2}(?:\/|%2[fF]|$)/;

/** The key that the rest of a path names. Throws a Problem for bad escapes, dot segments and the empty key. */
export function keyOfPath(raw: string): Uint8Array {
  if (raw === "")
    throw new Problem("empty-key", "The path names no key: nothing stands behind its last slash.");
  if (dotSegment.test(raw)) {
    throw new Problem(
      "dot-segment",
      'The path has a segment "." or "..", which proxies and clients rewrite on the way.',
      { fix: "Address such a key as /kv64/{base64url of the key}." },
    );
  }
  const key = percentDecode(raw, false);
  if (key === undefined)
    throw new Problem("bad-escape", "The path has a % that no two hexadecimal digits follow.");
  return key;
}

/** The bytes that base64url text stands for, padded or not; undefined when it is something else. */
export function base64UrlDecode(text: string): Uint8Array | undefined {
  const bare = text.replace(/={1,2}$/, "");
  if (!/^[A-Za-z0-9_-]*$/.test(bare) || bare.length % 4 === 1) return undefined;
  if (bare.length !== text.length && text.length % 4 !== 0) return undefined;
  const bytes = Buffer.from(bare, "base64url");
  // Left-over bits must be zero, or two texts would name one key.
  return bytes.toString("base64url") === bare ? bytes : undefined;
}

/** The key that a base64url path segment names. Throws a Problem. */
export function keyOfPath64(raw: string): Uint8Array {
  const text = percentDecode(raw, false);
  const key = text === undefined ? undefined : base64UrlDecode(Buffer.from(text).toString("latin1"));
  if (key === undefined) throw new Problem("bad-base64", "What follows in the path is not base64url.");
  if (key.length === 0)
    throw new Problem("empty-key", "The path names no key: nothing stands behind its last slash.");
  return key;
}

/** The parameters of a query, names and values decoded to bytes once; names as text. Throws a Problem. */
export function queryParameters(query: string): Map<string, Uint8Array[]> {
  const parameters = new Map<string, Uint8Array[]>();
  if (query === "") return parameters;
  for (const part of query.split("&")) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const rawName = equals === -1 ? part : part.slice(0, equals);
    const name = percentDecode(rawName, true);
    const value = percentDecode(equals === -1 ? "" : part.slice(equals + 1), true);
    if (name === undefined || value === undefined) {
      throw new Problem("bad-escape", "The query has a % that no two hexadecimal digits follow.");
    }
    const key = Buffer.from(name).toString("latin1");
    const values = parameters.get(key);
    if (values === undefined) parameters.set(key, [value]);
    else values.push(value);
  }
  return parameters;
}
