/** Frames that say something about a stream or the connection, put into the output. */
import type { Output } from "./output";
import { frameType, writeUint32 } from "./protocol";

const pingPayload = Buffer.from("keelson?", "latin1");

export function writeSettings(
  output: Output,
  settings: readonly (readonly [name: number, value: number])[],
): void {
  output.frame(6 * settings.length, frameType.settings, 0, 0);
  for (const [name, value] of settings) {
    output.append(Buffer.of(0, name));
    appendUint32(output, value);
  }
}

export function writePing(output: Output): void {
  output.frame(pingPayload.length, frameType.ping, 0, 0);
  output.append(pingPayload);
}

export function writeWindowUpdate(output: Output, id: number, bytes: number): void {
  output.frame(4, frameType.windowUpdate, 0, id);
  appendUint32(output, bytes);
}

export function writeReset(output: Output, id: number, code: number): void {
  output.frame(4, frameType.resetStream, 0, id);
  appendUint32(output, code);
}

export function writeGoAway(output: Output, lastId: number, code: number, reason: string): void {
  const text = Buffer.from(reason, "latin1");
  output.frame(8 + text.length, frameType.goAway, 0, 0);
  appendUint32(output, lastId);
  appendUint32(output, code);
  output.append(text);
}

function appendUint32(output: Output, value: number): void {
  writeUint32(output.buffer, output.end, value);
  output.end += 4;
}
