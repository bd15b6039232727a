/** Which members are connected to this one, by which process of theirs, and since when. */
import { hexId, type MemberId } from "../../ids";
import type { LaneName } from "./handshake";

/** A connection by which a member sends messages. */
export interface IncomingLane {
  /** Ends it because a later one took its place. */
  supersede(): void;
  /** Ends it because the member may not be connected (any more). */
  dismiss(): void;
}

interface Connected {
  incarnation: bigint;
  readonly lanes: Map<LaneName, IncomingLane>;
  sinceMs: number | undefined;
}

export interface PresenceEvents {
  /** Both lanes of a member came to be, or one of them went. */
  activeChanged(id: MemberId, active: boolean): void;
}

const laneCount = 2;

export class Presence {
  readonly #members = new Map<MemberId, Connected>();

  constructor(
    private readonly monotonicMs: () => number,
    private readonly events: PresenceEvents,
  ) {}

  /** Since when messages of both kinds can come from a member; undefined: they cannot. */
  activeSinceMs(id: MemberId): number | undefined {
    return this.#members.get(id)?.sinceMs;
  }

  /** Whether another process of this member is connected, which then must be the later one. */
  isSuperseded(id: MemberId, incarnation: bigint): boolean {
    const known = this.#members.get(id);
    // Incarnations have no order. Whoever came last is the later one while it lives; see README.md.
    return known !== undefined && known.lanes.size > 0 && this.#earlier.get(id)?.has(incarnation) === true;
  }

  /** Takes a connection up, in the place of the one before and of all that an earlier process had. */
  arrived(id: MemberId, incarnation: bigint, lane: LaneName, connection: IncomingLane): void {
    let known = this.#members.get(id);
    if (known === undefined) {
      known = { incarnation, lanes: new Map(), sinceMs: undefined };
      this.#members.set(id, known);
    }
    if (known.incarnation !== incarnation) {
      this.#rememberEarlier(id, known.incarnation, incarnation);
      known.incarnation = incarnation;
      const earlier = new Map(known.lanes);
      known.lanes.clear();
      for (const connection of earlier.values()) connection.supersede();
      this.#settle(id, known);
    }
    const before = known.lanes.get(lane);
    known.lanes.set(lane, connection);
    before?.supersede();
    this.#settle(id, known);
  }

  /** A connection is gone. */
  left(id: MemberId, lane: LaneName, connection: IncomingLane): void {
    const known = this.#members.get(id);
    if (known?.lanes.get(lane) !== connection) return;
    known.lanes.delete(lane);
    this.#settle(id, known);
  }

  /** Ends the connections of everybody that `stays` does not name, and forgets them. */
  retain(stays: (id: MemberId) => boolean): void {
    for (const [id, known] of this.#members) {
      if (stays(id)) continue;
      const lanes = [...known.lanes.values()];
      known.lanes.clear();
      this.#settle(id, known);
      this.#members.delete(id);
      this.#earlier.delete(id);
      for (const lane of lanes) lane.dismiss();
    }
  }

  /** For log lines. */
  describe(id: MemberId): string {
    return `${hexId(id)}/${hexId(this.#members.get(id)?.incarnation ?? 0n)}`;
  }

  /** The last few processes of each member before the present one. */
  readonly #earlier = new Map<MemberId, Set<bigint>>();

  #rememberEarlier(id: MemberId, earlier: bigint, now: bigint): void {
    const known = this.#earlier.get(id) ?? new Set();
    known.add(earlier);
    known.delete(now);
    if (known.size > earlierMax) known.delete(known.values().next().value!);
    this.#earlier.set(id, known);
  }

  #settle(id: MemberId, known: Connected): void {
    const active = known.lanes.size === laneCount;
    if (active === (known.sinceMs !== undefined)) return;
    known.sinceMs = active ? this.monotonicMs() : undefined;
    this.events.activeChanged(id, active);
  }
}

const earlierMax = 8;
