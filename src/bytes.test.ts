import { expect, test } from "bun:test";
import { prefixRangeEnd } from "./bytes";

test("the end of a prefix range follows etcd's rule and leaves the prefix alone, whatever holds it", () => {
  for (const prefix of [Buffer.from("a/"), Uint8Array.from([0x61, 0x2f])]) {
    expect([...prefixRangeEnd(prefix)]).toEqual([0x61, 0x30]);
    expect([...prefix]).toEqual([0x61, 0x2f]);
  }
  expect([...prefixRangeEnd(Uint8Array.from([0x61, 0xff]))]).toEqual([0x62]);
  expect([...prefixRangeEnd(Uint8Array.from([0xff, 0xff]))]).toEqual([0]);
  expect([...prefixRangeEnd(new Uint8Array(0))]).toEqual([0]);
});
