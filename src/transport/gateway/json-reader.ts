/**
 * Reads one JSON value into a protobuf message by the rules of proto3 JSON, straight from the text. JSON.parse would
 * round integers above 2^53 and let the last of two equal names win, and both would change what a client asked for;
 * here such a request means exactly what it says or is refused, with the place and words that etcd's gateway has.
 * The text is valid JSON already (see json-scanner.ts).
 */
import { isUtf8 } from "node:buffer";
import { create, ScalarType, type DescEnum, type DescField, type DescMessage } from "@bufbuild/protobuf";
import type { Message } from "@bufbuild/protobuf";
import { JsonSyntaxError } from "./json-scanner";

/** Messages nest at most this deep, which is as deep as the binary decoder of every other door goes. */
export const messageDepthMax = 100;

const scalarNames: Readonly<Partial<Record<ScalarType, string>>> = {
  [ScalarType.STRING]: "string",
  [ScalarType.BYTES]: "bytes",
  [ScalarType.BOOL]: "bool",
  [ScalarType.INT32]: "int32",
  [ScalarType.UINT32]: "uint32",
  [ScalarType.INT64]: "int64",
  [ScalarType.UINT64]: "uint64",
};

/** Inclusive limits of the integer types. */
const integerLimits: Readonly<Partial<Record<ScalarType, readonly [bigint, bigint]>>> = {
  [ScalarType.INT32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.UINT32]: [0n, 2n ** 32n - 1n],
  [ScalarType.INT64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.UINT64]: [0n, 2n ** 64n - 1n],
};

/** More digits than this, zeros of an exponent included, fit no integer type. */
const integerDigitsMax = 20;
/** Nobody writes an integer longer than this, however many zeros it has. */
const integerTextMax = 1024;

/**
 * The integer that a JSON number stands for: `1e2` is 100 and `1.0` is 1. Undefined when it is no number, or no
 * integer, or has more digits than any integer type.
 */
export function exactInteger(text: string): bigint | undefined {
  if (text.length > integerTextMax) return undefined;
  const parts = /^(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (parts === null) return undefined;
  const whole = parts[2]!;
  const fraction = (parts[3] ?? "").replace(/0+$/, "");
  const digits = (whole + fraction).replace(/^0+/, "");
  if (digits === "") return 0n;
  const exponent = Number(parts[4] ?? "0") - fraction.length;
  if (digits.length + exponent > integerDigitsMax) return undefined;
  let integer = digits;
  if (exponent >= 0) {
    integer += "0".repeat(exponent);
  } else {
    const cut = digits.length + exponent;
    if (cut <= 0 || /[^0]/.test(digits.slice(cut))) return undefined;
    integer = digits.slice(0, cut);
  }
  return BigInt(parts[1]! + integer);
}

const base64Standard = /^[A-Za-z0-9+/]*$/;
const base64Url = /^[A-Za-z0-9_-]*$/;

/**
 * Standard or URL-safe base64, or undefined when it is neither. Padding is due exactly when the length is a multiple
 * of four; line ends are counted in that, and then ignored.
 */
export function decodeBase64(text: string): Uint8Array | undefined {
  const padded = text.length % 4 === 0;
  let body = text.includes("\n") || text.includes("\r") ? text.replace(/[\r\n]/g, "") : text;
  if (padded) {
    if (body.length % 4 !== 0) return undefined;
    if (body.endsWith("==")) body = body.slice(0, -2);
    else if (body.endsWith("=")) body = body.slice(0, -1);
  }
  if (body.length % 4 === 1) return undefined;
  if (!base64Standard.test(body) && !base64Url.test(body)) return undefined;
  // A copy of its own: Buffer.from would share a pool that outlives the request.
  const bytes = new Uint8Array(Math.floor((body.length * 3) / 4));
  Buffer.from(bytes.buffer).write(body, "base64");
  return bytes;
}

type Fields = ReadonlyMap<string, DescField>;
const fieldsOf = new WeakMap<DescMessage, Fields>();

/** Fields by both spellings that a client may use. */
function fieldsByName(desc: DescMessage): Fields {
  let fields = fieldsOf.get(desc);
  if (fields === undefined) {
    fields = new Map(
      desc.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]),
    );
    fieldsOf.set(desc, fields);
  }
  return fields;
}

