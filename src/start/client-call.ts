/** One gRPC call to a member's client port, for a process that wants to join its cluster. */
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { fromBinary, toBinary, type DescMethodUnary, type MessageShape } from "@bufbuild/protobuf";
import { GrpcCode, StoreError } from "../errors";

const frameHeaderBytes = 5;
const answerBytesMax = 4 * 1024 ** 2;

/**
 * Resolves with the answer; rejects with a `StoreError` that carries the status of the other side, or with code
 * `unavailable` when it could not be reached or did not answer in time: then the call may still have an effect.
 */
export function callMember<Method extends DescMethodUnary>(
  url: string,
  method: Method,
  request: MessageShape<Method["input"]>,
  timeoutMs: number,
): Promise<MessageShape<Method["output"]>> {
  const { promise, resolve, reject } = Promise.withResolvers<MessageShape<Method["output"]>>();
  let session: ClientHttp2Session | undefined;
  const lost = (reason: string) => {
    reject(new StoreError(GrpcCode.unavailable, reason, false));
  };
  const timer = setTimeout(() => {
    lost(`no answer within ${timeoutMs} ms`);
    session?.destroy();
  }, timeoutMs);
  const settled = promise.finally(() => {
    clearTimeout(timer);
    session?.destroy();
  });
  try {
    session = connect(url);
    session.on("error", (error) => lost(error.message));
    session.on("close", () => lost("the connection was closed"));
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: `/${method.parent.typeName}/${method.name}`,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
      [constants.HTTP2_HEADER_TE]: "trailers",
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    let status: Readonly<Record<string, unknown>> = {};
    stream.on("response", (headers) => (status = { ...status, ...headers }));
    stream.on("trailers", (headers) => (status = { ...status, ...headers }));
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= answerBytesMax) chunks.push(chunk);
    });
    stream.on("error", (error) => lost(error.message));
    stream.on("close", () => {
      const code = status["grpc-status"];
      if (code === undefined) return lost("it does not answer as a member does");
      try {
        if (Number(code) !== 0) {
          const text = decodeURIComponent(String(status["grpc-message"] ?? ""));
          return reject(new StoreError(Number(code) as GrpcCode, text));
        }
        const message = fromBinary(method.output, Buffer.concat(chunks).subarray(frameHeaderBytes));
        resolve(message as MessageShape<Method["output"]>);
      } catch (error) {
        lost(`its answer cannot be read: ${String(error)}`);
      }
    });
    const body = toBinary(method.input, request);
    const frame = Buffer.alloc(frameHeaderBytes + body.length);
    frame.writeUInt32BE(body.length, 1);
    frame.set(body, frameHeaderBytes);
    stream.end(frame);
  } catch (error) {
    lost(String(error));
  }
  return settled;
}
