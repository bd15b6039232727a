/** Who the other members are, and where: what the transport is told. */
import { type MemberId, noMember } from "../ids";
import type { StateMachine } from "../state/state-machine";
import type { JoinPlan } from "./join-plan";
import type { PeerMessage } from "./peer-message";
import type { PeerAddress } from "./ports";

/** Strangers that are remembered; a further one has to wait until the log names it. */
const strangersMax = 32;

/** What a leader or a candidate says: that is all that a stranger is needed for. */
const heardFromStrangers: ReadonlySet<PeerMessage["kind"]> = new Set([
  "pre-vote",
  "vote",
  "append",
  "heartbeat",
  "snapshot",
  "timeout-now",
  "propose-refused",
  "read-index-answer",
  "call-answer",
]);

/**
 * The members of the applied configuration, and those that a member must be able to hear before its log names them:
 * whom a joiner was told of, since the log leads it through the configurations of the past; and who introduced itself
 * while nobody led, since a member that was away may find that everybody whom it knew has been replaced. Whoever knows
 * the cluster's id can introduce itself, so that ends as soon as one of the others leads.
 */
export class Others {
  readonly #self: MemberId;
  readonly #state: StateMachine;
  readonly #joining: JoinPlan | undefined;
  readonly #strangers = new Map<MemberId, PeerAddress>();

  constructor(self: MemberId, state: StateMachine, joining: JoinPlan | undefined) {
    this.#self = self;
    this.#state = state;
    this.#joining = joining;
  }

  /**
   * Somebody of this cluster introduced itself that the applied configuration does not name; tells whether it is one
   * of the others from now on. Only who knows no leader (`noMember`) needs strangers.
   */
  met(stranger: PeerAddress, leader: MemberId): boolean {
    const { id } = stranger;
    if (leader !== noMember) return false;
    if (id === this.#self || this.#strangers.has(id) || this.#state.isRemovedMember(id)) return false;
    if (this.#strangers.size >= strangersMax || this.addresses().some((known) => known.id === id))
      return false;
    this.#strangers.set(id, stranger);
    return true;
  }

  /** Somebody leads: unless that is a stranger, none is needed any more. Tells whether there were any. */
  led(leader: MemberId): boolean {
    if (leader === noMember || this.#strangers.size === 0 || this.#strangers.has(leader)) return false;
    this.#strangers.clear();
    return true;
  }

  /** Whether a member, or a stranger, may say this here. */
  hears({ from, kind }: Pick<PeerMessage, "from" | "kind">): boolean {
    return !this.#strangers.has(from) || heardFromStrangers.has(kind);
  }

  isStranger(id: MemberId): boolean {
    return this.#strangers.has(id);
  }

  addresses(): PeerAddress[] {
    const members = this.#state.members();
    const addresses = new Map<MemberId, PeerAddress>();
    for (const { ID: id, peerURLs: peerUrls } of members) addresses.set(id, { id, peerUrls });
    for (const id of this.#strangers.keys()) {
      if (addresses.has(id) || this.#state.isRemovedMember(id)) this.#strangers.delete(id);
    }
    const seeds = addresses.has(this.#self) ? [] : (this.#joining?.members ?? []);
    for (const address of [...seeds, ...this.#strangers.values()]) {
      const { id } = address;
      if (!addresses.has(id) && !this.#state.isRemovedMember(id)) addresses.set(id, address);
    }
    addresses.delete(this.#self);
    return [...addresses.values()];
  }
}
