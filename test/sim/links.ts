/**
 * Links between members under virtual time. Each ordered pair has its own link that can be cut, clogged, slow, lossy,
 * repeat messages or let them overtake each other. Messages travel as objects; their bytes are the codec's tests.
 */
import type { MemberId } from "../../src/ids";
import type { PeerMessage } from "../../src/member/peer-message";
import type { PeerAddress, PeerHandler, PeerIdentity, Peers } from "../../src/member/ports";
import type { Rng } from "../../src/rng";
import type { VirtualClock } from "./clock";

export interface LinkOptions {
  /** One-way delay: a minimum, and the mean of what is added to it (exponentially distributed). */
  readonly delayMinMs: number;
  readonly delayMeanMs: number;
  /** Of 1,000 messages. */
  readonly lossPermille: number;
  readonly repeatPermille: number;
  readonly overtakePermille: number;
  /** Messages under way on one link; more are lost. */
  readonly capacity: number;
  /** Pieces of files are no larger than this, however much was asked for. */
  readonly pieceBytes: number;
}

/** A member as the network sees it; one per life. */
export interface Endpoint {
  readonly identity: PeerIdentity;
  readonly handler: PeerHandler;
  /** Runs when this life can take it: later while it is paused, never once it has ended. */
  enter(work: () => void): void;
  readonly alive: boolean;
  /** Nothing of it is on its disk yet; once that is over, it stays so for this life. */
  fresh: boolean;
}

interface Link {
  cut: boolean;
  clogUntilMs: number;
  lastArrivalMs: number;
  underWay: number;
  /** When messages began to arrive without a pause, and the last one. */
  activeSinceMs: number;
  arrivedAtMs: number;
}

/** Without a message for so long, a link does not count as active. */
const activeGapMs = 1_000;
/** A fetch over a cut or lossy link fails after this. */
const fetchTimeoutMs = 1_000;

export interface NetworkObserver {
  /** A message leaves its sender. */
  leaves(message: PeerMessage): void;
  /** A message is handed to a member, and was handled. */
  arrives(message: PeerMessage): void;
  arrived(message: PeerMessage): void;
}

export class Links {
  readonly counts = { sent: 0, lost: 0, repeated: 0, pieces: 0 };
  options: LinkOptions;
  readonly #clock: VirtualClock;
  readonly #rng: Rng;
  readonly #observer: NetworkObserver;
  readonly #endpoints = new Map<MemberId, Endpoint>();
  readonly #links = new Map<MemberId, Map<MemberId, Link>>();

  constructor(clock: VirtualClock, rng: Rng, options: LinkOptions, observer: NetworkObserver) {
    this.#clock = clock;
    this.#rng = rng;
    this.options = options;
    this.#observer = observer;
  }

  /** The port of one life of a member. `enter` and `alive` are that life's. */
  peers(life: Pick<Endpoint, "enter"> & { readonly alive: () => boolean }): Peers {
    let endpoint: Endpoint | undefined;
    let members = new Set<MemberId>();
    const self = (): MemberId => endpoint!.identity.memberId;
    return {
      start: (identity, handler) => {
        endpoint = {
          identity,
          handler,
          enter: life.enter,
          fresh: true,
          get alive() {
            return life.alive();
          },
        };
        this.#endpoints.set(identity.memberId, endpoint);
      },
      setMembers: (addresses: readonly PeerAddress[]) => {
        members = new Set(addresses.map(({ id }) => id));
      },
      send: (messages) => {
        if (endpoint === undefined || !endpoint.alive) return false;
        for (const message of messages) {
          this.#observer.leaves(message);
          if (members.has(message.to)) this.#send(message);
        }
        return messages.every(({ to }) => members.has(to));
      },
      fetchPiece: (from, name, offset, bytesMax) => this.#fetch(endpoint!, from, name, offset, bytesMax),
      activeSinceMs: (id) => {
        const link = this.#link(id, self());
        return this.#clock.monotonicMs() - link.arrivedAtMs > activeGapMs ? undefined : link.activeSinceMs;
      },
      close: () => {
        if (endpoint !== undefined && this.#endpoints.get(self()) === endpoint)
          this.#endpoints.delete(self());
        return Promise.resolve();
      },
    };
  }

  /** The endpoint of a life that ended takes nothing any more. */
  drop(id: MemberId): void {
    this.#endpoints.delete(id);
  }

  cut(from: MemberId, to: MemberId, isCut = true): void {
    this.#link(from, to).cut = isCut;
  }

  isCut(from: MemberId, to: MemberId): boolean {
    return this.#link(from, to).cut;
  }

  /** Holds everything that is sent from now on until the given time. */
  clog(from: MemberId, to: MemberId, untilMs: number): void {
    this.#link(from, to).clogUntilMs = untilMs;
  }

  /** Every link works again. */
  heal(): void {
    for (const row of this.#links.values()) {
      for (const link of row.values()) {
        link.cut = false;
        link.clogUntilMs = 0;
      }
    }
  }

  #link(from: MemberId, to: MemberId): Link {
    let row = this.#links.get(from);
    if (row === undefined) this.#links.set(from, (row = new Map()));
    let link = row.get(to);
    if (link === undefined) {
      link = {
        cut: false,
        clogUntilMs: 0,
        lastArrivalMs: 0,
        underWay: 0,
        activeSinceMs: 0,
        arrivedAtMs: Number.NEGATIVE_INFINITY,
      };
      row.set(to, link);
    }
    return link;
  }

