/** What ends a connection (RFC 9113 5.4.1). */
import { errorCode } from "./protocol";

/** Ends the connection with GOAWAY and this code. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

export function requireStream(id: number, what: string): void {
  if (id === 0) throw new ConnectionError(errorCode.protocolError, `${what} on stream 0`);
}

export function requireNoStream(id: number, what: string): void {
  if (id !== 0) throw new ConnectionError(errorCode.protocolError, `${what} on a stream`);
}

export function requireLength(right: boolean, what: string): void {
  if (!right) throw new ConnectionError(errorCode.frameSizeError, `${what} of a wrong length`);
}
