/** How figures and bytes are written for people. */

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

export interface Measured {
  readonly value: string;
  readonly unit: string;
}

/** Bytes with three digits that count: 1.23 MiB, 45.6 GiB. */
export function bytesOf(count: number): Measured {
  let value = Math.abs(count);
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit++;
  }
  return {
    value: `${count < 0 ? "−" : ""}${digits(unit === 0 ? Math.round(value) : value, unit === 0 ? 0 : 2)}`,
    unit: units[unit]!,
  };
}

function digits(value: number, decimalsMax: number): string {
  const decimals = value >= 100 ? 0 : value >= 10 ? Math.min(1, decimalsMax) : decimalsMax;
  return value.toFixed(decimals);
}

/** A whole number with thin spaces between thousands. */
export function countOf(count: number | bigint): string {
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, "\u{202f}");
}

/** A short time: 0.42 ms, 12 ms, 3.1 s. */
export function millisecondsOf(ms: number): Measured {
  if (ms < 0.995) return { value: ms.toFixed(2), unit: "ms" };
  if (ms < 9.95) return { value: ms.toFixed(1), unit: "ms" };
  if (ms < 999.5) return { value: String(Math.round(ms)), unit: "ms" };
  return ms < 99_950 ? { value: (ms / 1_000).toFixed(1), unit: "s" } : spanOf(ms);
}

/** How long something has lasted: 5 s, 12 min, 3 h 20 min, 4 d 6 h. */
export function spanOf(ms: number): Measured {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return { value: String(seconds), unit: "s" };
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return { value: String(minutes), unit: "min" };
  const hours = Math.floor(minutes / 60);
  if (hours < 24)
    return {
      value: minutes % 60 === 0 ? String(hours) : `${hours} h ${minutes % 60}`,
      unit: minutes % 60 === 0 ? "h" : "min",
    };
  const days = Math.floor(hours / 24);
  return hours % 24 === 0 || days >= 10
    ? { value: String(days), unit: "d" }
    : { value: `${days} d ${hours % 24}`, unit: "h" };
}

export function written({ value, unit }: Measured): string {
  return unit === "" ? value : `${value} ${unit}`;
}

/** "3 keys", "1 key". */
export function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${countOf(count)} ${count === 1 ? noun : nouns}`;
}

/** Text shortened in the middle, so that both ends can be told apart. */
export function shortened(text: string, charactersMax: number): string {
  const characters = [...text];
  if (characters.length <= charactersMax) return text;
  const left = Math.ceil((charactersMax - 1) / 2);
  return `${characters.slice(0, left).join("")}…${characters.slice(characters.length - (charactersMax - 1 - left)).join("")}`;
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of bytes; undefined when they are not UTF-8. */
export function textOfBytes(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A run of characters that show themselves, or one that has to be named. */
export interface Piece {
  readonly text: string;
  /** It stands for a character or byte that cannot be seen, or that changes how others are seen. */
  readonly named: boolean;
}

/** Controls, what directs or joins text unseen, unusual spaces, and characters that nobody has assigned. */
const unseen = /(?! )[\p{Cc}\p{Cf}\p{Z}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]/u;

/**
 * Bytes as text in which nothing hides: controls and direction marks as ⟨U+202E⟩, bytes that are no UTF-8 as ⟨FF⟩.
 * With `lines`, tabs and line feeds stay as they are.
 */
export function piecesOf(bytes: Uint8Array, lines = false): Piece[] {
  const pieces: Piece[] = [];
  let plain = "";
  const name = (text: string): void => {
    if (plain !== "") pieces.push({ text: plain, named: false });
    plain = "";
    pieces.push({ text, named: true });
  };
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at);
    const character = length === 0 ? undefined : textOfBytes(bytes.subarray(at, at + length));
    if (character === undefined) {
      name(bytes[at]!.toString(16).toUpperCase().padStart(2, "0"));
      at++;
      continue;
    }
    if (lines && (character === "\n" || character === "\t")) plain += character;
    else if (unseen.test(character)) {
      name(`U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`);
    } else plain += character;
    at += length;
  }
  if (plain !== "") pieces.push({ text: plain, named: false });
  return pieces;
}

/** How many bytes a character takes by its first one; 0 when none begins so. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if (first < 0x80) return 1;
  const length =
    first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? (first < 0xf0 ? 3 : 0) : first >= 0xc2 ? 2 : 0;
  return at + length <= bytes.length ? length : 0;
}
