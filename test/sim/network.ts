/** A network in memory: late, lossy, repeating, parted at will. Every message is an event of the virtual clock. */
import type { MemberId } from "../../src/ids";
import type { PeerMessage } from "../../src/member/peer-message";
import type { PeerAddress, PeerHandler, PeerIdentity, Peers } from "../../src/member/ports";
import type { SeededRng } from "../../src/rng";
import type { VirtualClock } from "./clock";

/** What may happen to messages. */
export interface Weather {
  /** A message takes a random time between these. */
  readonly delayMinMs: number;
  readonly delayMaxMs: number;
  /** Of a thousand messages, so many vanish, and so many arrive twice. */
  readonly lostPerMille: number;
  readonly repeatedPerMille: number;
  /** Later messages may overtake earlier ones. */
  readonly reordered: boolean;
  /** Of a thousand messages, so many come seconds late, when nobody expects them any more. */
  readonly straggling?: number;
}

/** The latest that a straggler comes. */
const straggleMaxMs = 6_000;

export const fairWeather: Weather = {
  delayMinMs: 0.2,
  delayMaxMs: 0.8,
  lostPerMille: 0,
  repeatedPerMille: 0,
  reordered: false,
};

interface Station {
  readonly identity: PeerIdentity;
  readonly handler: PeerHandler;
  members: readonly PeerAddress[];
}

export class Network {
  weather: Weather = fairWeather;
  readonly #clock: VirtualClock;
  readonly #rng: SeededRng;
  readonly #stations = new Map<MemberId, Station>();
  /** Directed pairs between which nothing passes. */
  readonly #cut = new Set<string>();
  readonly #activeSinceMs = new Map<string, number>();
  /** When the last message of a pair arrives: later ones do not overtake it. */
  readonly #lastAtMs = new Map<string, number>();
  /** Sees each message as it is sent; false: it is lost. */
  filter: ((message: PeerMessage) => boolean) | undefined;

  constructor(clock: VirtualClock, rng: SeededRng) {
    this.#clock = clock;
    this.#rng = rng;
  }

  /** The connections of one life of a member. */
  connect(): Peers {
    let station: Station | undefined;
    const own = () => (station === undefined ? undefined : this.#stations.get(station.identity.memberId));
    return {
      start: (identity, handler) => {
        station = { identity, handler, members: [] };
        this.#stations.set(identity.memberId, station);
        for (const other of this.#stations.keys()) this.#restamp(identity.memberId, other);
      },
      setMembers: (members) => {
        if (station !== undefined) station.members = members;
      },
      send: (messages) => {
        if (station === undefined || own() !== station) return false;
        const { members } = station;
        for (const message of messages) this.#send(station, message);
        return messages.every((message) => members.some(({ id }) => id === message.to));
      },
      fetchPiece: async (from, name, offset, bytesMax) => {
        const self = station?.identity.memberId ?? 0n;
        await this.#pass(from, self);
        const other = this.#stations.get(from);
        if (other === undefined || this.#isCut(from, self)) throw new Error(`${from} cannot be reached`);
        return other.handler.readPiece(self, name, offset, bytesMax);
      },
      activeSinceMs: (id) => {
        const self = station?.identity.memberId ?? 0n;
        if (!this.#stations.has(id) || this.#isCut(id, self)) return undefined;
        return this.#activeSinceMs.get(pair(id, self));
      },
      close: async () => {
        if (own() === station && station !== undefined) this.#stations.delete(station.identity.memberId);
      },
    };
  }

  /** The process of a member is gone. */
  disconnect(id: MemberId): void {
    this.#stations.delete(id);
  }

  #pass(from: MemberId, to: MemberId): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(this.#delayMs(from, to), resolve));
  }

  #send(station: Station, message: PeerMessage): void {
    const { memberId, clusterId } = station.identity;
    if (!station.members.some(({ id }) => id === message.to)) return;
    if (this.filter?.(message) === false || this.#isCut(memberId, message.to)) return;
    const { lostPerMille, repeatedPerMille } = this.weather;
    if (this.#rng.below(1_000) < lostPerMille) return;
    const copies = this.#rng.below(1_000) < repeatedPerMille ? 2 : 1;
    // A message does not outlive the process for which it was meant.
    const target = this.#stations.get(message.to);
    if (target === undefined || target.identity.clusterId !== clusterId) return;
    for (let copy = 0; copy < copies; copy++) {
      this.#clock.after(this.#delayMs(memberId, message.to), () => this.#arrive(station, target, message));
    }
  }

  #delayMs(from: MemberId, to: MemberId): number {
    const { delayMinMs, delayMaxMs, reordered, straggling = 0 } = this.weather;
    if (straggling > 0 && this.#rng.below(1_000) < straggling) return this.#rng.below(straggleMaxMs);
    const delayMs = delayMinMs + ((delayMaxMs - delayMinMs) * this.#rng.below(1_000)) / 1_000;
    if (reordered) return delayMs;
    const nowMs = this.#clock.monotonicMs();
    const atMs = Math.max(this.#lastAtMs.get(pair(from, to)) ?? 0, nowMs + delayMs);
    this.#lastAtMs.set(pair(from, to), atMs);
    return atMs - nowMs;
  }

  #arrive(station: Station, target: Station, message: PeerMessage): void {
    if (this.#stations.get(message.to) !== target || this.#isCut(message.from, message.to)) return;
    const lives = this.#stations.get(message.from) === station;
    if (target.handler.isRemoved(message.from)) {
      if (lives) station.handler.removed(message.to);
    } else if (lives && lostData(target, station)) {
      station.handler.lostData?.(message.to);
    } else if (lives && lostData(station, target)) {
      // Turned away by who sends, which does not even connect.
    } else if (target.members.some(({ id }) => id === message.from)) {
      target.handler.receive(message);
    } else {
      // Turned away, as the transport does.
      target.handler.stranger?.({ id: message.from, peerUrls: station.identity.peerUrls?.() ?? [] });
    }
  }

  /** Cuts messages from one to the other; the way back stays open. */
  cutOneWay(from: MemberId, to: MemberId): void {
    this.#cut.add(pair(from, to));
  }

  /** Parts the members: nothing passes between groups. */
  part(...groups: readonly (readonly MemberId[])[]): void {
    for (const group of groups) {
      for (const other of groups) {
        if (group === other) continue;
        for (const from of group) for (const to of other) this.cutOneWay(from, to);
      }
    }
  }

  /** Everything passes again. */
  heal(): void {
    this.#cut.clear();
    for (const from of this.#stations.keys()) {
      for (const to of this.#stations.keys()) this.#restamp(from, to);
    }
  }

  #restamp(a: MemberId, b: MemberId): void {
    const nowMs = this.#clock.monotonicMs();
    this.#activeSinceMs.set(pair(a, b), nowMs);
    this.#activeSinceMs.set(pair(b, a), nowMs);
  }

  #isCut(from: MemberId, to: MemberId): boolean {
    return this.#cut.has(pair(from, to));
  }
}

/** Whether one member would turn another away because it comes without the data that it once had. */
function lostData(judge: Station, other: Station): boolean {
  const { memberId, isFresh } = other.identity;
  return isFresh?.() === true && judge.handler.hasLived?.(memberId) === true;
}

function pair(from: MemberId, to: MemberId): string {
  return `${from}>${to}`;
}
