/** The same by command: what curl and etcdctl would be told. */
import { isUtf8 } from "node:buffer";
import { byteField } from "../../../rest/byte-fields";
import { basePath } from "../../../rest/paths";
import { type Command, shellQuoted } from "../../components/values";
import { escapeBytes } from "../../query";

/** Bytes as an argument for a shell; undefined when no argument can hold them. */
export function argumentOf(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  const text = Buffer.from(bytes).toString("utf8");
  // What would not show, or is no text, is written as escapes, which bash, zsh and ksh read.
  if (isUtf8(bytes) && !/[\p{C}\p{Zl}\p{Zp}]/u.test(text)) return text === "" ? "''" : shellQuoted(text);
  let quoted = "";
  for (const byte of bytes) {
    const plain = byte > 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c;
    quoted += plain || byte === 0x20 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return `$'${quoted}'`;
}

/** The path of a key in REST, by the form that says every key. */
function keyPath(key: Uint8Array): string {
  const escaped = escapeBytes(key);
  const dots = /(?:^|\/)\.{1,2}(?:\/|$)/.test(Buffer.from(key).toString("latin1"));
  return dots ? `/kv64/${Buffer.from(key).toString("base64url")}` : `/kv/${escaped}`;
}

/** A curl command for a path below the API. */
export function curl(origin: string, path: string, options = ""): Command {
  return { tool: "curl", text: `curl ${options === "" ? "" : `${options} `}'${origin}${basePath}${path}'` };
}

/** The address of a key in REST. */
export function curlKey(origin: string, key: Uint8Array, options = "", query = ""): Command {
  return curl(origin, keyPath(key) + query, options);
}

/** An etcdctl command; `bytes` are its last arguments. Undefined when an argument cannot be written. */
export function etcdctl(
  origin: string,
  command: string,
  ...bytes: readonly Uint8Array[]
): Command | undefined {
  const words = bytes.map(argumentOf);
  if (words.includes(undefined)) return undefined;
  const text = [`etcdctl --endpoints=${origin}`, command, ...words].join(" ");
  return { tool: "etcdctl", text };
}

/** Those that there are. */
export function commands(...some: readonly (Command | undefined)[]): Command[] {
  return some.filter((command) => command !== undefined);
}

/** A parameter that names bytes: as text where they are text, otherwise in base64url. */
export function bytesParameter(name: string, bytes: Uint8Array): string {
  return isUtf8(bytes)
    ? `${name}=${escapeBytes(bytes)}`
    : `${name}64=${Buffer.from(bytes).toString("base64url")}`;
}

/** Values that are written out in a command. */
const writtenBytesMax = 400;

/** One guarded put as a transaction; undefined when its value is too long for a command. */
export function curlTxn(
  origin: string,
  { key, value, base }: { readonly key: Uint8Array; readonly value: Uint8Array; readonly base: bigint },
): Command | undefined {
  if (value.length > writtenBytesMax) return undefined;
  const name = byteField("key", key);
  const compare =
    base === 0n
      ? { ...name, target: "exists", exists: false }
      : { ...name, target: "modRevision", number: String(base) };
  const body = { compare: [compare], then: [{ put: { ...name, ...byteField("value", value) } }] };
  const text = JSON.stringify(body).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return curl(origin, "/txn", `-H 'Content-Type: application/json' -d ${shellQuoted(text)}`);
}
