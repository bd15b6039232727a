/** Where the next page of a list begins: the revision that all pages share, the place, and which query it was. */
import type { Revision } from "../../ids";
import { Problem } from "./problem";

export interface Cursor {
  readonly revision: Revision;
  /** The last key that was looked at; undefined for sorted lists. */
  readonly lastKey: Uint8Array | undefined;
  /** Keys of a sorted list that earlier pages had. */
  readonly skipped: number;
  /** Keys in the whole range, as the first page counted them. */
  readonly count: number;
}

/** As text for a URL, bound to a hash of the query. */
export function encodeCursor(cursor: Cursor, queryHash: string): string {
  const key = cursor.lastKey === undefined ? "" : Buffer.from(cursor.lastKey).toString("base64url");
  const parts = [cursor.revision, cursor.skipped, cursor.count, queryHash, key];
  return Buffer.from(parts.join(" ")).toString("base64url");
}

/** Reads a cursor. Throws a Problem when it is none, or of another query. */
export function decodeCursor(text: string, queryHash: string): Cursor {
  const plain = Buffer.from(text, "base64url").toString("latin1");
  const found = /^(\d{1,16}) (\d{1,16}) (\d{1,16}) ([\w-]{16}) ([\w-]*)$/.exec(plain);
  if (found === null) throw new Problem("bad-parameter", "The cursor is not one of this API.");
  const [, revision, skipped, count, hash, key] = found;
  if (hash !== queryHash) {
    throw new Problem("bad-parameter", "The cursor belongs to another query.", {
      fix: "Repeat the query of the first page, with the cursor added.",
    });
  }
  const numbers = [Number(revision), Number(skipped), Number(count)];
  if (!numbers.every(Number.isSafeInteger) || numbers[0]! < 1) {
    throw new Problem("bad-parameter", "The cursor is not one of this API.");
  }
  return {
    revision: numbers[0]!,
    skipped: numbers[1]!,
    count: numbers[2]!,
    lastKey: key === "" ? undefined : Buffer.from(key!, "base64url"),
  };
}
