/** How a leader feeds one follower: from memory, from storage, or by snapshot. */
import type { LogIndex, Term } from "../ids";
import type { Core } from "./core";
import type { Leadership } from "./leadership";
import { entryBytes } from "./log";
import type { Progress } from "./progress";
import type { Entry } from "./types";

const noEntries: readonly Entry[] = [];

/** Sends appends until the follower has everything, its bounds are reached, or something must be fetched first. */
export function flushAppends(core: Core, leadership: Leadership, follower: Progress): void {
  while (sendNext(core, leadership, follower, noEntries));
}

/** Entries that a follower waited for came from storage; none: they are gone for good. */
export function feedFollower(
  core: Core,
  leadership: Leadership,
  follower: Progress,
  block: readonly Entry[],
): void {
  follower.wantedLow = 0;
  if (block.length === 0) {
    needSnapshot(leadership, follower);
    return;
  }
  while (sendNext(core, leadership, follower, block));
}

/** One append message, with entries from memory or from `block`. True when more may follow at once. */
function sendNext(core: Core, leadership: Leadership, follower: Progress, block: readonly Entry[]): boolean {
  const { log } = core;
  const { next } = follower;
  if (follower.state === "snapshot" || (follower.paused && !follower.appendDue)) return false;
  const nothingNew = next > log.lastIndex && follower.sentCommit >= log.commit;
  if (nothingNew && !follower.appendDue) return false;
  const previousIndex = next - 1;
  const previousTerm = termOf(core, follower, previousIndex, block);
  if (previousTerm === undefined) {
    if (previousIndex <= log.startIndex) needSnapshot(leadership, follower);
    else want(core, leadership, follower, previousIndex);
    return false;
  }
  // Full windows still let an empty append through: were messages lost, its refusal brings that to light.
  const entries = follower.paused ? noEntries : entriesFrom(core, next, block);
  if (entries === undefined) {
    want(core, leadership, follower, next);
    return false;
  }
  core.sendNow.push({
    kind: "append",
    from: core.id,
    to: follower.id,
    term: core.term,
    previousIndex,
    previousTerm,
    entries,
    commit: log.commit,
  });
  let bytes = 0;
  for (const entry of entries) bytes += entryBytes(entry);
  const newest = entries[entries.length - 1];
  if (newest !== undefined) follower.learned = { index: newest.index, term: newest.term };
  follower.sent(newest?.index ?? previousIndex, bytes, log.commit);
  return bytes > 0;
}

function termOf(core: Core, follower: Progress, index: LogIndex, block: readonly Entry[]): Term | undefined {
  const { log } = core;
  if (index < log.startIndex) return undefined;
  const known = log.term(index);
  if (known !== undefined) return known;
  if (follower.learned.index === index) return follower.learned.term;
  const first = block[0];
  if (first === undefined) return undefined;
  const entry = block[index - first.index];
  if (entry !== undefined) follower.learned = { index, term: entry.term };
  return entry?.term;
}

/** From memory, or the part of `block` from `low` on, cut to one message; undefined when neither has it. */
function entriesFrom(core: Core, low: LogIndex, block: readonly Entry[]): readonly Entry[] | undefined {
  const bytesMax = core.options.appendBytesMax;
  const inMemory = core.log.from(low, bytesMax);
  if (inMemory !== undefined) return inMemory;
  const first = block[0];
  if (first === undefined || low < first.index) return undefined;
  const begin = low - first.index;
  if (begin >= block.length) return undefined;
  let end = begin + 1;
  let bytes = entryBytes(block[begin]!);
  for (; end < block.length; end++) {
    bytes += entryBytes(block[end]!);
    if (bytes > bytesMax) break;
  }
  return block.slice(begin, end);
}

/** Asks storage for entries from `low` on; once, until they come or the follower answers a heartbeat. */
function want(core: Core, leadership: Leadership, follower: Progress, low: LogIndex): void {
  if (follower.wantedLow === low) return;
  follower.wantedLow = low;
  const { log, options } = core;
  leadership.wanted.push({ low, high: log.tailFirst, bytesMax: options.appendBytesMax });
}

/** Only a member that answers gets a snapshot: making and sending one is dear. */
function needSnapshot(leadership: Leadership, follower: Progress): void {
  if (!follower.recentlyActive) return;
  follower.becomeSnapshot();
  if (leadership.snapshotAwaited) return;
  leadership.snapshotAwaited = true;
  leadership.snapshotWanted = true;
}
