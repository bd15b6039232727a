/** All keys of a range with their values, at one revision, in pieces. */
import { create } from "@bufbuild/protobuf";
import type { KeyValue } from "../../../../proto/gen/etcd/kv_pb";
import { KV, RangeRequestSchema, RangeStreamResponseSchema } from "../../../../proto/gen/etcd/rpc_pb";
import { RestCall } from "../../../rest/call";
import { PullStream } from "../../../rest/pull-stream";
import type { ConsoleServices } from "../../page";
import type { Range } from "./store";

/** Reads no faster than it is asked. Throws `compacted` and `futureRev` at the first key. */
export async function* keysOf(
  { kv }: ConsoleServices,
  range: Range,
  revision: number,
): AsyncGenerator<KeyValue, void> {
  const call = new RestCall(KV.method.rangeStream, undefined);
  const request = create(RangeRequestSchema, { ...range, revision: BigInt(revision), serializable: true });
  const stream = new PullStream<typeof RangeRequestSchema, typeof RangeStreamResponseSchema>(
    RangeStreamResponseSchema,
    [request],
  ).start((self) => kv.rangeStream(self, call));
  try {
    for (let chunk = await stream.next(); chunk !== undefined; chunk = await stream.next()) {
      yield* chunk.rangeResponse?.kvs ?? [];
    }
  } finally {
    call.cancel();
    stream.close();
  }
}
