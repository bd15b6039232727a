/**
 * Values in a text area and back, to the byte. Browsers turn every line end of a text area into CR LF when they send
 * it, so the form says which one the value has, and values that have several kinds are not edited as text.
 */

/** How a text ends its lines. New lines in a text without any are LF. */
export type LineEnds = "lf" | "crlf" | "none";

export type Editable =
  | { readonly editable: true; readonly text: string; readonly lineEnds: LineEnds }
  /** One sentence that says why not. */
  | { readonly editable: false; readonly reason: string };

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** As much as a text area takes; larger values are edited elsewhere and uploaded. */
export const editableBytesMax = 1024 * 1024;

/** What a text area would show of a value, if it can show all of it. */
export function editableText(value: Uint8Array): Editable {
  const no = (reason: string): Editable => ({ editable: false, reason });
  if (value.length > editableBytesMax) return no("It is larger than 1 MiB.");
  if (value.includes(0)) return no("It has NUL bytes, which no text field can hold.");
  let text: string;
  try {
    text = strictUtf8.decode(value);
  } catch {
    return no("It is not UTF-8 text.");
  }
  const crlf = text.split("\r\n").length - 1;
  const cr = text.split("\r").length - 1;
  const lf = text.split("\n").length - 1;
  if (cr > crlf) return no("It has carriage returns without a line feed, which a text field would change.");
  if (crlf > 0 && lf > crlf) {
    return no("Its lines end in two ways, LF and CR LF, which a text field would make one.");
  }
  const lineEnds = crlf > 0 ? "crlf" : lf > 0 ? "lf" : "none";
  return { editable: true, text: text.replaceAll("\r\n", "\n"), lineEnds };
}

/** The style that a form names; LF when it names none. */
export function lineEndsOf(text: string | undefined): LineEnds {
  return text === "crlf" || text === "none" ? text : "lf";
}

/** The bytes that a sent text area means. */
export function valueOfText(sent: Uint8Array, lineEnds: LineEnds): Uint8Array {
  // Bytes, not text: what is no UTF-8 is the sender's business.
  const text = Buffer.from(sent).toString("latin1").replace(/\r\n?/g, "\n");
  return Buffer.from(lineEnds === "crlf" ? text.replaceAll("\n", "\r\n") : text, "latin1");
}
