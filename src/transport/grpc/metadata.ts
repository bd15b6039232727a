/** What gRPC puts into HTTP/2 headers: content type, timeout, status message, metadata. */
import { timeoutUnitMs } from "../timeout-units";

/**
 * The content type to answer with, or undefined when the request is no gRPC. "application/grpc;x" is answered as
 * "application/grpc+x", as grpc-go does.
 */
export function grpcContentType(value: string | undefined): string | undefined {
  if (value === "application/grpc") return value;
  if (value === undefined || !value.startsWith("application/grpc")) return undefined;
  const mark = value[16];
  return mark === "+" || mark === ";" ? `application/grpc+${value.slice(17)}` : undefined;
}

/** Milliseconds of a `grpc-timeout` ("5S", "100m"): at most eight digits and a unit. A string says what is wrong. */
export function parseTimeoutMs(text: string): number | string {
  if (text.length < 2)
    return `malformed grpc-timeout: transport: timeout string is too short: ${JSON.stringify(text)}`;
  if (text.length > 9)
    return `malformed grpc-timeout: transport: timeout string is too long: ${JSON.stringify(text)}`;
  const unit = timeoutUnitMs[text[text.length - 1]!];
  if (unit === undefined) {
    return `malformed grpc-timeout: transport: timeout unit is not recognized: ${JSON.stringify(text)}`;
  }
  const digits = text.slice(0, -1);
  if (!/^[0-9]+$/.test(digits)) {
    return `malformed grpc-timeout: strconv.ParseUint: parsing ${JSON.stringify(digits)}: invalid syntax`;
  }
  return Number(digits) * unit;
}

const plainMessage = /^[\x21-\x24\x26-\x7e]([\x20-\x24\x26-\x7e]*[\x21-\x24\x26-\x7e])?$/;

/**
 * `grpc-message`: UTF-8, with everything but printable ASCII percent-encoded. A space at either end is encoded
 * as well, because HTTP/2 receivers drop such fields.
 */
export function encodeGrpcMessage(text: string): string {
  if (plainMessage.test(text)) return text;
  const bytes = Buffer.from(text, "utf8");
  let encoded = "";
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    const edge = i === 0 || i === bytes.length - 1;
    encoded +=
      byte > 0x20 && byte < 0x7f && byte !== 0x25
        ? String.fromCharCode(byte)
        : byte === 0x20 && !edge
          ? " "
          : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return encoded;
}

// oxlint-disable-next-line no-control-regex
const ascii = /^[\x00-\x7f]*$/;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** Whether the bytes of a header value are UTF-8. The HTTP/2 layer shows each byte as one latin1 character. */
export function isUtf8(value: string): boolean {
  if (ascii.test(value)) return true;
  try {
    strictUtf8.decode(Buffer.from(value, "latin1"));
    return true;
  } catch {
    return false;
  }
}
