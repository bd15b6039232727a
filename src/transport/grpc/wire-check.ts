/**
 * Refuses requests whose fields have the wrong wire type. The decoder does not look at it and would read other
 * bytes as a key; etcd refuses such a message, and so do we, in the same words.
 */
import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";

const varint = 0;
const fixed64 = 1;
const lengthDelimited = 2;
const fixed32 = 5;

/** Nesting beyond this is refused; real requests have a handful of levels. */
const nestingMax = 100;

interface FieldRule {
  readonly name: string;
  readonly wireType: number;
  /** A repeated number may come packed. */
  readonly packable: boolean;
  readonly message: MessageRules | undefined;
}

interface MessageRules {
  readonly name: string;
  readonly fields: (FieldRule | undefined)[];
}

const rulesOf = new Map<string, MessageRules>();

function rulesFor(schema: DescMessage): MessageRules {
  const known = rulesOf.get(schema.typeName);
  if (known !== undefined) return known;
  const rules: MessageRules = { name: schema.name, fields: [] };
  // Before its fields: a transaction holds transactions.
  rulesOf.set(schema.typeName, rules);
  for (const field of schema.fields) rules.fields[field.number] = ruleFor(field);
  return rules;
}

function ruleFor(field: DescField): FieldRule {
  const scalar =
    field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar")
      ? field.scalar
      : undefined;
  const isMessage =
    field.fieldKind === "message" || (field.fieldKind === "list" && field.listKind === "message");
  const wireType =
    field.fieldKind === "map" || isMessage
      ? lengthDelimited
      : scalar === undefined
        ? varint
        : scalarWireType(scalar);
  return {
    name: field.localName[0]!.toUpperCase() + field.localName.slice(1),
    wireType,
    packable: field.fieldKind === "list" && wireType !== lengthDelimited,
    message: isMessage ? rulesFor(field.message) : undefined,
  };
}

function scalarWireType(scalar: ScalarType): number {
  switch (scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return lengthDelimited;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return fixed64;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return fixed32;
    default:
      return varint;
  }
}

/** Returns what is wrong with an encoded message, in the words of etcd's decoder, or undefined. */
export function wireProblem(schema: DescMessage, bytes: Uint8Array): string | undefined {
  return problemIn(rulesFor(schema), bytes, 0, bytes.length, 0);
}

function problemIn(
  rules: MessageRules,
  bytes: Uint8Array,
  start: number,
  end: number,
  depth: number,
): string | undefined {
  if (depth > nestingMax) return "proto: exceeded max recursion depth";
  let at = start;
  while (at < end) {
    let tag = bytes[at++]!;
    if (tag > 0x7f) {
      tag &= 0x7f;
      for (let shift = 7; ; shift += 7) {
        if (at >= end) return "unexpected EOF";
        if (shift > 28) return "proto: integer overflow";
        const byte = bytes[at++]!;
        tag += (byte & 0x7f) * 2 ** shift;
        if (byte < 0x80) break;
      }
    }
    const wireType = tag & 7;
    const number = Math.floor(tag / 8);
    if (number <= 0 || number > 0x1fff_ffff)
      return `proto: ${rules.name}: illegal tag ${number} (wire type ${wireType})`;
    const rule = rules.fields[number];
    if (
      rule !== undefined &&
      wireType !== rule.wireType &&
      !(rule.packable && wireType === lengthDelimited)
    ) {
      return `proto: wrong wireType = ${wireType} for field ${rule.name}`;
    }
    switch (wireType) {
      case varint: {
        const last = at + 10;
        while (at < end && at < last && bytes[at]! > 0x7f) at++;
        if (at >= last) return "proto: integer overflow";
        at++;
        break;
      }
      case fixed64:
        at += 8;
        break;
      case fixed32:
        at += 4;
        break;
      case lengthDelimited: {
        let length = 0;
        for (let shift = 0; ; shift += 7) {
          if (at >= end) return "unexpected EOF";
          if (shift > 35) return "proto: integer overflow";
          const byte = bytes[at++]!;
          length += (byte & 0x7f) * 2 ** shift;
          if (byte < 0x80) break;
        }
        if (length > end - at) return "unexpected EOF";
        if (rule?.message !== undefined) {
          const problem = problemIn(rule.message, bytes, at, at + length, depth + 1);
          if (problem !== undefined) return problem;
        }
        at += length;
        break;
      }
      default:
        // Groups were never used by a client of etcd.
        return `proto: illegal wireType ${wireType}`;
    }
    if (at > end) return "unexpected EOF";
  }
  return undefined;
}
