/** What a parameter of a path or query may hold: one place for reading it and for saying so in the document. */
import { Type, type TSchema } from "@sinclair/typebox";
import { utf8Text } from "./byte-fields";
import { Problem } from "./problem";
import { base64UrlDecode } from "./target";

export interface Parameter<Value> {
  readonly schema: TSchema;
  readonly description: string;
  readonly example?: string;
  /** Reads the decoded bytes. Throws a Problem that names the parameter. */
  read(bytes: Uint8Array, name: string): Value;
}

function bad(name: string, wanted: string): never {
  throw new Problem("bad-parameter", `The parameter ${JSON.stringify(name)} must be ${wanted}.`);
}

const int64Max = (1n << 63n) - 1n;

/** A decimal 64-bit number from `min` to `max`. */
export function decimal(description: string, min = 0n, max = int64Max): Parameter<bigint> {
  return {
    schema: Type.String({ pattern: "^(0|[1-9][0-9]{0,18})$", format: "int64" }),
    description,
    example: String(min > 1n ? min : 1n),
    read(bytes, name) {
      const text = Buffer.from(bytes).toString("latin1");
      const value = /^(?:0|[1-9]\d{0,18})$/.test(text) ? BigInt(text) : -1n;
      return value < min || value > max ? bad(name, `a decimal number from ${min} to ${max}`) : value;
    },
  };
}

/** A small integer. */
export function integer(description: string, min: number, max: number): Parameter<number> {
  return {
    schema: Type.Integer({ minimum: min, maximum: max }),
    description,
    example: String(Math.max(min, Math.min(10, max))),
    read(bytes, name) {
      const text = Buffer.from(bytes).toString("latin1");
      const value = /^(?:0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN;
      return value >= min && value <= max ? value : bad(name, `an integer from ${min} to ${max}`);
    },
  };
}

/** True when given without a value or as "true". */
export function flag(description: string): Parameter<boolean> {
  return {
    schema: Type.Union([Type.Literal("true"), Type.Literal("false"), Type.Literal("")]),
    description,
    example: "true",
    read(bytes, name) {
      const text = Buffer.from(bytes).toString("latin1");
      if (text === "" || text === "true") return true;
      return text === "false" ? false : bad(name, "true or false");
    },
  };
}

export function choice<const Word extends string>(
  words: readonly Word[],
  description: string,
): Parameter<Word> {
  return {
    schema: Type.Union(words.map((word) => Type.Literal(word))),
    description,
    ...(words[0] === undefined ? {} : { example: words[0] }),
    read(bytes, name) {
      const text = Buffer.from(bytes).toString("latin1");
      return words.find((word) => word === text) ?? bad(name, `one of ${words.join(", ")}`);
    },
  };
}

/** A lease's or member's id: up to 16 hexadecimal digits. Zero is nobody's. */
export function hexId(description: string, bits: 63 | 64): Parameter<bigint> {
  return {
    schema: Type.String({ pattern: "^[0-9a-fA-F]{1,16}$" }),
    description,
    example: "694d71ddacfda227",
    read(bytes, name) {
      const text = Buffer.from(bytes).toString("latin1");
      const id = /^[0-9a-fA-F]{1,16}$/.test(text) ? BigInt(`0x${text}`) : 0n;
      if (id === 0n || id >= 1n << BigInt(bits)) return bad(name, "an id of up to 16 hexadecimal digits");
      return id;
    },
  };
}

/** Bytes that are valid UTF-8. */
export function textParameter(description: string, example = "a"): Parameter<Uint8Array> {
  return {
    schema: Type.String(),
    description,
    example,
    read(bytes, name) {
      if (utf8Text(bytes) !== undefined) return bytes;
      throw new Problem("bad-parameter", `The parameter ${JSON.stringify(name)} is not valid UTF-8.`, {
        fix: `Send the bytes as ${name}64, in base64url.`,
      });
    },
  };
}

export function base64Parameter(description: string, example = "YQ"): Parameter<Uint8Array> {
  return {
    schema: Type.String({ pattern: "^[A-Za-z0-9_-]*={0,2}$" }),
    description,
    example,
    read: (bytes, name) => base64UrlDecode(Buffer.from(bytes).toString("latin1")) ?? bad(name, "base64url"),
  };
}

/** Printable ASCII up to a length. */
export function word(description: string, pattern: string, example: string): Parameter<string> {
  const expression = new RegExp(pattern);
  return {
    schema: Type.String({ pattern }),
    description,
    example,
    read(bytes, name) {
      const text = Buffer.from(bytes).toString("latin1");
      return expression.test(text) ? text : bad(name, `text of the form ${pattern}`);
    },
  };
}

/** One of two parameters that say the same bytes; undefined when neither is there. Throws when both are. */
export function either<Name extends string>(
  query: Readonly<Partial<Record<Name | `${Name}64`, Uint8Array | undefined>>>,
  name: Name,
): Uint8Array | undefined {
  const text = query[name];
  const coded = query[`${name}64`];
  if (text !== undefined && coded !== undefined) {
    throw new Problem("bad-parameter", `Give ${name} or ${name}64, not both.`);
  }
  return text ?? coded;
}
