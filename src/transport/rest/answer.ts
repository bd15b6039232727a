/** What an operation answers with: plain data, or a body that is written as it comes. */

/** The receiving end of a streamed body. */
export interface BodyWriter {
  /** Queues a piece; false means that the client does not keep up: wait for `drained` before writing more. */
  write(piece: string | Uint8Array): boolean;
  /** Resolves when more may be written, or the client is gone. */
  drained(): Promise<void>;
  /** The client is gone, or the server stops: nothing more arrives. */
  readonly over: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Absent: no content. A function writes the body; when it rejects, the connection is reset. */
  readonly body?: string | Uint8Array | ((writer: BodyWriter) => Promise<void>);
}

export const jsonHeaders = { "content-type": "application/json", "cache-control": "no-cache" } as const;

/** A JSON answer; bigints become decimal strings. */
export function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, headers: { ...jsonHeaders, ...headers }, body: jsonText(value) };
}

/** 64-bit numbers are decimal strings, because a JSON number above 2^53 is read as another one. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, (_key, field: unknown) =>
    typeof field === "bigint" ? field.toString() : field,
  );
}
