/**
 * Renewals of leases on any member, answered by the leader (lease-rules.md L13–L15). A leader of several may have been
 * deposed without knowing it, so it proves its leadership after renewing and before answering: a later leader gives
 * every lease its whole time again, but one that took over before does not know of the renewal.
 */
import { refusals, refuse, StoreError } from "../errors";
import { type LeaseId, type MemberId, noMember, type Term } from "../ids";
import type { StateMachine } from "../state/state-machine";
import type { LeaseKeeper, Renewal } from "./lease-keeper";
import { PeerCallError, type PeerCalls } from "./peer-calls";
import type { Clock } from "./ports";

/** What the leader knows of a lease's time. */
export interface LeaseTimeToLive {
  readonly grantedTtlSeconds: number;
  /** Whole seconds left, rounded down. */
  readonly remainingSeconds: number;
}

export interface LeaseRenewalsParts {
  readonly keeper: LeaseKeeper;
  readonly state: StateMachine;
  readonly calls: PeerCalls;
  readonly clock: Clock;
  /** The leader as far as known; `noMember`: none. */
  readonly leader: () => MemberId;
  /** There is no other member: nobody else can lead, or have applied what is not applied here yet. */
  readonly alone: () => boolean;
  readonly linearizable: () => Promise<void>;
  /** Proposes, in this term only, that the recorded rest of a lease be cleared; resolves when that is applied. */
  readonly clearRest: (id: LeaseId, term: Term) => Promise<unknown>;
  readonly requestTimeoutMs: number;
  readonly electionTimeoutMs: number;
}

/** The calls to the leader: many plain renewals, or one that may have to wait; and what is left of a lease. */
const renewMany = "renew-leases";
const renewOne = "renew-lease";
const timeToLive = "lease-time-to-live";
/** In the answer to `renewMany`: ask for this one alone. */
const askAlone = -1n;

const batchMax = 8_192;
const batchesInFlightMax = 4;
/** Between two attempts while nobody leads. */
const retryMs = 50;

interface Waiting {
  readonly id: LeaseId;
  readonly endMs: number;
  readonly resolve: (ttlSeconds: number) => void;
  readonly reject: (error: Error) => void;
}

export class LeaseRenewals {
  readonly #parts: LeaseRenewalsParts;
  /** Renewals that the leader was not yet asked for. */
  #waiting: Waiting[] = [];
  #inFlight = 0;
  #flushPlanned = false;
  #stopped = false;

  constructor(parts: LeaseRenewalsParts) {
    this.#parts = parts;
    const { calls } = parts;
    calls.answer(renewMany, (_from, body) => this.#answerMany(body));
    calls.answer(renewOne, async (_from, body) =>
      encodeIds([BigInt(await this.#renewHere(decodeIds(body)[0]!))]),
    );
    calls.answer(timeToLive, (_from, body) => this.#answerTimeToLive(decodeIds(body)[0]!));
  }

  /** Seconds, 0 for a lease that is unknown or over; at once where nobody has to be asked. */
  renew(id: LeaseId): number | Promise<number> {
    const { keeper, clock, alone, requestTimeoutMs } = this.#parts;
    if (keeper.leading && alone()) {
      const renewed = keeper.renew(id);
      if (typeof renewed === "number") return renewed;
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ id, endMs: clock.monotonicMs() + requestTimeoutMs, resolve, reject });
      this.#planFlush(0);
    });
  }

  #planFlush(delayMs: number): void {
    if (this.#flushPlanned || this.#stopped) return;
    this.#flushPlanned = true;
    const flush = () => {
      this.#flushPlanned = false;
      if (!this.#stopped) this.#flush();
    };
    if (delayMs > 0) this.#parts.clock.after(delayMs, flush);
    else this.#parts.clock.soon(flush);
  }

  #flush(): void {
    const { clock, leader } = this.#parts;
    const nowMs = clock.monotonicMs();
    const nobodyLeads = leader() === noMember;
    this.#waiting = this.#waiting.filter((one) => {
      if (one.endMs > nowMs) return true;
      one.reject(refuse(nobodyLeads ? "noLeader" : "timeout"));
      return false;
    });
    if (this.#waiting.length === 0) return;
    if (nobodyLeads) return this.#planFlush(retryMs);
    while (this.#waiting.length > 0 && this.#inFlight < batchesInFlightMax) {
      void this.#send(this.#waiting.splice(0, batchMax));
    }
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    const { calls, leader, electionTimeoutMs } = this.#parts;
    this.#inFlight++;
    let again = false;
    try {
      const body = encodeIds(batch.map(({ id }) => id));
      // A renewal may be repeated, so a lost question costs no more than this.
      const answer = decodeIds(await calls.call(leader(), renewMany, body, electionTimeoutMs));
      batch.forEach((one, i) => {
        const ttlSeconds = answer[i] ?? askAlone;
        if (ttlSeconds === askAlone) void this.#sendAlone(one);
        else one.resolve(Number(ttlSeconds));
      });
    } catch (error) {
      again = !this.#giveUp(batch, error);
    }
    this.#inFlight--;
    if (this.#waiting.length > 0) this.#planFlush(again ? retryMs : 0);
  }

  /** Whether this is the end for them; else they wait for another attempt. */
  #giveUp(batch: readonly Waiting[], error: unknown): boolean {
    if (this.#stopped || !mayRepeat(error)) {
      for (const { reject } of batch)
        reject(error instanceof PeerCallError ? refuse("timeout") : (error as Error));
      return true;
    }
    this.#waiting.unshift(...batch);
    return false;
  }

  async #sendAlone(one: Waiting): Promise<void> {
    const { calls, clock, leader } = this.#parts;
    try {
      if (leader() === noMember) throw refuse("notLeader");
      const leftMs = Math.max(1, one.endMs - clock.monotonicMs());
      const [ttlSeconds] = decodeIds(await calls.call(leader(), renewOne, encodeIds([one.id]), leftMs));
      one.resolve(Number(ttlSeconds));
    } catch (error) {
      if (!this.#giveUp([one], error)) this.#planFlush(retryMs);
    }
  }

  /** As leader: what needs no waiting at once, with one proof of leadership for all. */
  async #answerMany(body: Uint8Array): Promise<Uint8Array> {
    const { keeper } = this.#parts;
    const { term } = keeper;
    if (term === undefined) throw refuse("notLeader");
    const ids = decodeIds(body);
    const renewed = ids.map((id) => keeper.renew(id));
    if (renewed.some((outcome) => typeof outcome === "number")) await this.#proveLeadership(term);
    return encodeIds(
      renewed.map((outcome, i) =>
        typeof outcome === "number" ? (this.#afterProof(ids[i]!, outcome) ?? askAlone) : askAlone,
      ),
    );
  }

  /** The proof waits for entries that were committed before: a revoke among them makes the renewal void, and an id that was granted anew is renewed anew (undefined). */
  #afterProof(id: LeaseId, ttlSeconds: number): bigint | undefined {
    const now = this.#parts.keeper.ttlSeconds(id);
    if (now === undefined) return 0n;
    return now === ttlSeconds ? BigInt(ttlSeconds) : undefined;
  }

