/** What a client says in SETTINGS. */
import { ConnectionError } from "./connection-error";
import { errorCode, frameBytesDefault, frameBytesMax, readUint32, setting, windowBytesMax } from "./protocol";

/** Reads the settings in `bytes[start, end)`, whose length is right. Throws for a value out of bounds. */
export function readSettings(
  bytes: Uint8Array,
  start: number,
  end: number,
  hear: (name: number, value: number) => void,
): void {
  for (let at = start; at < end; at += 6) {
    const name = (bytes[at]! << 8) | bytes[at + 1]!;
    const value = readUint32(bytes, at + 2);
    if (name === setting.enablePush && value > 1) {
      throw new ConnectionError(errorCode.protocolError, "ENABLE_PUSH is neither 0 nor 1");
    }
    if (name === setting.initialWindowSize && value > windowBytesMax) {
      throw new ConnectionError(errorCode.flowControlError, "INITIAL_WINDOW_SIZE too large");
    }
    if (name === setting.maxFrameSize && (value < frameBytesDefault || value > frameBytesMax)) {
      throw new ConnectionError(errorCode.protocolError, "MAX_FRAME_SIZE out of range");
    }
    hear(name, value);
  }
}
