import { expect, spyOn, test } from "bun:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { World } from "../../test/sim/world";
import { PutRequestSchema, RangeRequestSchema, RangeResponseSchema } from "../proto/gen/etcd/rpc_pb";
import { FakeCall } from "./fake-backend";
import { KvService } from "./kv";

test("a range over few keys with long values lets other work in between, one over short values needs not", async () => {
  const world = new World(1);
  const member = world.start();
  const kv = new KvService(member, { txnOpsMax: 128, requestBytesMax: 1_572_864 });
  for (let i = 0; i < 20; i++) {
    for (const [name, length] of [
      ["long", 1_000_000],
      ["short", 10],
    ] as const) {
      const value = new Uint8Array(length).fill(i);
      world.clock.settle(kv.put(create(PutRequestSchema, { key: Buffer.from(`${name}-${i}`), value })));
    }
  }
  for (const name of ["long", "short"]) {
    // Each look at the clock shows that a step took its time.
    let nowMs = 0;
    const clock = spyOn(member, "monotonicMs").mockImplementation(() => (nowMs += 5));
    const breath = spyOn(member, "soon");
    const request = create(RangeRequestSchema, {
      key: Buffer.from(`${name}-`),
      rangeEnd: Buffer.from(`${name}.`),
      serializable: true,
    });
    const { chunks } = world.clock.settle(kv.range(request, new FakeCall()));
    const { kvs, count } = fromBinary(RangeResponseSchema, Buffer.concat(chunks));
    expect(kvs.map(({ value }) => value[0]).toSorted((a, b) => a! - b!)).toEqual(
      Array.from({ length: 20 }, (_, i) => i),
    );
    expect(count).toBe(20n);
    if (name === "long") expect(breath.mock.calls.length).toBeGreaterThanOrEqual(19);
    else expect(breath).not.toHaveBeenCalled();
    breath.mockRestore();
    clock.mockRestore();
  }
  world.clock.settle(member.stop());
});
