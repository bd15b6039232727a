/** Large values shown so that nothing hides in them, quickly; and how keys are written in one line of text. */
import { type Piece, piecesOf } from "../text";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** As in text.ts, but line feeds and tabs are what they are. */
const unseen = /(?![ \n\t])[\p{Cc}\p{Cf}\p{Z}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]/gu;

/** Bytes that are no text are named one by one, which costs much more. */
const namedBytesMax = 8 * 1024;

/** The first bytes of a value as pieces, and how many bytes they are. */
export function visible(
  value: Uint8Array,
  bytesMax: number,
): { readonly pieces: readonly Piece[]; readonly bytes: number } {
  let bytes = Math.min(value.length, bytesMax);
  // Not in the middle of a character.
  while (bytes < value.length && bytes > 0 && (value[bytes]! & 0xc0) === 0x80) bytes--;
  let text: string;
  try {
    text = strictUtf8.decode(value.subarray(0, bytes));
  } catch {
    bytes = Math.min(bytes, namedBytesMax);
    return { pieces: piecesOf(value.subarray(0, bytes), true), bytes };
  }
  const pieces: Piece[] = [];
  let at = 0;
  for (const found of text.matchAll(unseen)) {
    if (found.index > at) pieces.push({ text: text.slice(at, found.index), named: false });
    const name = `U+${found[0].codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
    pieces.push({ text: name, named: true });
    at = found.index + found[0].length;
  }
  if (at < text.length) pieces.push({ text: text.slice(at), named: false });
  return { pieces, bytes };
}

/** Bytes as one line of text, in which nothing hides: for titles and sentences. */
export function plainLine(bytes: Uint8Array, bytesMax = 200): string {
  const text = piecesOf(bytes.subarray(0, bytesMax))
    .map((piece) => (piece.named ? `⟨${piece.text}⟩` : piece.text))
    .join("");
  return bytes.length > bytesMax ? `${text}…` : text;
}

/** Text that a text field can hold and give back; undefined for other bytes. */
export function fieldText(bytes: Uint8Array): string | undefined {
  const pieces = piecesOf(bytes);
  return pieces.some(({ named }) => named) ? undefined : pieces.map(({ text }) => text).join("");
}
