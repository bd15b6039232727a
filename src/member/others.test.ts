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
  expect(others.met(address(2))).toBeFalse();
  expect(others.met(address(1))).toBeFalse();
  expect(others.met(address(5))).toBeTrue();
  expect(others.met(address(5))).toBeFalse();
  expect(others.addresses()).toEqual([address(2), address(5)]);
  known.members = [address(1), address(2), address(5, "moved")];
  expect(others.addresses()).toEqual([address(2), address(5, "moved")]);
  known.members = [address(1), address(2)];
  known.removed.add(5n);
  expect(others.addresses()).toEqual([address(2)]);
  expect(others.met(address(5))).toBeFalse();
});

test("strangers are bounded", () => {
  const others = new Others(1n, new Known().state, undefined);
  const taken = Array.from({ length: 100 }, (_, i) => others.met(address(i + 2)));
  expect(taken.filter(Boolean)).toHaveLength(32);
});
