/** JSON shapes that several operations share. */
import {
  Type,
  type TObject,
  type TOptional,
  type TProperties,
  type TSchema,
  type TString,
} from "@sinclair/typebox";

export const Decimal = Type.String({
  pattern: "^[0-9]{1,19}$",
  description: "A 64-bit number as decimal text, because JSON readers round large numbers.",
});
export const HexId = Type.String({
  pattern: "^[0-9a-f]{16}$",
  description: "A 64-bit id as 16 hexadecimal digits.",
});
/** Ids in requests may leave out leading zeros. */
export const HexIdIn = Type.String({
  pattern: "^[0-9a-fA-F]{1,16}$",
  description: "An id of up to 16 hexadecimal digits.",
});

/** An object that takes no other names. */
export function strict<Properties extends TProperties>(
  properties: Properties,
  options: Record<string, unknown> = {},
): TObject<Properties> {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

/** The two properties under which bytes stand; the object says that exactly one of them is there. */
export const bytesProperties = <Name extends string>(name: Name, what: string) =>
  ({
    [name]: Type.Optional(Type.String({ description: `${what}, as text when it is valid UTF-8.` })),
    [`${name}64`]: Type.Optional(
      Type.String({ description: `${what} in base64url, when it is no valid UTF-8.` }),
    ),
  }) as { [Key in Name | `${Name}64`]: TOptional<TString> };

/** Exactly one of each pair. */
export function exactlyOne(...names: readonly string[]): { allOf: readonly { oneOf: readonly object[] }[] } {
  return {
    allOf: names.map((name) => ({ oneOf: [{ required: [name] }, { required: [`${name}64`] }] })),
  };
}

/** A key's metadata; with its value where it was asked for. */
export const KeyMetadata = strict(
  {
    ...bytesProperties("key", "The key"),
    createRevision: Decimal,
    modRevision: Decimal,
    version: Decimal,
    lease: Type.Optional(HexId),
  },
  exactlyOne("key"),
);
export const KeyValueShape = strict(
  {
    ...bytesProperties("key", "The key"),
    ...bytesProperties("value", "The value"),
    createRevision: Decimal,
    modRevision: Decimal,
    version: Decimal,
    lease: Type.Optional(HexId),
  },
  exactlyOne("key"),
);

/** A problem document (RFC 9457). */
export const ProblemShape = Type.Object({
  type: Type.String({ description: "urn:keelson:problem: and the kind of the problem." }),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  fix: Type.String({ description: "What to do about it." }),
  requestId: Type.String(),
  etcd: Type.Optional(
    Type.Object(
      { code: Type.Integer(), message: Type.String() },
      { description: "The gRPC code and the text that etcd's clients know it by." },
    ),
  ),
  outcome: Type.Optional(
    Type.Union([Type.Literal("not-applied"), Type.Literal("unknown")], {
      description: "For writes: whether it certainly had no effect, or may have happened.",
    }),
  ),
  current: Type.Optional(
    Type.Union([KeyMetadata, Type.Null()], {
      description: "The key as it is now; null when it does not exist.",
    }),
  ),
  oldestRevision: Type.Optional(Decimal),
}) satisfies TSchema;