  /** A read round that begins now is answered in this term only by a member that still leads. */
  async #proveLeadership(term: number): Promise<void> {
    const { keeper, alone, linearizable } = this.#parts;
    if (!alone()) await linearizable();
    if (keeper.term !== term) throw refuse("notLeader");
  }

  /** As leader: one renewal, however long it takes. */
  async #renewHere(id: LeaseId): Promise<number> {
    const { keeper, linearizable, clearRest } = this.#parts;
    const { term } = keeper;
    if (term === undefined) throw refuse("notLeader");
    let outcome: Renewal = keeper.renew(id);
    if (outcome === "unknown") {
      // The grant may be committed and not yet applied here.
      await linearizable();
      outcome = keeper.renew(id);
    }
    // Another record may come between clearing one and renewing.
    while (outcome === "checkpointed") {
      keeper.clearing(id);
      await clearRest(id, term);
      outcome = keeper.renew(id);
    }
    if (keeper.term !== term || outcome === "notLeader") throw refuse("notLeader");
    if (outcome === "unknown") return 0;
    if (outcome === "expired") {
      // Only an applied revoke makes 0 true: a new leader would give the lease its time again.
      if ((await keeper.settled(id)) === "notLeader") throw refuse("notLeader");
      return 0;
    }
    await this.#proveLeadership(term);
    const ttlSeconds = this.#afterProof(id, outcome);
    return ttlSeconds === undefined ? this.#renewHere(id) : Number(ttlSeconds);
  }

  /**
   * What is left of a lease; undefined: there is none. The local state is then linearizable with the answer, so that
   * its keys can be read from it. Rejects with `leaderChanged`, `noLeader` or `timeout`.
   */
  async timeToLive(id: LeaseId): Promise<LeaseTimeToLive | undefined> {
    const { calls, leader, linearizable, requestTimeoutMs } = this.#parts;
    await linearizable();
    const to = leader();
    if (to === noMember) throw refuse("noLeader");
    try {
      const answer = decodeIds(await calls.call(to, timeToLive, encodeIds([id]), requestTimeoutMs));
      if (answer.length === 0) return undefined;
      return { grantedTtlSeconds: Number(answer[0]), remainingSeconds: Number(answer[1]) };
    } catch (error) {
      if (error instanceof PeerCallError) throw refuse("timeout");
      if (error instanceof StoreError && error.message === refusals.notLeader.text) {
        throw refuse("leaderChanged");
      }
      throw error;
    }
  }

  async #answerTimeToLive(id: LeaseId): Promise<Uint8Array> {
    const { keeper, state } = this.#parts;
    const { term } = keeper;
    if (term === undefined) throw refuse("notLeader");
    await this.#proveLeadership(term);
    const lease = state.lease(id);
    const remainingMs = keeper.remaining(id);
    if (lease === undefined || remainingMs === undefined) return encodeIds([]);
    return encodeIds([BigInt(lease.grantedTtlSeconds), BigInt(Math.floor(remainingMs / 1_000))]);
  }

  stop(): void {
    this.#stopped = true;
    for (const { reject } of this.#waiting) reject(refuse("stopped"));
    this.#waiting = [];
  }
}

/** Whether another attempt, perhaps at another leader, may come to something else. */
function mayRepeat(error: unknown): boolean {
  if (error instanceof PeerCallError) return true;
  if (!(error instanceof StoreError)) return false;
  const { notLeader, timeout, leaderChanged } = refusals;
  return [notLeader.text, timeout.text, leaderChanged.text].includes(error.message as typeof timeout.text);
}

function encodeIds(ids: readonly bigint[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(8 * ids.length);
  ids.forEach((id, i) => bytes.writeBigInt64LE(id, 8 * i));
  return bytes;
}

function decodeIds(body: Uint8Array): bigint[] {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return Array.from({ length: Math.floor(body.length / 8) }, (_, i) => view.getBigInt64(8 * i, true));
}
