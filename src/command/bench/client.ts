/** Connections to the endpoints, and the few calls that are not measured. */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";

import { RangeRequestSchema, RangeResponseSchema } from "../../proto/gen/etcd/rpc_pb";
import { Connection, type Target } from "./http2/connection";
import { methodPaths } from "./requests";

/** A call that was answered with an error. */
export class CallFailed extends Error {
  override readonly name = "CallFailed";

  constructor(
    readonly code: number,
    readonly text: string,
  ) {
    super(`${codeName(code)}: ${text}`);
  }
}

const codeNames = [
  "OK",
  "Canceled",
  "Unknown",
  "InvalidArgument",
  "DeadlineExceeded",
  "NotFound",
  "AlreadyExists",
  "PermissionDenied",
  "ResourceExhausted",
  "FailedPrecondition",
  "Aborted",
  "OutOfRange",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss",
  "Unauthenticated",
] as const;

/** gRPC's name of a status code. */
export function codeName(code: number): string {
  return codeNames[code] ?? `code ${code}`;
}

/** Opens `count` connections, spread over the targets. */
export function openConnections(targets: readonly Target[], count: number): Promise<Connection[]> {
  return Promise.all(Array.from({ length: count }, (_, i) => Connection.open(targets[i % targets.length]!)));
}

/** One call with messages instead of bytes; rejects with {@link CallFailed}. */
export function callOnce<Input extends DescMessage, Output extends DescMessage>(
  connection: Connection,
  path: string,
  input: Input,
  message: MessageShape<Input>,
  output: Output,
): Promise<MessageShape<Output>> {
  return new Promise((resolve, reject) => {
    let answer: MessageShape<Output> | undefined;
    connection.call(path, toBinary(input, message), {
      message: (bytes) => {
        answer = fromBinary(output, bytes);
      },
      end: (code, text) => {
        if (code !== 0) reject(new CallFailed(code, text));
        else if (answer === undefined) reject(new CallFailed(13, "no answer before the status"));
        else resolve(answer);
      },
    });
  });
}

/** The store's revision, by a linearizable read. */
export async function storeRevision(connection: Connection): Promise<bigint> {
  const request = create(RangeRequestSchema, { key: Buffer.from("\0keelson-bench"), countOnly: true });
  const answer = await callOnce(
    connection,
    methodPaths.range,
    RangeRequestSchema,
    request,
    RangeResponseSchema,
  );
  if (answer.header === undefined) throw new CallFailed(13, "the answer has no header");
  return answer.header.revision;
}
