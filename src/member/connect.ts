/** Brings a member and the transport together: who it is, and what it answers. */
import type { Member } from "./member";
import type { Others } from "./others";
import type { PeerMessage } from "./peer-message";
import type { Peers } from "./ports";

export interface ConnectParts {
  readonly member: Member;
  readonly incarnation: bigint;
  readonly others: Others;
  readonly receive: (message: PeerMessage) => void;
  /** The others know that this member was removed. */
  readonly removed: () => void;
}

/** Begins to receive and to connect. */
export function connect(peers: Peers, { member, incarnation, others, receive, removed }: ConnectParts): void {
  const { clusterId, id: memberId, state, snapshots } = member;
  peers.start(
    {
      clusterId,
      memberId,
      incarnation,
      peerUrls: () => state.members().find(({ ID }) => ID === memberId)?.peerURLs ?? [],
    },
    {
      receive,
      readPiece: async (from, name, offset, bytesMax) =>
        others.isStranger(from) ? new Uint8Array(0) : snapshots.readPiece(from, name, offset, bytesMax),
      isRemoved: (id) => state.isRemovedMember(id),
      removed,
      stranger(address) {
        if (others.met(address, member.leader)) peers.setMembers(others.addresses());
      },
    },
  );
}
