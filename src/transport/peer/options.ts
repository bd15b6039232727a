/** What the peer transport is told, and what it asks for. */
import type { Logger } from "../../log";
import type { Clock, Peers, Rng } from "../../member/ports";
import type { Metrics } from "../../metrics/metrics";

/** One member as etcd's `GET /members` on the peer port shows it. */
export interface MemberPage {
  readonly id: bigint;
  readonly peerUrls: readonly string[];
  readonly name: string;
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

/** What the peer port tells whoever asks over plain HTTP. */
export interface PeerPages {
  readonly clusterId: bigint;
  /** Undefined while they cannot be told yet: a list that lacks some would make them look removed. */
  members(): readonly MemberPage[] | undefined;
  versions(): { readonly etcdserver: string; readonly etcdcluster: string; readonly storage: string };
  /** Where clients are served, to tell those who come here by mistake. */
  clientUrls(): readonly string[];
}

export interface PeerTransportOptions {
  /** `http://host:port`; port 0 picks a free one. None: nobody can connect to this member. */
  readonly listenUrls: readonly string[];
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Logger;
  /** A peer that is silent for about this long counts as gone. */
  readonly electionTimeoutMs: number;
  /** The largest request of a client (etcd's --max-request-bytes); messages are bounded by a multiple of it. */
  readonly requestBytesMax?: number;
  /** A connection that does not say who it is within this time is closed. Default 5 s. */
  readonly helloTimeoutMs?: number;
  /** Absent while the member is not ready to answer; then pages are refused with 503. */
  readonly pages: () => PeerPages | undefined;
  readonly metrics?: Metrics["network"];
  /** A handler of the member failed, or the transport did: the process must end. */
  readonly fatal: (error: unknown) => void;
}

/** The peers of a running server. */
export interface PeerTransport extends Peers {
  /**
   * Opens the peer port, to be called before `start`: connections that come in between are refused, to be tried
   * again. Rejects, with nothing open, when an address cannot be bound. Resolves with the URLs and their real ports.
   */
  listen(): Promise<readonly string[]>;
  /** The last measured round trip to a member; undefined while there is none. */
  roundTripMs(id: bigint): number | undefined;
}
