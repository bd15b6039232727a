/** Connecting to a peer URL. This is where TLS between members comes in: a `tls` socket after its handshake. */
import { connect, type Socket } from "node:net";
import type { Clock } from "../../member/ports";

/** A peer URL taken apart. */
export interface PeerTarget {
  readonly host: string;
  readonly port: number;
  /** For `:authority` and log lines. */
  readonly authority: string;
}

/** Reads `http://host:port`; a string says why it cannot be used. */
export function targetOf(peerUrl: string): PeerTarget | string {
  if (peerUrl.startsWith("https:")) return "TLS between members is not part of this release";
  let url: URL;
  try {
    url = new URL(peerUrl);
  } catch {
    return "not a URL";
  }
  if (url.protocol !== "http:") return `the scheme must be http, not ${url.protocol.slice(0, -1)}`;
  if (url.hostname === "") return "the host is empty";
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? 80 : Number(url.port),
    authority: url.host,
  };
}

/** Connects; exactly one of the two is called unless the answered function was called before. */
export function dial(
  { host, port, authority }: PeerTarget,
  timeoutMs: number,
  clock: Clock,
  connected: (socket: Socket) => void,
  failed: (reason: string) => void,
): () => void {
  let done = false;
  const socket = connect({ host, port, noDelay: true });
  const finish = (): boolean => {
    if (done) return false;
    done = true;
    cancelTimer();
    socket.removeAllListeners();
    return true;
  };
  const giveUp = (reason: string): void => {
    if (!finish()) return;
    socket.on("error", () => {});
    socket.destroy();
    failed(reason);
  };
  const cancelTimer = clock.after(timeoutMs, () => giveUp(`no connection to ${authority} in time`));
  socket.on("connect", () => {
    if (finish()) connected(socket);
  });
  socket.on("error", (error: Error) => giveUp(error.message || `cannot connect to ${authority}`));
  socket.on("close", () => giveUp(`connection to ${authority} closed`));
  return () => {
    if (!finish()) return;
    socket.on("error", () => {});
    socket.destroy();
  };
}
