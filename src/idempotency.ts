/** A client's promise that requests under one key are one and the same request. */
export interface Idempotency {
  readonly key: Uint8Array;
  /** SHA-256 of everything that the request asks for. */
  readonly requestHash: Uint8Array;
}
