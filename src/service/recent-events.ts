/** What happened to the cluster lately, as one member saw it: found by looking once a second at what changed. */

export type EventTone = "ok" | "warn" | "bad" | "muted";

export interface ClusterEvent {
  /** Milliseconds since 1970, by the clock of the member that saw it. */
  readonly atMs: number;
  /** Who saw it, by id. */
  readonly seenBy: string;
  readonly tone: EventTone;
  readonly text: string;
}

/** What is looked at. */
export interface Observed {
  readonly leader: string | undefined;
  readonly term: number;
  readonly members: readonly { readonly id: string; readonly name: string; readonly learner: boolean }[];
  readonly alarms: readonly { readonly type: string; readonly member: string }[];
  /** Who can be reached, by id. */
  readonly reached: ReadonlySet<string>;
  readonly compactedRevision: number;
  readonly snapshotsInstalled: number;
  /** The longest standstill of the event loop in the last second, in milliseconds. */
  readonly stallMs: number;
}

const keptMax = 64;
const stallWorthTellingMs = 500;

export class RecentEvents {
  readonly #self: string;
  #events: ClusterEvent[] = [];
  #before: Observed | undefined;
  readonly #lost = new Set<string>();

  constructor(self: string) {
    this.#self = self;
  }

  /** Newest first. */
  get latest(): readonly ClusterEvent[] {
    return this.#events;
  }

  observe(now: Observed, atMs: number): void {
    const before = this.#before;
    this.#before = now;
    const nameOf = (id: string): string =>
      now.members.find((member) => member.id === id)?.name ||
      before?.members.find((member) => member.id === id)?.name ||
      id;
    const tell = (tone: EventTone, text: string): void => {
      this.#events = [{ atMs, seenBy: this.#self, tone, text }, ...this.#events.slice(0, keptMax - 1)];
    };
    if (before === undefined) {
      tell("muted", `${nameOf(this.#self)} started`);
      return;
    }
    for (const { id, learner } of now.members) {
      const earlier = before.members.find((member) => member.id === id);
      if (earlier === undefined) tell("muted", `${nameOf(id)} added as a ${learner ? "learner" : "voter"}`);
      else if (earlier.learner && !learner) tell("muted", `${nameOf(id)} promoted to voter`);
    }
    for (const { id } of before.members) {
      if (!now.members.some((member) => member.id === id)) tell("warn", `${nameOf(id)} removed`);
    }
    if (now.leader !== before.leader) {
      if (now.leader === undefined) tell("bad", "The leader was lost");
      else tell("muted", `${nameOf(now.leader)} leads in term ${now.term}`);
    } else if (now.term !== before.term && now.leader !== undefined) {
      tell("muted", `${nameOf(now.leader)} leads in term ${now.term}`);
    }
    for (const { id } of now.members) {
      if (before.reached.has(id) && !now.reached.has(id)) {
        this.#lost.add(id);
        tell("bad", `${nameOf(id)} cannot be reached`);
      } else if (now.reached.has(id) && this.#lost.delete(id)) tell("ok", `${nameOf(id)} is reached again`);
    }
    const isIn = (alarms: Observed["alarms"], type: string, member: string): boolean =>
      alarms.some((alarm) => alarm.type === type && alarm.member === member);
    for (const { type, member } of now.alarms) {
      if (!isIn(before.alarms, type, member))
        tell("bad", `Alarm ${type.toUpperCase()} raised for ${nameOf(member)}`);
    }
    for (const { type, member } of before.alarms) {
      if (!isIn(now.alarms, type, member))
        tell("ok", `Alarm ${type.toUpperCase()} of ${nameOf(member)} disarmed`);
    }
    if (now.compactedRevision > before.compactedRevision) {
      tell("muted", `Compacted to revision ${now.compactedRevision}`);
    }
    if (now.snapshotsInstalled > before.snapshotsInstalled) {
      tell("muted", `${nameOf(this.#self)} installed a snapshot of the leader`);
    }
    if (now.stallMs >= stallWorthTellingMs) {
      tell("warn", `${nameOf(this.#self)} stood still for ${(now.stallMs / 1_000).toFixed(1)} s`);
    }
  }
}

/** Events of several members newest first, each of the cluster's own told once. */
export function mergedEvents(lists: readonly (readonly ClusterEvent[])[], countMax: number): ClusterEvent[] {
  const sameMs = 10_000;
  const merged: ClusterEvent[] = [];
  for (const event of lists.flat().sort((a, b) => b.atMs - a.atMs)) {
    const told = merged.some(
      ({ text, atMs, seenBy }) =>
        text === event.text && seenBy !== event.seenBy && Math.abs(atMs - event.atMs) <= sameMs,
    );
    if (!told) merged.push(event);
    if (merged.length === countMax) break;
  }
  return merged;
}
