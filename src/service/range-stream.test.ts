import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { World } from "../../test/sim/world";
import type { Member } from "../member/member";
import {
  CompactionRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  type RangeRequestSchema as RangeRequestDesc,
  type RangeStreamResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { ServerStream } from "../transport/call";
import { FakeCall } from "./fake-backend";
import { KvService } from "./kv";

type RangeStream = ServerStream<typeof RangeRequestDesc, typeof RangeStreamResponseSchema>;

/** A client that never reads. */
const stalled: RangeStream = {
  requests: (async function* () {
    yield create(RangeRequestSchema, { key: Buffer.from("k"), rangeEnd: Buffer.from("l") });
  })(),
  send: () => false,
  drained: () => new Promise(() => {}),
};

function filled(): { world: World; member: Member; kv: KvService } {
  const world = new World(1);
  const member = world.start();
  const kv = new KvService(member, { txnOpsMax: 128, requestBytesMax: 1_572_864 });
  for (let i = 0; i < 100; i++) {
    const request = create(PutRequestSchema, { key: Buffer.from(`k${i}`), value: Buffer.from("v") });
    world.clock.settle(kv.put(request));
  }
  return { world, member, kv };
}

test("a streaming reader that stalls keeps its revision, but compacted rows only for a while", () => {
  const { world, member, kv } = filled();
  let failure: unknown;
  kv.rangeStream(stalled, new FakeCall()).catch((error: unknown) => (failure = error));
  world.clock.run(60_000);
  expect(failure).toBeUndefined();

  world.clock.settle(kv.put(create(PutRequestSchema, { key: Buffer.from("k1"), value: Buffer.from("w") })));
  const revision = BigInt(member.revision);
  world.clock.settle(kv.compact(create(CompactionRequestSchema, { revision })));
  world.clock.run(15_000);
  expect(String(failure)).toContain("required revision has been compacted");
  expect(member.state.compactionPending).toBeFalse();
  world.clock.settle(member.stop());
});
