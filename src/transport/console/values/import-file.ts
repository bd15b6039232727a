/** Files of keys: a JSON object or a line per key, as export and REST write them. */
import { Problem } from "../../rest/problem";
import { optionalBytes, requiredKey } from "../../rest/byte-fields";
import { parseJson } from "../../rest/strict-json";

export interface ImportedKey {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export interface ImportFile {
  readonly keys: readonly ImportedKey[];
  /** False: a file of lines that lacks its last one, which export writes. */
  readonly whole: boolean;
}

/** Keys that one file may have. */
export const importKeysMax = 200_000;
/** A file that is one document is parsed in one go, so it has to be small; lines have no such bound. */
const documentBytesMax = 1024 * 1024;
/** Lines that are read before others may work. */
const sliceLines = 500;
const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads a file. Throws a Problem that says in which place what is wrong. */
export async function readImport(bytes: Uint8Array): Promise<ImportFile> {
  const keys = new Map<string, ImportedKey>();
  const add = (value: unknown, place: string): void => {
    if (!isObject(value)) throw wrong(place, "It is no JSON object.");
    const key = within(place, () => requiredKey(value));
    const content = within(place, () => optionalBytes(value, "value"));
    if (content === undefined) throw wrong(place, '"value" or "value64" is missing.');
    const name = Buffer.from(key).toString("latin1");
    if (keys.has(name)) throw wrong(place, "Its key came before.");
    if (keys.size >= importKeysMax) throw wrong(place, `A file has at most ${importKeysMax} keys.`);
    keys.set(name, { key, value: content });
  };
  const document = documentOf(bytes);
  if (document !== undefined) {
    for (const [at, value] of document.entries()) {
      add(value, `Key ${at + 1}`);
      if (at % sliceLines === sliceLines - 1) await pause();
    }
    return { keys: [...keys.values()], whole: true };
  }
  let whole = false;
  let number = 0;
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(0x0a, start);
    const line = bytes.subarray(start, end === -1 ? bytes.length : end);
    start = end === -1 ? bytes.length : end + 1;
    number++;
    if (number % sliceLines === 0) await pause();
    if (Buffer.from(line).toString("latin1").trim() === "") continue;
    const place = `Line ${number}`;
    if (whole) throw wrong(place, "It stands behind the line that ends the file.");
    const value = within(place, () => parseJson(line));
    if (isObject(value) && value["end"] === true) whole = true;
    else add(value, place);
  }
  return { keys: [...keys.values()], whole };
}

/** The keys of a file that is one JSON document; undefined: it is lines. */
function documentOf(bytes: Uint8Array): readonly unknown[] | undefined {
  const start = Buffer.from(bytes.subarray(0, 4_096)).toString("latin1").trimStart();
  const single = !start.includes("\n") || !/^\{[^\n]*\}\s*\n/.test(start);
  if (!start.startsWith("[") && !/^\{\s*"(?:revision|keys)"/.test(start) && !single) return undefined;
  const document = start.startsWith("[") || /^\{\s*"(?:revision|keys)"/.test(start);
  if (bytes.length > documentBytesMax) {
    if (!document) return undefined;
    throw new Problem("too-large", "A JSON document of keys has at most 1 MiB.", {
      fix: "Export and import as NDJSON, a line per key.",
    });
  }
  let value: unknown;
  try {
    value = parseJson(bytes);
  } catch (error) {
    if (document) throw error;
    return undefined;
  }
  if (Array.isArray(value)) return value as unknown[];
  if (isObject(value) && Array.isArray(value["keys"])) return value["keys"] as unknown[];
  return undefined;
}

function wrong(place: string, what: string): Problem {
  return new Problem("bad-body", `${place}: ${what}`, {
    fix: 'A line is an object with "key" or "key64", and "value" or "value64". Nothing was written.',
  });
}

function within<Result>(place: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    throw error instanceof Problem ? wrong(place, error.message) : error;
  }
}
