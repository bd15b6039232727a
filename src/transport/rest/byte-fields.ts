/** Keys and values in JSON and queries: `key` as text, or `key64` as base64url; exactly one of each. */
import { isUtf8 } from "node:buffer";
import { Problem } from "./problem";
import { base64UrlDecode } from "./target";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes as text when they are valid UTF-8, byte-order mark included. */
export function utf8Text(bytes: Uint8Array): string | undefined {
  return isUtf8(bytes) ? decoder.decode(bytes) : undefined;
}

/** `{name: text}` when the bytes are valid UTF-8, `{name64: …}` otherwise. */
export function byteField(name: string, bytes: Uint8Array): Record<string, string> {
  const text = utf8Text(bytes);
  return text === undefined ? { [`${name}64`]: Buffer.from(bytes).toString("base64url") } : { [name]: text };
}

/** The bytes of a JSON string; it must not hold half a surrogate pair, which no UTF-8 can say. */
export function textBytes(text: string, name: string): Uint8Array {
  if (!text.isWellFormed()) {
    throw new Problem(
      "bad-body",
      `${JSON.stringify(name)} holds half a surrogate pair, which is no Unicode text.`,
      {
        fix: `Send other bytes as "${name}64", in base64url.`,
      },
    );
  }
  return Buffer.from(text, "utf8");
}

/** Reads `name` or `name64` of a JSON object; undefined when neither is there. Throws when both are. */
export function optionalBytes(
  object: Readonly<Record<string, unknown>>,
  name: string,
): Uint8Array | undefined {
  const text = object[name];
  const text64 = object[`${name}64`];
  if (text !== undefined && text64 !== undefined) {
    throw new Problem("bad-body", `Give "${name}" or "${name}64", not both.`);
  }
  if (typeof text === "string") return textBytes(text, name);
  if (typeof text64 !== "string") return undefined;
  // The alphabet of either base64 is taken: many tools write the other one.
  const bytes = base64UrlDecode(text64.replaceAll("+", "-").replaceAll("/", "_"));
  if (bytes === undefined) throw new Problem("bad-base64", `"${name}64" is not base64url.`);
  return bytes;
}

/** As {@link optionalBytes}; one of the two has to be there. */
export function requiredBytes(object: Readonly<Record<string, unknown>>, name: string): Uint8Array {
  const bytes = optionalBytes(object, name);
  if (bytes === undefined) throw new Problem("bad-body", `"${name}" or "${name}64" is missing.`);
  return bytes;
}

/** A key in a JSON object: at least one byte. */
export function requiredKey(object: Readonly<Record<string, unknown>>): Uint8Array {
  const key = requiredBytes(object, "key");
  if (key.length === 0) throw new Problem("empty-key", '"key" is empty.');
  return key;
}