/** Half of a character that UTF-16 writes in two. */
const loneSurrogate = /\p{Surrogate}/u;

/** A number or a literal, from where it is asked to look. */
const plainToken = /[^\s,\]}:]+/y;

class Reader {
  #at = 0;
  #depth = 0;

  constructor(
    private readonly text: string,
    /** Set when the bytes are no UTF-8: the text is then one character per byte, and each string is judged. */
    private readonly suspect: boolean,
  ) {}

  root(desc: DescMessage): Message {
    this.#space();
    return this.#message(desc);
  }

  #space(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at++;
    }
  }

  #place(at: number): string {
    const before = this.text.slice(0, at);
    const lineStart = before.lastIndexOf("\n") + 1;
    let line = 1;
    for (let i = before.indexOf("\n"); i !== -1; i = before.indexOf("\n", i + 1)) line++;
    return `(line ${line}:${Array.from(before.slice(lineStart)).length + 1})`;
  }

  #refuse(at: number, problem: string): JsonSyntaxError {
    return new JsonSyntaxError(`proto: ${this.#place(at)}: ${problem}`);
  }

  #refuseSyntax(at: number, problem: string): JsonSyntaxError {
    return new JsonSyntaxError(`proto: syntax error ${this.#place(at)}: ${problem}`);
  }

  /** The token at a place as it is written; of an object or array only its bracket. */
  #token(at: number): string {
    const first = this.text[at]!;
    if (first === "{" || first === "[") return first;
    if (first === '"') return this.text.slice(at, this.#stringEnd(at));
    plainToken.lastIndex = at;
    return plainToken.exec(this.text)![0];
  }

  #stringEnd(at: number): number {
    let end = at + 1;
    for (;;) {
      const code = this.text.charCodeAt(end);
      if (code === 0x22) return end + 1;
      end += code === 0x5c ? 2 : 1;
    }
  }

  #string(): string {
    const start = this.#at;
    const end = this.#stringEnd(start);
    this.#at = end;
    const raw = this.text.slice(start, end);
    if (this.suspect && !isUtf8(Buffer.from(raw, "latin1"))) {
      throw this.#refuseSyntax(start, "invalid UTF-8 in string");
    }
    if (!raw.includes("\\")) return raw.slice(1, -1);
    const value = JSON.parse(raw) as string;
    if (loneSurrogate.test(value)) throw this.#refuseSyntax(start, "invalid escape code in string");
    return value;
  }

  /** Passes over a value of any kind without recursion; strings are judged all the same. */
  #skip(): void {
    let open = 0;
    do {
      this.#space();
      const first = this.text[this.#at]!;
      if (first === '"') {
        this.#string();
      } else {
        if (first === "{" || first === "[") open++;
        else if (first === "}" || first === "]") open--;
        else if (first !== "," && first !== ":") this.#at += this.#token(this.#at).length - 1;
        this.#at++;
      }
    } while (open > 0);
  }

  #isNull(): boolean {
    return this.text.charCodeAt(this.#at) === 0x6e;
  }

  #message(desc: DescMessage): Message {
    if (this.text[this.#at] !== "{") {
      throw this.#refuseSyntax(this.#at, `unexpected token ${this.#token(this.#at)}`);
    }
    if (++this.#depth > messageDepthMax) throw this.#refuse(this.#at, "exceeded max recursion depth");
    const message = create(desc);
    const fields = fieldsByName(desc);
    const seen = new Set<number>();
    const seenOneofs = new Set<string>();
    this.#at++;
    for (;;) {
      this.#space();
      const next = this.text[this.#at];
      if (next === "}") break;
      if (next === ",") {
        this.#at++;
        continue;
      }
      const nameAt = this.#at;
      const name = this.#string();
      this.#space();
      this.#at++; // the colon
      this.#space();
      const field = fields.get(name);
      if (field === undefined) {
        this.#skip();
        continue;
      }
      if (seen.has(field.number)) {
        throw this.#refuse(nameAt, `duplicate field ${this.#token(nameAt)}`);
      }
      seen.add(field.number);
      if (this.#isNull()) {
        this.#at += 4;
        continue;
      }
      if (field.oneof !== undefined) {
        if (seenOneofs.has(field.oneof.name)) {
          const oneof = `${desc.typeName}.${field.oneof.name}`;
          throw this.#refuse(nameAt, `error parsing ${this.#token(nameAt)}, oneof ${oneof} is already set`);
        }
        seenOneofs.add(field.oneof.name);
      }
      this.#field(message, field);
    }
    this.#at++;
    this.#depth--;
    return message;
  }

  #field(message: Message, field: DescField): void {
    const target = message as unknown as Record<string, unknown>;
    if (field.fieldKind === "list") {
      target[field.localName] = this.#list(field);
      return;
    }
    const value = this.#single(field);
    if (value === undefined) return;
    if (field.oneof === undefined) target[field.localName] = value;
    else target[field.oneof.localName] = { case: field.localName, value };
  }

  #list(field: DescField): unknown[] {
    if (this.text[this.#at] !== "[") {
      throw this.#refuseSyntax(this.#at, `unexpected token ${this.#token(this.#at)}`);
    }
    this.#at++;
    const items: unknown[] = [];
    for (;;) {
      this.#space();
      const next = this.text[this.#at];
      if (next === "]") break;
      if (next === ",") {
        this.#at++;
        continue;
      }
      const value = this.#single(field);
      if (value !== undefined) items.push(value);
    }
    this.#at++;
    return items;
  }

  /** One value of the field's type; undefined for a name that its enum does not have. */
  #single(field: DescField): unknown {
    if (field.message !== undefined) return this.#message(field.message);
    if (field.enum !== undefined) return this.#enum(field, field.enum);
    return this.#scalar(field, field.scalar!);
  }

  #invalid(at: number, kind: string, field: DescField): JsonSyntaxError {
    return this.#refuse(at, `invalid value for ${kind} field ${field.jsonName}: ${this.#token(at)}`);
  }

  #enum(field: DescField, desc: DescEnum): number | undefined {
    const at = this.#at;
    const first = this.text[at]!;
    if (first === '"') {
      const name = this.#string();
      return desc.values.find((value) => value.name === name)?.number;
    }
    const number =
      first === "{" || first === "[" ? undefined : this.#integer(ScalarType.INT32, this.#token(at));
    if (number === undefined) throw this.#invalid(at, "enum", field);
    this.#at += this.#token(at).length;
    return Number(number);
  }

  #integer(type: ScalarType, text: string): bigint | undefined {
    const value = exactInteger(text);
    const [least, most] = integerLimits[type]!;
    return value === undefined || value < least || value > most ? undefined : value;
  }

  #scalar(field: DescField, type: ScalarType): unknown {
    const at = this.#at;
    const kind = scalarNames[type] ?? "scalar";
    const quoted = this.text[at] === '"';
    switch (type) {
      case ScalarType.STRING:
        if (!quoted) throw this.#invalid(at, kind, field);
        return this.#string();
      case ScalarType.BYTES: {
        const bytes = quoted ? decodeBase64(this.#string()) : undefined;
        if (bytes === undefined) throw this.#invalid(at, kind, field);
        return bytes;
      }
      case ScalarType.BOOL: {
        const token = this.#token(at);
        if (token !== "true" && token !== "false") throw this.#invalid(at, kind, field);
        this.#at += token.length;
        return token === "true";
      }
      default: {
        if (integerLimits[type] === undefined) throw this.#invalid(at, kind, field);
        const token = this.#token(at);
        const value = this.#integer(type, quoted ? this.#string() : token);
        if (value === undefined) throw this.#invalid(at, kind, field);
        if (!quoted) this.#at += token.length;
        return type === ScalarType.INT64 || type === ScalarType.UINT64 ? value : Number(value);
      }
    }
  }
}

/** Reads one complete JSON value as a message. Throws JsonSyntaxError with etcd's words. */
export function readMessage(desc: DescMessage, bytes: Uint8Array): Message {
  const valid = isUtf8(bytes);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new Reader(buffer.toString(valid ? "utf8" : "latin1"), !valid).root(desc);
}
