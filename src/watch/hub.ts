/** The watch hub of a member; see README.md and rules.md. */
import type { Revision } from "../ids";
import type { WatchCreateRequest } from "../proto/gen/etcd/rpc_pb";
import type { History, RevisionChanges } from "../state/types";
import type { WatchHubOptions, WatchSink, WatchStats, WorkBudget } from "./types";

/** One Watch stream of a client. */
export interface WatchStream {
  /** True while the reader does not keep up; whoever reads requests waits meanwhile. */
  readonly paused: boolean;
  create(request: WatchCreateRequest): void;
  /** Answers a create request that may not be served: created and canceled at once, with the reason. */
  reject(reason: string): void;
  cancel(watchId: bigint): void;
  requestProgress(): void;
  /** The sink accepts messages again. */
  drained(): void;
  /** Ends every watcher of the stream without a word. */
  close(): void;
}

/** All watchers of a member. Deterministic: no clock, no timer, no socket. */
export class WatchHub {
  constructor(_options: WatchHubOptions) {
    throw new Error("not yet");
  }
  /** The newest revision that was published. */
  get revision(): Revision {
    throw new Error("not yet");
  }
  get stats(): WatchStats {
    throw new Error("not yet");
  }
  /** True while {@link work} has something to do. */
  get hasWork(): boolean {
    throw new Error("not yet");
  }
  /** Takes what one revision changed; revisions come in order. Delivered by the next {@link flush}. */
  publish(_changes: RevisionChanges): void {}
  /** Sends what was published since the last flush: once after each batch of applied entries. */
  flush(): void {}
  /** Moves the revision over revisions without changes. */
  advance(_revision: Revision): void {}
  /** Everything below this revision may be gone; watchers that still need it are canceled. */
  compacted(_revision: Revision): void {}
  /** The state was replaced by a snapshot: everyone continues from the new history. */
  reset(_history: History): void {}
  /** Feeds watchers that are behind, one shared scan; true while more remains. */
  work(_budget?: Partial<WorkBudget>): boolean {
    return false;
  }
  /** Sends periodic progress notifications that are due; call at least every 100 ms. */
  tick(_nowMs: number): void {}
  openStream(_sink: WatchSink, _nowMs: number): WatchStream {
    throw new Error("not yet");
  }
}
