/** The parameters of an address: keys are bytes, everything else is text. */
import { queryParameters } from "../rest/target";

const utf8 = new TextDecoder("utf-8", { fatal: false });

export class Query {
  readonly #parameters: ReadonlyMap<string, readonly Uint8Array[]>;

  /** Throws a Problem for bad escapes. */
  constructor(raw: string) {
    this.#parameters = queryParameters(raw);
  }

  bytes(name: string): Uint8Array | undefined {
    return this.#parameters.get(name)?.[0];
  }

  text(name: string): string | undefined {
    const bytes = this.bytes(name);
    return bytes === undefined ? undefined : utf8.decode(bytes);
  }

  allBytes(name: string): readonly Uint8Array[] {
    return this.#parameters.get(name) ?? [];
  }

  has(name: string): boolean {
    return this.#parameters.has(name);
  }

  /** A whole number from 0; undefined when there is none. */
  number(name: string): number | undefined {
    const text = this.text(name);
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  }
}

/** An address with parameters; those without a value are left out. Bytes are escaped as they are. */
export function address(
  path: string,
  parameters: Readonly<Record<string, string | number | bigint | Uint8Array | boolean | undefined>> = {},
): string {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined || value === false) continue;
    const text = value instanceof Uint8Array ? escapeBytes(value) : encodeURIComponent(String(value));
    parts.push(value === true ? name : `${name}=${text}`);
  }
  return parts.length === 0 ? path : `${path}?${parts.join("&")}`;
}

/** Bytes percent-escaped, letters, digits and a few harmless signs as they are. */
export function escapeBytes(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    text += /[\w.~/:-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return text;
}
