/**
 * Heads of plain HTTP/1.1 requests (RFC 9112), strictly: what is in any way unusual is not read here but left to the
 * full server, so that there is nothing about which two readers could disagree.
 */
import type { IncomingHttpHeaders } from "node:http";

/** A head beyond this is left to the full server. */
export const headBytesMax = 16 * 1024;

/** The headers of a request: the same text always means the same, so clients that repeat themselves are read once. */
export interface HeaderBlock {
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
  readonly contentLength: number;
  /** The client wants no further answer on this connection. */
  readonly close: boolean;
}

export interface RequestHead {
  readonly method: "GET" | "PUT" | "DELETE";
  readonly target: string;
  readonly block: HeaderBlock;
  /** Where the body begins. */
  readonly end: number;
}

const requestLine = /^(GET|PUT|DELETE) (\/[\x21-\x7e]*) HTTP\/1\.1$/;
/** Every line a name, a colon directly after it, and a value without control characters. No folded lines. */
const fieldLines = /^(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+$/;
/** What changes how a message is cut or answered, or tells that a browser or somebody in between speaks. */
const unusual: ReadonlySet<string> = new Set([
  "transfer-encoding",
  "expect",
  "upgrade",
  "te",
  "trailer",
  "keep-alive",
  "proxy-connection",
  "http2-settings",
  "origin",
  "sec-fetch-site",
  "sec-fetch-mode",
  "sec-fetch-dest",
  "cookie",
]);

/** The text between two places without tabs and spaces around it. (An expression would begin anew at each space.) */
function trimmed(text: string, start: number, end: number): string {
  while (start < end && (text[start] === " " || text[start] === "\t")) start++;
  while (end > start && (text[end - 1] === " " || text[end - 1] === "\t")) end--;
  return text.slice(start, end);
}

/** Reads field lines; undefined when anything about them is unusual. */
export function readFields(text: string): HeaderBlock | undefined {
  if (!fieldLines.test(text)) return undefined;
  const headers = Object.create(null) as Record<string, string>;
  for (let at = 0; at < text.length;) {
    const colon = text.indexOf(":", at);
    const end = text.indexOf("\r\n", colon);
    const name = text.slice(at, colon).toLowerCase();
    // Also fields that may be repeated: joining them has rules of its own.
    if (unusual.has(name) || headers[name] !== undefined) return undefined;
    headers[name] = trimmed(text, colon + 1, end);
    at = end + 2;
  }
  if ((headers["host"] ?? "") === "") return undefined;
  const length = headers["content-length"];
  if (length !== undefined && !/^(?:0|[1-9]\d{0,8})$/.test(length)) return undefined;
  const connection = headers["connection"]?.toLowerCase() ?? "keep-alive";
  if (connection !== "keep-alive" && connection !== "close") return undefined;
  return { text, headers, contentLength: Number(length ?? 0), close: connection === "close" };
}

/** Whether a plain request may begin so. */
function isBeginning(bytes: Buffer): boolean {
  if (bytes.length > headBytesMax) return false;
  const text = bytes.toString("latin1");
  const linesEnd = text.lastIndexOf("\r\n");
  if (!/^[\t\x20-\x7e\x80-\xff]*\r?$/.test(linesEnd === -1 ? text : text.slice(linesEnd + 2))) return false;
  if (linesEnd === -1) return true;
  const lineEnd = text.indexOf("\r\n");
  const fields = text.slice(lineEnd + 2, linesEnd + 2);
  return requestLine.test(text.slice(0, lineEnd)) && (fields === "" || fieldLines.test(fields));
}

/**
 * Reads the head at the start of `bytes`: "incomplete" while its end has not come, "unusual" when it is for the full
 * server. `last` is the block that this connection sent before, if any.
 */
export function readHead(
  bytes: Buffer,
  last: HeaderBlock | undefined,
): RequestHead | "incomplete" | "unusual" {
  const headEnd = bytes.indexOf("\r\n\r\n", 0, "latin1");
  if (headEnd === -1) return isBeginning(bytes) ? "incomplete" : "unusual";
  if (headEnd > headBytesMax) return "unusual";
  const text = bytes.toString("latin1", 0, headEnd + 2);
  const lineEnd = text.indexOf("\r\n");
  const line = requestLine.exec(text.slice(0, lineEnd));
  if (line === null) return "unusual";
  const fields = text.slice(lineEnd + 2);
  const block = last !== undefined && last.text === fields ? last : readFields(fields);
  if (block === undefined) return "unusual";
  const method = line[1] as RequestHead["method"];
  if ((method === "PUT") !== (block.headers["content-length"] !== undefined)) return "unusual";
  return { method, target: line[2]!, block, end: headEnd + 4 };
}
