import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { MemberSchema } from "../proto/gen/etcd/rpc_pb";
import type { StateMachine } from "../state/state-machine";
import { Others } from "./others";
import type { PeerAddress } from "./ports";

const address = (id: number, name = `m${id}`): PeerAddress => ({
  id: BigInt(id),
  peerUrls: [`http://${name}:2380`],
});

/** A state that knows these members, and those that were removed. */
class Known {
  members: PeerAddress[] = [];
  removed = new Set<bigint>();
  readonly state = {
    members: () =>
      this.members.map(({ id, peerUrls }) => create(MemberSchema, { ID: id, peerURLs: [...peerUrls] })),
    isRemovedMember: (id: bigint) => this.removed.has(id),
  } as unknown as StateMachine;
}

test("a joiner keeps those that it was told of until it meets itself in the log", () => {
  const known = new Known();
  const plan = {
    clusterId: 1n,
    memberId: 9n,
    name: "nine",
    members: [address(1), address(2)],
    promote: false,
  };
  const others = new Others(9n, known.state, plan);
  expect(others.addresses()).toEqual([address(1), address(2)]);
  // The past: somebody who is gone by now, and a former address.
  known.members = [address(7), address(1, "old")];
  expect(others.addresses()).toEqual([address(7), address(1, "old"), address(2)]);
  known.removed.add(2n);
  expect(others.addresses()).toEqual([address(7), address(1, "old")]);
  known.removed.delete(2n);
  known.members = [address(1), address(9)];
  expect(others.addresses()).toEqual([address(1)]);
});

test("a stranger of the cluster is heard until the log says who it is", () => {
  const known = new Known();
  known.members = [address(1), address(2)];
  const others = new Others(1n, known.state, undefined);
  expect(others.met(address(2), 0n)).toBeFalse();
  expect(others.met(address(1), 0n)).toBeFalse();
  expect(others.met(address(5), 0n)).toBeTrue();
  expect(others.met(address(5), 0n)).toBeFalse();
  expect(others.addresses()).toEqual([address(2), address(5)]);
  known.members = [address(1), address(2), address(5, "moved")];
  expect(others.addresses()).toEqual([address(2), address(5, "moved")]);
  known.members = [address(1), address(2)];
  known.removed.add(5n);
  expect(others.addresses()).toEqual([address(2)]);
  expect(others.met(address(5), 0n)).toBeFalse();
});

test("strangers are bounded", () => {
  const others = new Others(1n, new Known().state, undefined);
  const taken = Array.from({ length: 100 }, (_, i) => others.met(address(i + 2), 0n));
  expect(taken.filter(Boolean)).toHaveLength(32);
});

test("who knows a leader takes no strangers, and forgets those it took while nobody led", () => {
  const known = new Known();
  known.members = [address(1), address(2)];
  const others = new Others(1n, known.state, undefined);
  expect(others.met(address(5), 2n)).toBeFalse();
  expect(others.addresses()).toEqual([address(2)]);
  expect(others.met(address(5), 0n)).toBeTrue();
  expect(others.met(address(6), 0n)).toBeTrue();
  // One of them leads: it is they whom this member has been waiting for.
  expect(others.led(5n)).toBeFalse();
  expect(others.addresses()).toEqual([address(2), address(5), address(6)]);
  expect(others.led(0n)).toBeFalse();
  expect(others.led(2n)).toBeTrue();
  expect(others.led(2n)).toBeFalse();
  expect(others.addresses()).toEqual([address(2)]);
});

test("a stranger may lead or ask for a vote, and nothing else", () => {
  const known = new Known();
  known.members = [address(1), address(2)];
  const others = new Others(1n, known.state, undefined);
  others.met(address(5), 0n);
  const fromLeaders = ["pre-vote", "vote", "append", "heartbeat", "snapshot", "timeout-now"] as const;
  const fromOthers = [
    "propose",
    "read-index",
    "call",
    "append-answer",
    "heartbeat-answer",
    "vote-answer",
  ] as const;
  const heard = (from: bigint) =>
    [...fromLeaders, ...fromOthers].filter((kind) => others.hears({ from, kind }));
  expect(heard(2n)).toHaveLength(12);
  expect(heard(5n)).toEqual([...fromLeaders]);
  expect([others.isStranger(2n), others.isStranger(5n)]).toEqual([false, true]);
  known.members = [address(1), address(2), address(5)];
  others.addresses();
  expect(heard(5n)).toHaveLength(12);
});
