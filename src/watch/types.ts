/** What the hub takes from and gives to the rest of a member. */
import type { Revision } from "../ids";
import type { History } from "../state/types";
import type { EncodedMessage } from "../transport/call";

/** Where the responses of one stream go. */
export interface WatchSink {
  /**
   * Takes an encoded WatchResponse, always; false means that the reader does not keep up. The hub then sends
   * nothing on this stream until {@link WatchStream.drained} is called.
   */
  send(message: EncodedMessage): boolean;
}

/** How much one call of {@link WatchHub.work} may do. */
export interface WorkBudget {
  /** Revisions read from history in one shared scan. */
  readonly revisionsMax: number;
  /** Bytes of records read from history in one shared scan. */
  readonly bytesMax: number;
  /** Watchers that one scan may feed. */
  readonly watchersMax: number;
}

export interface WatchHubOptions {
  /** The past, for catching up and for previous values. */
  readonly history: History;
  /** The encoded etcdserverpb.ResponseHeader with this revision and the member's present ids and term. */
  readonly header: (revision: Revision) => Uint8Array;
  /**
   * Called when {@link WatchHub.work} has something to do; then not again before work answered false. Must not
   * call back into the hub at once.
   */
  readonly wake?: () => void;
  /** A batch above this is cut for watchers that asked for fragments: max-request-bytes plus 512 KiB. */
  readonly fragmentBytes?: number;
  /** Time between periodic progress notifications (etcd's --watch-progress-notify-interval). */
  readonly progressIntervalMs?: number;
  /** A number in [0, 1) that spreads the notifications of streams by up to a tenth of the interval. */
  readonly jitter?: () => number;
}

/** Counters and gauges for metrics. */
export interface WatchStats {
  readonly streams: number;
  readonly watchers: number;
  /** Watchers that wait for history. */
  readonly catchingUp: number;
  /** Streams whose reader does not keep up. */
  readonly paused: number;
  /** Events handed to sinks since the start. */
  readonly eventsSent: number;
  /** Events that wait for {@link WatchHub.flush}. */
  readonly eventsPending: number;
  /** Recent revisions kept for readers who are a little late. */
  readonly revisionsInMemory: number;
}
