/**
 * The one codec for payloads at rest: database rows and log records. The first byte names the key that the
 * rest is sealed with, so that encryption at rest can come later without a new format. Key 0 is no key: the
 * payload follows as it is.
 */

/** The key id of payloads that are stored as they are. */
export const plainKeyId = 0;
/** How much longer a sealed payload is than its content, in bytes. */
export const sealOverheadBytes = 1;

/** A stored payload that this build has no key for, or that is no sealed payload at all. */
export class SealError extends Error {
  override readonly name = "SealError";
}

/** Seals a payload for storage; copies it once. */
export function seal(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const sealed = new Uint8Array(payload.length + sealOverheadBytes);
  sealed.set(payload, sealOverheadBytes);
  return sealed;
}

/** Seals a payload into a buffer with room for it at `offset`; returns the offset behind it. For hot paths. */
export function sealInto(target: Uint8Array, offset: number, payload: Uint8Array): number {
  target[offset] = plainKeyId;
  target.set(payload, offset + sealOverheadBytes);
  return offset + sealOverheadBytes + payload.length;
}

/**
 * The content of a sealed payload: a view of the bytes handed in, never a copy.
 * @throws {SealError} when it is sealed with a key that this build does not have.
 */
export function open(sealed: Uint8Array): Uint8Array {
  const keyId = sealed[0];
  if (keyId !== plainKeyId) throw unknownKey(keyId);
  return sealed.subarray(sealOverheadBytes);
}

function unknownKey(keyId: number | undefined): SealError {
  return keyId === undefined
    ? new SealError("a stored payload is empty: not even its key id is there; the data directory is damaged")
    : new SealError(
        `a stored payload is sealed with key ${keyId}, which this build does not know; ` +
          "start the version that wrote the data directory, or a newer one",
      );
}
