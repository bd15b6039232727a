/**
 * Leases against their promises (P15), with virtual time as the ruler: never revoked early, gone in the end, and no
 * client is told of a lease what is not so.
 */
import type { LeaseId, Term } from "../../src/ids";
import type { LeaseKeeper, LeaseTiming, Renewal } from "../../src/member/lease-keeper";
import type { Rng } from "../../src/rng";
import type { SimulatedHost } from "./host";
import type { Step, Truth } from "./truth";
import { claim } from "./violation";

interface Known {
  readonly ttlMs: number;
  /** When its grant was first applied anywhere. */
  readonly grantedAtMs: number;
  /** When the newest grant or renewal that was acknowledged had been sent. */
  acknowledgedAtMs: number;
}

/** What one leader counts from, on its own clock. */
interface Ruler {
  readonly host: SimulatedHost;
  readonly term: Term;
  readonly counted: Map<LeaseId, { readonly fromMs: number; readonly durationMs: number }>;
}

/** Rounding of milliseconds, and of virtual events within one. */
const slackMs = 1;

export class LeaseJudge {
  readonly counts = { granted: 0, expired: 0, revoked: 0, ignored: 0, renewed: 0, handedOver: 0 };
  readonly #truth: Truth;
  /** The fastest clock of any member, against virtual time. */
  readonly #rateMax: number;
  readonly #minimumMs: number;
  readonly #known = new Map<LeaseId, Known>();
  /** When leases ended, for those that clients still ask for. */
  readonly #ended = new Map<LeaseId, number>();
  readonly #rulers = new WeakMap<LeaseKeeper, Ruler>();
  #ids: LeaseId[] = [];
  #lastId = 0n;

  constructor(truth: Truth, rateMax: number, electionTimeoutMs: number) {
    this.#truth = truth;
    this.#rateMax = rateMax;
    this.#minimumMs = Math.ceil((3 * electionTimeoutMs) / 2 / 1_000) * 1_000;
  }

  /** The longest time that a lease of now can last without renewals. */
  get longestMs(): number {
    let longest = 0;
    for (const { ttlMs } of this.#known.values()) longest = Math.max(longest, ttlMs);
    return longest;
  }
  get living(): number {
    return this.#known.size;
  }

  newId(): LeaseId {
    return ++this.#lastId;
  }

  /** Mostly a lease that lives. */
  some(rng: Rng): LeaseId {
    if (this.#ids.length === 0 || rng.below(20) === 0) return BigInt(1 + rng.below(Number(this.#lastId) + 2));
    return this.#ids[rng.below(this.#ids.length)]!;
  }

  /** A grant or a renewal was answered with success. */
  acknowledged(id: LeaseId, sentAtMs: number): void {
    const known = this.#known.get(id);
    const endedAtMs = this.#ended.get(id);
    claim(
      known !== undefined || (endedAtMs !== undefined && endedAtMs >= sentAtMs),
      () => `P15: lease ${id} was renewed although it had ended at ${endedAtMs} ms`,
    );
    if (known !== undefined) known.acknowledgedAtMs = Math.max(known.acknowledgedAtMs, sentAtMs);
  }

  /** A renewal was answered with "there is no such lease". */
  saidGone(id: LeaseId, sentAtMs: number): void {
    const known = this.#known.get(id);
    claim(
      known === undefined || known.grantedAtMs >= sentAtMs,
      () => `P15: lease ${id} was said to be gone, but it was granted at ${known!.grantedAtMs} ms and lives`,
    );
  }

  saidRemaining(id: LeaseId, ttlSeconds: number, grantedTtlSeconds: number): void {
    const known = this.#known.get(id);
    if (known === undefined || ttlSeconds < 0) return;
    claim(
      grantedTtlSeconds * 1_000 === known.ttlMs,
      () => `P15: lease ${id}: granted TTL ${grantedTtlSeconds}`,
    );
  }

  /** An entry was applied for the first time anywhere. */
  step({ command, outcome, atMs }: Step): void {
    const operation = command?.operation;
    if (operation?.case === "leaseGrant" && outcome.kind === "other") {
      const { ID: id, TTL: ttl } = operation.value;
      this.counts.granted++;
      claim(Number(ttl) * 1_000 >= this.#minimumMs, () => `P15: lease ${id} got a TTL of ${ttl} s`);
      this.#known.set(id, { ttlMs: Number(ttl) * 1_000, grantedAtMs: atMs, acknowledgedAtMs: atMs });
      this.#ids.push(id);
    }
    if (operation?.case !== "leaseRevoke") return;
    if (outcome.kind === "ignored") this.counts.ignored++;
    if (outcome.kind !== "other") return;
    const { id, expiredInTerm } = operation.value;
    const known = this.#known.get(id)!;
    this.#known.delete(id);
    this.#ids = this.#ids.filter((one) => one !== id);
    this.#ended.set(id, atMs);
    if (expiredInTerm === 0n) {
      this.counts.revoked++;
      return;
    }
    this.counts.expired++;
    const sinceMs = atMs - known.acknowledgedAtMs;
    claim(
      sinceMs + slackMs >= known.ttlMs / this.#rateMax,
      () =>
        `P15: lease ${id} of ${known.ttlMs} ms was revoked ${sinceMs} ms after the last acknowledged renewal was sent`,
    );
  }

  /** Leadership of leases began at a host: each has its rest, or its full time, from now on. */
  promoted(host: SimulatedHost, keeper: LeaseKeeper, term: Term, leases: readonly LeaseTiming[]): void {
    const counted: Ruler["counted"] = new Map();
    const fromMs = host.monotonicMs();
    for (const { id, ttlSeconds, remainingSeconds } of leases) {
      this.counts.handedOver++;
      counted.set(id, { fromMs, durationMs: (remainingSeconds || ttlSeconds) * 1_000 });
    }
    this.#rulers.set(keeper, { host, term, counted });
  }

  renewed(keeper: LeaseKeeper, id: LeaseId, outcome: Renewal): void {
    if (typeof outcome !== "number") return;
    this.counts.renewed++;
    const ruler = this.#rulers.get(keeper);
    ruler?.counted.set(id, { fromMs: ruler.host.monotonicMs(), durationMs: outcome * 1_000 });
  }

  grantApplied(keeper: LeaseKeeper, id: LeaseId, ttlSeconds: number): void {
    const ruler = this.#rulers.get(keeper);
    ruler?.counted.set(id, { fromMs: ruler.host.monotonicMs(), durationMs: ttlSeconds * 1_000 });
  }

  /** A leader asks for the end of a lease: on its own clock, its time must be over. */
  askedToExpire(host: SimulatedHost, keeper: LeaseKeeper, id: LeaseId, term: bigint): void {
    const ruler = this.#rulers.get(keeper);
    claim(ruler !== undefined, () => `P15: ${host.name} ends leases without ever having led`);
    claim(BigInt(ruler.term) === term, () => `P15: ${host.name} ends a lease in term ${term}`);
    const counted = ruler.counted.get(id);
    if (counted === undefined) return;
    const passedMs = host.monotonicMs() - counted.fromMs;
    claim(
      passedMs + slackMs >= counted.durationMs,
      () =>
        `P15: ${host.name} ends lease ${id} after ${passedMs} of ${counted.durationMs} ms of its own clock`,
    );
  }

  /** After a time without renewals, under a leader: what is still there? */
  leftOver(): LeaseId[] {
    return [...this.#known.keys()].filter((id) => this.#truth.model.leases.has(id));
  }
}
