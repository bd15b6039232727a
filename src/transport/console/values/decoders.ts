/** Ways to look at a value. They only ever show: nothing that a decoder makes can be saved. */
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { parseAllDocuments } from "yaml";
import { countOf } from "../text";
import { jsonLayout } from "./json-layout";

/** How a value may be looked at. */
export const viewNames = ["text", "json", "yaml", "hex", "base64", "gzip"] as const;
export type ViewName = (typeof viewNames)[number];

export const viewTitles: Readonly<Record<ViewName, string>> = {
  text: "Text",
  json: "JSON",
  yaml: "YAML",
  hex: "Hex",
  base64: "Base64",
  gzip: "Gzip",
};

export type Decoded =
  | {
      readonly ok: true;
      /** What to show: bytes as text, or lines of a hex dump. */
      readonly bytes: Uint8Array;
      /** A sentence about what is shown, where it is not the value itself. */
      readonly note?: string;
    }
  | { readonly ok: false; readonly reason: string };

/** Larger values are shown as text, hex or base64 only. */
const parsedBytesMax = 256 * 1024;
/** As much of a value as is written in hexadecimal or base64; the whole can be downloaded. */
const writtenBytesMax = 12 * 1024;
const inflatedBytesMax = 4 * 1024 * 1024;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const inflated = promisify(gunzip);

/** The text of bytes; undefined when they are no UTF-8. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

function isGzip(value: Uint8Array): boolean {
  return value[0] === 0x1f && value[1] === 0x8b;
}

function shown(text: string, note?: string): Decoded {
  return { ok: true, bytes: Buffer.from(text), ...(note === undefined ? {} : { note }) };
}

/** How a value is shown when nobody asked for a view. */
export function naturalView(value: Uint8Array): ViewName {
  if (isGzip(value)) return "gzip";
  const text = textOf(value);
  if (text === undefined || value.includes(0)) return "hex";
  if (/^\s*[{[]/.test(text) && value.length <= parsedBytesMax && jsonLayout(text) !== undefined)
    return "json";
  return "text";
}

/** A value in one of its views. */
export async function decode(value: Uint8Array, view: ViewName): Promise<Decoded> {
  switch (view) {
    case "text":
      return textOf(value) === undefined
        ? { ok: true, bytes: value, note: "Not UTF-8: bytes that are no text are shown in hexadecimal." }
        : { ok: true, bytes: value };
    case "json":
      return json(value);
    case "yaml":
      return yaml(value);
    case "hex":
      return shown(hexDump(value.subarray(0, writtenBytesMax)), cutNote(value));
    case "base64":
      return base64(value);
    case "gzip":
      return gzip(value);
  }
}

function json(value: Uint8Array): Decoded {
  if (value.length > parsedBytesMax) return { ok: false, reason: "It is larger than 256 KiB." };
  const laidOut = jsonLayout(textOf(value) ?? "");
  return laidOut === undefined
    ? { ok: false, reason: "It is no JSON." }
    : shown(laidOut, "Laid out for reading; the stored value has its own white space.");
}

function yaml(value: Uint8Array): Decoded {
  if (value.length > parsedBytesMax) return { ok: false, reason: "It is larger than 256 KiB." };
  const text = textOf(value);
  if (text === undefined) return { ok: false, reason: "It is no YAML: it is not UTF-8 text." };
  try {
    const documents = parseAllDocuments(text, { logLevel: "silent" });
    if (!Array.isArray(documents)) return { ok: false, reason: "It is empty." };
    const error = documents.find(({ errors }) => errors.length > 0)?.errors[0];
    if (error !== undefined) return noYaml(error);
    // What was an alias stays one, so a small text cannot become a large one.
    const laidOut = documents.map((document) => document.toString({ lineWidth: 0 })).join("---\n");
    return shown(laidOut, "Laid out for reading; comments and order are the value's own.");
  } catch (error) {
    // Some texts are only refused when they are written again.
    return noYaml(error);
  }
}

function noYaml(error: unknown): Decoded {
  const message = error instanceof Error ? error.message : String(error);
  return { ok: false, reason: `It is no YAML: ${message.split("\n")[0]!}` };
}

/** Says that not all of a value is written. */
function cutNote(value: Uint8Array): string | undefined {
  return value.length <= writtenBytesMax
    ? undefined
    : `The first ${countOf(writtenBytesMax)} of ${countOf(value.length)} bytes; download the value to see all of it.`;
}

function base64(value: Uint8Array): Decoded {
  if (value.length > parsedBytesMax) return encoded(value);
  const text = Buffer.from(value).toString("latin1").trim();
  const bare = text.replace(/\s+/g, "");
  const coded = bare.length >= 4 && /^(?:[A-Za-z0-9+/]+={0,2}|[A-Za-z0-9_-]+={0,2})$/.test(bare);
  if (coded && (bare.length % 4 === 0 || (!bare.includes("=") && bare.length % 4 !== 1))) {
    return {
      ok: true,
      bytes: Buffer.from(bare, "base64url"),
      note: "Decoded: the value itself is base64 text.",
    };
  }
  return encoded(value);
}

function encoded(value: Uint8Array): Decoded {
  const text = Buffer.from(value.subarray(0, writtenBytesMax)).toString("base64").replace(/.{76}/g, "$&\n");
  return shown(text, `Encoded: the value's bytes written as base64. ${cutNote(value) ?? ""}`.trim());
}

async function gzip(value: Uint8Array): Promise<Decoded> {
  if (!isGzip(value)) return { ok: false, reason: "It does not begin as gzip does, with 1f 8b." };
  try {
    const bytes = await inflated(value, { maxOutputLength: inflatedBytesMax });
    return { ok: true, bytes, note: `Unpacked: ${bytes.length} bytes.` };
  } catch (error) {
    const large = (error as { code?: string }).code === "ERR_BUFFER_TOO_LARGE";
    return {
      ok: false,
      reason: large ? "Unpacked it is larger than 4 MiB." : "It begins as gzip does, but is damaged.",
    };
  }
}

/** Bytes in rows of sixteen: where, which, and what is printable in them. */
export function hexDump(bytes: Uint8Array, start = 0): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Buffer.from(bytes.subarray(at, at + 16));
    const hex = row.toString("hex").replace(/../g, "$& ");
    const left = hex.slice(0, 24).padEnd(24);
    const right = hex.slice(24).padEnd(24);
    const printable = row.toString("latin1").replace(/[^\x20-\x7e]/g, "·");
    lines.push(`${(start + at).toString(16).padStart(8, "0")}  ${left} ${right} ${printable}`);
  }
  return lines.join("\n");
}
