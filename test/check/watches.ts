/**
 * What a watch stream delivered, held against the list of all changes (P7 to P13). The judge itself is
 * `src/watch/checker.ts`; here is the record of one stream, and the truth made from a history's log.
 */
import type { WatchCreateRequest, WatchResponse } from "../../src/proto/gen/etcd/rpc_pb";
import type { RevisionChanges } from "../../src/state/types";
import { StreamChecker, type Truth } from "../../src/watch/checker";
import type { Verdict } from "./history";

export type WatchMessage =
  | { readonly kind: "asked"; readonly request: WatchCreateRequest; readonly at: number }
  /** The client asked for the end of one watcher. */
  | { readonly kind: "canceling"; readonly watchId: bigint; readonly at: number }
  | { readonly kind: "received"; readonly response: WatchResponse; readonly at: number };

/** One stream as its client saw it, in the client's order. A watch that was resumed is another stream. */
export interface WatchStreamRecord {
  readonly client: number;
  readonly member: string;
  readonly messages: readonly WatchMessage[];
  /** The stream was open to the end of the run, so it must have seen everything. */
  readonly live: boolean;
}

/** The truth of a whole run, for any number of streams. */
export class RecordedTruth implements Truth {
  readonly revision: number;
  readonly #records = new Map<string, { revision: number; record: Uint8Array | undefined }[]>();

  constructor(
    readonly log: readonly RevisionChanges[],
    /** The newest revision that anyone compacted to during the run. */
    readonly compactedRevision: number,
  ) {
    this.revision = log.at(-1)?.revision ?? 1;
    for (const { changes } of log) {
      for (const { key, revision, type, record } of changes) {
        const versions = this.#records.get(key) ?? [];
        this.#records.set(key, versions);
        versions.push({ revision, record: type === "put" ? record : undefined });
      }
    }
  }

  recordBefore(key: string, revision: number): Uint8Array | undefined {
    return this.#records.get(key)?.findLast((version) => version.revision < revision)?.record;
  }
}

/** Judges one stream. */
export function checkWatchStream(stream: WatchStreamRecord, truth: Truth): Verdict {
  const checker = new StreamChecker(truth);
  const problems: string[] = [];
  let at = 0;
  try {
    for (const message of stream.messages) {
      ({ at } = message);
      if (message.kind === "asked") checker.asked(message.request);
      else if (message.kind === "canceling") checker.canceling(message.watchId);
      else checker.received(message.response);
    }
    if (stream.live) checker.finish();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    problems.push(`watch of client ${stream.client} at ${stream.member}, time ${at.toFixed(1)}: ${reason}`);
  }
  return { problems, counts: { streams: 1, ...checker.counts } };
}