  #delayMs(): number {
    const { delayMinMs, delayMeanMs } = this.options;
    if (delayMeanMs === 0) return delayMinMs;
    return delayMinMs - Math.log(1 - this.#rng.below(1_000_000) / 1_000_000) * delayMeanMs;
  }

  #chance(permille: number): boolean {
    return permille > 0 && this.#rng.below(1_000) < permille;
  }

  #send(message: PeerMessage): void {
    const { lossPermille, repeatPermille, capacity } = this.options;
    const link = this.#link(message.from, message.to);
    this.counts.sent++;
    if (link.cut || link.underWay >= capacity || this.#chance(lossPermille)) {
      this.counts.lost++;
      return;
    }
    this.#schedule(link, message);
    if (this.#chance(repeatPermille)) {
      this.counts.repeated++;
      this.#schedule(link, message);
    }
  }

  #schedule(link: Link, message: PeerMessage): void {
    const nowMs = this.#clock.monotonicMs();
    let atMs = Math.max(nowMs + this.#delayMs(), link.clogUntilMs);
    if (!this.#chance(this.options.overtakePermille)) {
      atMs = Math.max(atMs, link.lastArrivalMs);
      link.lastArrivalMs = atMs;
    }
    link.underWay++;
    this.#clock.after(atMs - nowMs, () => {
      link.underWay--;
      const endpoint = this.#endpoints.get(message.to);
      // A cut takes what is under way as well.
      if (endpoint === undefined || !endpoint.alive || link.cut) {
        this.counts.lost++;
        return;
      }
      endpoint.enter(() => this.#deliver(link, endpoint, message));
    });
  }

  #deliver(link: Link, endpoint: Endpoint, message: PeerMessage): void {
    if (endpoint.handler.isRemoved(message.from)) return this.#turnAway(endpoint, message.from);
    const sender = this.#endpoints.get(message.from);
    // No member of the simulation ever loses what it has synced, so nobody may ever be told so.
    if (sender?.fresh === true) sender.fresh = sender.identity.isFresh?.() === true;
    if (sender?.fresh === true && endpoint.handler.hasLived?.(message.from) === true) {
      return sender.enter(() => sender.handler.lostData?.(endpoint.identity.memberId));
    }
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - link.arrivedAtMs > activeGapMs) link.activeSinceMs = nowMs;
    link.arrivedAtMs = nowMs;
    this.#observer.arrives(message);
    endpoint.handler.receive(message);
    this.#observer.arrived(message);
  }

  /** As the handshake does it: who was removed is told so. */
  #turnAway(by: Endpoint, removed: MemberId): void {
    const told = this.#endpoints.get(removed);
    if (told === undefined || this.#link(by.identity.memberId, removed).cut) return;
    this.#clock.after(this.#delayMs(), () => told.enter(() => told.handler.removed(by.identity.memberId)));
  }

  #fetch(to: Endpoint, from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const self = to.identity.memberId;
    const back = (settle: () => void): void =>
      void this.#clock.after(this.#delayMs(), () => {
        if (to.alive) to.enter(settle);
      });
    this.#clock.after(fetchTimeoutMs, () => {
      if (to.alive) to.enter(() => reject(new Error(`nothing came from ${from} in time`)));
    });
    this.#clock.after(this.#delayMs(), () => {
      const server = this.#endpoints.get(from);
      const lost = this.#chance(this.options.lossPermille);
      if (server === undefined || !server.alive || lost || this.#link(self, from).cut) return;
      server.enter(() => {
        this.counts.pieces++;
        server.handler.readPiece(self, name, offset, Math.min(bytesMax, this.options.pieceBytes)).then(
          (piece) => {
            if (!this.#link(from, self).cut) back(() => resolve(piece.slice()));
          },
          (error: unknown) => back(() => reject(error)),
        );
      });
    });
    return promise;
  }
}
