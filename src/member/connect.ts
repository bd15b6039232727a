/** Brings a member and the transport together: who it is, and what it answers. */
import { hexId } from "../ids";
import { foundingTerm } from "./bootstrap";
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
  /** The process must end. */
  readonly fatal: (error: Error) => void;
}

/**
 * Begins to receive and to connect.
 *
 * A voter whose data were lost must not come back under its id: it has forgotten what it voted for and acknowledged.
 * Nothing tells it from a founder that starts for the first time, but the others know: a member publishes its client
 * URLs only when entries of a leader are on its disk (`publication.ts`). So one that has none and whose URLs are known
 * has lost them.
 */
export function connect(
  peers: Peers,
  { member, incarnation, others, receive, removed, fatal }: ConnectParts,
): void {
  const { clusterId, id: memberId, state, snapshots } = member;
  const isFresh = () => {
    const { startIndex, lastTerm } = member.briefStatus();
    return startIndex === 0 && lastTerm <= foundingTerm;
  };
  peers.start(
    {
      clusterId,
      memberId,
      incarnation,
      peerUrls: () => state.members().find(({ ID }) => ID === memberId)?.peerURLs ?? [],
      isFresh,
    },
    {
      receive,
      readPiece: async (from, name, offset, bytesMax) =>
        others.isStranger(from) ? new Uint8Array(0) : snapshots.readPiece(from, name, offset, bytesMax),
      isRemoved: (id) => state.isRemovedMember(id),
      removed,
      hasLived: (id) => state.members().some(({ ID, clientURLs }) => ID === id && clientURLs.length > 0),
      lostData(by) {
        // What was said in the meantime may have changed that.
        if (!isFresh()) return;
        const id = hexId(memberId);
        fatal(
          new Error(
            `member ${id} has already been bootstrapped, as ${hexId(by)} knows, but its data directory holds nothing of ` +
              `it; start it with its own --data-dir, or remove it (etcdctl member remove ${id}) and start with --join`,
          ),
        );
      },
      stranger(address) {
        if (others.met(address, member.leader)) peers.setMembers(others.addresses());
      },
    },
  );
}
