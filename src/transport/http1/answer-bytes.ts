/** Answers of HTTP/1.1 as bytes: head and body in one piece. */
import { STATUS_CODES } from "node:http";
import { assert } from "../../assert";
import type { LaneAnswer } from "./key-lane";

const statusLines = new Map<number, string>();
let dateSecond = -1;
let dateLine = "";

function statusLine(status: number): string {
  let line = statusLines.get(status);
  if (line === undefined) {
    line = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n`;
    statusLines.set(status, line);
  }
  return line;
}

/** The Date header, made once a second. */
function date(): string {
  const nowMs = Date.now();
  const second = Math.floor(nowMs / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateLine = `date: ${new Date(nowMs).toUTCString()}\r\n`;
  }
  return dateLine;
}

/** Everything that goes over the socket for an answer. */
export function answerBytes({ status, headers, body }: LaneAnswer, close: boolean): Buffer {
  let head = statusLine(status);
  for (const name in headers) {
    const value = headers[name]!;
    // A line end in a value would let whoever chose it write the rest of the answer.
    assert(/^[\t\x20-\x7e]*$/.test(value), "a response header holds a control character");
    if (name !== "connection") head += `${name}: ${value}\r\n`;
  }
  head += date();
  head += close ? "connection: close\r\n" : "connection: keep-alive\r\n";
  const empty = status === 204 || status === 304;
  const bodyBytes =
    body === undefined || empty ? 0 : typeof body === "string" ? Buffer.byteLength(body) : body.length;
  head += empty ? "\r\n" : `content-length: ${bodyBytes}\r\n\r\n`;
  const bytes = Buffer.allocUnsafe(head.length + bodyBytes);
  bytes.write(head, 0, "latin1");
  if (bodyBytes > 0) {
    if (typeof body === "string") bytes.write(body, head.length, "utf8");
    else bytes.set(body!, head.length);
  }
  return bytes;
}
