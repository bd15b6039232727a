/** Which keys a query means: those with a prefix, or those from one key up to another. */
import { prefixRangeEnd } from "../../bytes";
import { base64Parameter, either, textParameter } from "./parameters";
import { Problem } from "./problem";

/** A range as the store takes it; one zero byte as its end means "to the end". */
export interface KeyRangeBounds {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  /** Both ends were said, and not by an empty text. */
  readonly bounded: boolean;
}

/** The smallest key, and as an end: everything. */
const zero = Uint8Array.of(0);

export const rangeParameters = {
  prefix: textParameter("Keys that begin with this text."),
  prefix64: base64Parameter("Keys that begin with these bytes."),
  from: textParameter("Keys from this one on, itself included."),
  from64: base64Parameter("The same in base64url."),
  to: textParameter("Keys below this one.", "z"),
  to64: base64Parameter("The same in base64url.", "eg"),
} as const;

type RangeQuery = Partial<Record<keyof typeof rangeParameters, Uint8Array | undefined>>;

/** Reads a range from a query; without any bound it is everything. Throws a Problem. */
export function rangeOf(query: RangeQuery): KeyRangeBounds {
  const prefix = either(query, "prefix");
  const from = either(query, "from");
  const to = either(query, "to");
  if (prefix !== undefined) {
    if (from !== undefined || to !== undefined) {
      throw new Problem("bad-parameter", "Give a prefix, or from and to, not both.");
    }
    if (prefix.length === 0) return { key: zero, rangeEnd: zero, bounded: false };
    return { key: prefix, rangeEnd: prefixRangeEnd(prefix), bounded: true };
  }
  if (to?.length === 0) throw new Problem("bad-parameter", "`to` is empty: no key lies below it.");
  // The one-byte end 0x00 would mean "to the end"; no key lies below it.
  if (to !== undefined && to.length === 1 && to[0] === 0) {
    throw new Problem("bad-parameter", "`to` is the smallest key: no key lies below it.");
  }
  return {
    key: from === undefined || from.length === 0 ? zero : from,
    rangeEnd: to ?? zero,
    bounded: from !== undefined && from.length > 0 && to !== undefined,
  };
}
