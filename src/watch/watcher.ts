/** One watcher, and the group of all watchers that want exactly the same events. */
import type { Revision } from "../ids";
import type { Change } from "../state/types";
import type { HubStream } from "./stream";

/** What a watcher wants to see. */
export interface Interest {
  readonly start: string;
  /** Exclusive; undefined for a single key. */
  readonly end: string | undefined;
  readonly noPut: boolean;
  readonly noDelete: boolean;
  readonly previous: boolean;
}

/** Equal for equal interests only. */
export function interestName(interest: Interest): string {
  const flags = (interest.noPut ? 1 : 0) | (interest.noDelete ? 2 : 0) | (interest.previous ? 4 : 0);
  const end = interest.end === undefined ? "" : `+${interest.end}`;
  return `${flags}:${interest.start.length}:${interest.start}${end}`;
}

export function wantsKey(interest: Interest, key: string): boolean {
  if (interest.end === undefined) return key === interest.start;
  return key >= interest.start && key < interest.end;
}

export function wantsType(interest: Interest, change: Change): boolean {
  return change.type === "put" ? !interest.noPut : !interest.noDelete;
}

/** An encoded event that waits for the flush. */
export interface PendingEvent {
  readonly revision: Revision;
  readonly bytes: Uint8Array;
}

/** Watchers with one interest share the search for events, and their bytes. */
export class Group {
  /** All watchers, also those that are behind. */
  members = 0;
  /** Those fed from apply. While one joins, nothing is pending. */
  readonly synced = new Set<Watcher>();
  pending: PendingEvent[] = [];

  constructor(
    readonly name: string,
    readonly interest: Interest,
  ) {}
}

export class Watcher {
  /** Every event below this was sent or is not wanted. Kept up to date only while the watcher is behind. */
  next: Revision;
  synced = false;
  /** No event since the last periodic progress notification. */
  quiet = true;

  constructor(
    readonly id: bigint,
    readonly idField: Uint8Array,
    readonly stream: HubStream,
    readonly group: Group,
    /** Events below this are never sent. */
    readonly floor: Revision,
    /** As the client asked; progress below it would be untrue. */
    readonly startRevision: Revision,
    readonly fragment: boolean,
    readonly progressNotify: boolean,
  ) {
    this.next = floor;
  }
}
