/**
 * The leader's timing of leases (lease-rules.md). Lives only in memory: the leases themselves are replicated
 * state, and a new leader starts timing afresh.
 *
 * Renewals only move a number; the heap keeps the old entry, which is a lower bound, and corrects it when it
 * comes up. So a renewal costs a map lookup, and a scan costs what is due.
 */
import type { LeaseId, Term } from "../ids";
import { DeadlineHeap } from "./deadline-heap";
import { DeadlineSpread } from "./deadline-spread";
import { LeaseShards } from "./lease-shards";
import type { CancelTimer, Clock } from "./ports";

/** Between two looks for leases whose time is over. */
const scanIntervalMs = 500;
/** Revokes begun per second ... */
const revokesPerSecondMax = 1_000;
/** ... and at once. */
const revokesBurstMax = 500;
/** Revokes asked for and not yet applied. */
const revokesInFlightMax = 16;
/** A revoke that was not applied by then is asked for again. */
const revokeRetryMs = 3_000;
/** Leases that a new leader takes up at once; about 1 ms. The rest follows in slices of as many. */
const takeUpSlice = 512;
/** Rests recorded by one command. */
const checkpointBatchMax = 1_000;
/** Between records of a lease's rest (etcd's default). */
const checkpointIntervalMsDefault = 300_000;

/** A lease as the replicated state knows it. */
export interface LeaseTiming {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
  /** Set by a checkpoint; 0 or absent: the full time. */
  readonly remainingSeconds?: number;
}

/** The leases of the replicated state, as they are at each moment. */
export interface LeaseSource {
  get(id: LeaseId): LeaseTiming | undefined;
  /** Each lease once; goes on correctly when leases are granted and revoked meanwhile. */
  all(): Iterator<LeaseTiming>;
}

/** A rest to record. */
export interface LeaseRest {
  readonly id: LeaseId;
  readonly remainingSeconds: number;
}

export interface LeaseKeeperOptions {
  readonly clock: Clock;
  /** What a new leader adds to every lease: nobody could renew while there was no leader. */
  readonly electionTimeoutMs: number;
  /**
   * Propose a revoke for each, with this term in `expired_in_term`. Asked again every 3 s until
   * {@link LeaseKeeper.revoked}.
   */
  readonly expired: (ids: readonly LeaseId[], term: Term) => void;
  /** Propose a LeaseCheckpoint, in this term only; absent: no rests are recorded. */
  readonly checkpoint?: (rests: readonly LeaseRest[], term: Term) => void;
  readonly checkpointIntervalMs?: number;
}

/**
 * What a renewal came to: the full time in seconds, or why not.
 * - "unknown": no such lease.
 * - "expired": its time is over and its revoke under way. Wait with {@link LeaseKeeper.settled} and answer TTL 0
 *   when it says "revoked".
 * - "checkpointed": a recorded rest must first be cleared. Tell {@link LeaseKeeper.clearing}, propose a checkpoint of
 *   0, in this term only, wait for its apply, and renew again.
 * - "notLeader": ask the leader.
 */
export type Renewal = number | "unknown" | "expired" | "checkpointed" | "notLeader";

interface Lease {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
  deadlineMs: number;
  /** The one heap entry that counts is at this time; others of this lease are outdated. */
  entryAtMs: number;
  checkpointAtMs: number;
  checkpointEntryAtMs: number;
  /** A recorded rest, or one proposed to be: a renewal must clear it first. */
  recorded: boolean;
  /** Checkpoints of 0 that were proposed and not applied: another record behind one would undo it unseen. */
  clearings: number;
  /** Its time is over and a revoke wanted. */
  due: boolean;
  gone: boolean;
  askedAtMs: number;
  /** Absent for nearly all: a million empty arrays would be felt. */
  waiting: ((outcome: "revoked" | "notLeader") => void)[] | undefined;
}

/** What a new leader found, until all of it is taken up. */
interface TakingUp {
  readonly source: LeaseSource;
  readonly rest: Iterator<LeaseTiming>;
  readonly promotedAtMs: number;
  readonly spread: DeadlineSpread;
}

/** Times leases while this member leads. Calls that tell of a lease come from its apply, in log order. */
export class LeaseKeeper {
  readonly #clock: Clock;
  readonly #electionTimeoutMs: number;
  readonly #expired: LeaseKeeperOptions["expired"];
  readonly #checkpoint: LeaseKeeperOptions["checkpoint"];
  readonly #checkpointIntervalMs: number;

  #term: Term | undefined;
  #takingUp: TakingUp | undefined;
  readonly #leases = new LeaseShards<Lease>();
  readonly #deadlines = new DeadlineHeap<Lease>();
  readonly #checkpoints = new DeadlineHeap<Lease>();
  /** Leases whose revoke was not asked for yet, oldest first. */
  #due: Lease[] = [];
  readonly #inFlight = new Set<Lease>();
  /** Leases whose end somebody waits for. */
  readonly #awaited = new Set<Lease>();
  #tokens = 0;
  #tokensAtMs = 0;
  #cancelScan: CancelTimer | undefined;
  #refillPlanned = false;

  constructor(options: LeaseKeeperOptions) {
    this.#clock = options.clock;
    this.#electionTimeoutMs = options.electionTimeoutMs;
    this.#expired = options.expired;
    this.#checkpoint = options.checkpoint;
    this.#checkpointIntervalMs = options.checkpointIntervalMs ?? checkpointIntervalMsDefault;
  }

  /** True between {@link promote} and {@link demote}. */
  get leading(): boolean {
    return this.#term !== undefined;
  }

  /** The term in which it leads; undefined: it does not. */
  get term(): Term | undefined {
    return this.#term;
  }

  /** Leases being timed, without those that a new leader has not taken up yet. */
  get size(): number {
    return this.#leases.size;
  }

  /** Heap entries, outdated ones included; for tests of the memory bound. */
  get entries(): number {
    return this.#deadlines.size + this.#checkpoints.size;
  }

  /**
   * Starts timing, once the first entry of the term is applied. Each lease gets its full time, or its recorded
   * rest, plus the election timeout, counted from now. They are taken up in slices, and whoever asks for one that is
   * not taken up yet has it taken up first.
   */
  promote(term: Term, source: LeaseSource): void {
    this.demote();
    this.#term = term;
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = revokesBurstMax;
    this.#tokensAtMs = nowMs;
    this.#takingUp = { source, rest: source.all(), promotedAtMs: nowMs, spread: new DeadlineSpread(nowMs) };
    this.#takeUpSome(this.#takingUp);
    this.#planScan();
  }

  #takeUpSome(takingUp: TakingUp): void {
    // Another term has begun, or none.
    if (this.#takingUp !== takingUp) return;
    for (let i = 0; i < takeUpSlice; i++) {
      const next = takingUp.rest.next();
      if (next.done === true) {
        this.#takingUp = undefined;
        return;
      }
      if (!this.#leases.has(next.value.id)) this.#takeUp(takingUp, next.value);
    }
    this.#clock.soon(() => this.#takeUpSome(takingUp));
  }

  #takeUp({ promotedAtMs, spread }: TakingUp, { id, ttlSeconds, remainingSeconds = 0 }: LeaseTiming): Lease {
    const seconds = remainingSeconds > 0 ? remainingSeconds : ttlSeconds;
    const deadlineMs = spread.place(promotedAtMs + seconds * 1_000 + this.#electionTimeoutMs);
    return this.#add(id, ttlSeconds, deadlineMs, remainingSeconds > 0, promotedAtMs);
  }

  #find(id: LeaseId): Lease | undefined {
    const lease = this.#leases.get(id);
    if (lease !== undefined || this.#takingUp === undefined) return lease;
    const timing = this.#takingUp.source.get(id);
    return timing === undefined ? undefined : this.#takeUp(this.#takingUp, timing);
  }

  /** Stops timing. Harmless when this member does not lead. */
  demote(): void {
    this.#cancelScan?.();
    this.#cancelScan = undefined;
    this.#term = undefined;
    this.#takingUp = undefined;
    for (const lease of this.#awaited) settle(lease, "notLeader");
    this.#awaited.clear();
    this.#leases.clear();
    this.#deadlines.clear();
    this.#checkpoints.clear();
    this.#due = [];
    this.#inFlight.clear();
  }

  /** A grant was applied. */
  granted(id: LeaseId, ttlSeconds: number): void {
    if (this.#term === undefined) return;
    this.revoked(id);
    const nowMs = this.#clock.monotonicMs();
    this.#add(id, ttlSeconds, nowMs + ttlSeconds * 1_000, false, nowMs);
  }

  /** A revoke was applied, a client's or one of ours. */
  revoked(id: LeaseId): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    lease.gone = true;
    this.#inFlight.delete(lease);
    this.#awaited.delete(lease);
    settle(lease, "revoked");
    this.#prune();
    // Not from within apply: the callback proposes.
    if (this.#due.length === 0 || this.#refillPlanned) return;
    this.#refillPlanned = true;
    this.#clock.soon(() => {
      this.#refillPlanned = false;
      this.#ask(this.#clock.monotonicMs());
    });
  }

  /** A checkpoint was applied; 0 clears it. */
  checkpointed(id: LeaseId, remainingSeconds: number): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    lease.recorded = remainingSeconds > 0;
    if (lease.recorded) return;
    lease.clearings = Math.max(0, lease.clearings - 1);
    // Cleared for a renewal, which must not find the next record on its way already.
    this.#planCheckpoint(lease, this.#clock.monotonicMs());
  }

  /**
   * A checkpoint of 0 is about to be proposed. No rest of this lease is recorded until it is applied; never, in this
   * term, if it gets lost: then a later leader gives more time, not less.
   */
  clearing(id: LeaseId): void {
    const lease = this.#leases.get(id);
    if (lease !== undefined) lease.clearings++;
  }

  /** Gives a lease its full time again, counted from now. */
  renew(id: LeaseId): Renewal {
    if (this.#term === undefined) return "notLeader";
    const lease = this.#find(id);
    if (lease === undefined) return "unknown";
    const nowMs = this.#clock.monotonicMs();
    if (lease.due || lease.deadlineMs <= nowMs) return "expired";
    if (lease.recorded) return "checkpointed";
    this.#setDeadline(lease, nowMs + lease.ttlSeconds * 1_000);
    this.#planCheckpoint(lease, nowMs);
    return lease.ttlSeconds;
  }

  /** Milliseconds left, 0 when over, or undefined when the lease is unknown or this member does not lead. */
  remaining(id: LeaseId): number | undefined {
    const lease = this.#find(id);
    return lease === undefined ? undefined : Math.max(0, lease.deadlineMs - this.#clock.monotonicMs());
  }

  /** The full time of a lease; undefined when it is unknown or this member does not lead. */
  ttlSeconds(id: LeaseId): number | undefined {
    return this.#find(id)?.ttlSeconds;
  }

  /** Resolves when the lease is revoked ("revoked", at once if it is unknown), or this member stops leading. */
  settled(id: LeaseId): Promise<"revoked" | "notLeader"> {
    if (this.#term === undefined) return Promise.resolve("notLeader");
    const lease = this.#find(id);
    if (lease === undefined) return Promise.resolve("revoked");
    this.#awaited.add(lease);
    return new Promise((resolve) => (lease.waiting ??= []).push(resolve));
  }

  #add(id: LeaseId, ttlSeconds: number, deadlineMs: number, recorded: boolean, nowMs: number): Lease {
    const lease: Lease = {
      id,
      ttlSeconds,
      deadlineMs,
      entryAtMs: Infinity,
      checkpointAtMs: Infinity,
      checkpointEntryAtMs: Infinity,
      recorded,
      clearings: 0,
      due: false,
      gone: false,
      askedAtMs: 0,
      waiting: undefined,
    };
    this.#leases.set(id, lease);
    this.#setDeadline(lease, deadlineMs);
    this.#planCheckpoint(lease, nowMs);
    return lease;
  }

  #setDeadline(lease: Lease, deadlineMs: number): void {
    lease.deadlineMs = deadlineMs;
    if (deadlineMs >= lease.entryAtMs) return;
    lease.entryAtMs = deadlineMs;
    this.#deadlines.push(deadlineMs, lease);
  }

  #planCheckpoint(lease: Lease, nowMs: number): void {
    if (this.#checkpoint === undefined) return;
    if (lease.deadlineMs - nowMs <= this.#checkpointIntervalMs) return;
    lease.checkpointAtMs = nowMs + this.#checkpointIntervalMs;
    if (lease.checkpointAtMs >= lease.checkpointEntryAtMs) return;
    lease.checkpointEntryAtMs = lease.checkpointAtMs;
    this.#checkpoints.push(lease.checkpointAtMs, lease);
  }

  #planScan(): void {
    this.#cancelScan = this.#clock.after(scanIntervalMs, () => {
      this.#planScan();
      const nowMs = this.#clock.monotonicMs();
      this.#collectDue(nowMs);
      this.#ask(nowMs);
      this.#recordRests(nowMs);
    });
  }

  #collectDue(nowMs: number): void {
    for (;;) {
      const entry = this.#deadlines.popDue(nowMs);
      if (entry === undefined) return;
      const lease = entry.value;
      if (lease.gone || entry.atMs !== lease.entryAtMs) continue;
      lease.entryAtMs = Infinity;
      if (lease.deadlineMs > nowMs) {
        this.#setDeadline(lease, lease.deadlineMs);
      } else {
        lease.due = true;
        this.#due.push(lease);
      }
    }
  }

  /** Asks for revokes within the pace: first those that got stuck, then new ones. */
  #ask(nowMs: number): void {
    const term = this.#term;
    if (term === undefined) return;
    const earned = ((nowMs - this.#tokensAtMs) * revokesPerSecondMax) / 1_000;
    this.#tokens = Math.min(revokesBurstMax, this.#tokens + earned);
    this.#tokensAtMs = nowMs;
    const ids: LeaseId[] = [];
    const ask = (lease: Lease): void => {
      this.#tokens--;
      lease.askedAtMs = nowMs;
      ids.push(lease.id);
    };
    for (const lease of this.#inFlight) {
      if (this.#tokens >= 1 && nowMs - lease.askedAtMs >= revokeRetryMs) ask(lease);
    }
    let taken = 0;
    while (taken < this.#due.length && this.#tokens >= 1 && this.#inFlight.size < revokesInFlightMax) {
      const lease = this.#due[taken++]!;
      // A client may have revoked it meanwhile.
      if (lease.gone) continue;
      this.#inFlight.add(lease);
      ask(lease);
    }
    if (taken > 0) this.#due = this.#due.slice(taken);
    if (ids.length > 0) this.#expired(ids, term);
  }

  #recordRests(nowMs: number): void {
    const term = this.#term;
    if (this.#checkpoint === undefined || term === undefined) return;
    let rests: LeaseRest[] = [];
    for (;;) {
      const entry = this.#checkpoints.popDue(nowMs);
      if (entry === undefined) break;
      const lease = entry.value;
      if (lease.gone || entry.atMs !== lease.checkpointEntryAtMs) continue;
      lease.checkpointEntryAtMs = Infinity;
      if (lease.checkpointAtMs > nowMs) {
        lease.checkpointEntryAtMs = lease.checkpointAtMs;
        this.#checkpoints.push(lease.checkpointAtMs, lease);
        continue;
      }
      const remainingSeconds = Math.ceil((lease.deadlineMs - nowMs) / 1_000);
      this.#planCheckpoint(lease, nowMs);
      if (lease.due || lease.clearings > 0) continue;
      if (remainingSeconds <= 0 || remainingSeconds >= lease.ttlSeconds) continue;
      lease.recorded = true;
      rests.push({ id: lease.id, remainingSeconds });
      if (rests.length < checkpointBatchMax) continue;
      this.#checkpoint(rests, term);
      rests = [];
    }
    if (rests.length > 0) this.#checkpoint(rests, term);
  }

  /** Drops outdated entries before they outnumber the leases. */
  #prune(): void {
    const bound = 2 * this.#leases.size + 1_000;
    if (this.#deadlines.size > bound) {
      this.#deadlines.prune(({ atMs, value }) => !value.gone && atMs === value.entryAtMs);
    }
    if (this.#checkpoints.size > bound) {
      this.#checkpoints.prune(({ atMs, value }) => !value.gone && atMs === value.checkpointEntryAtMs);
    }
  }
}

function settle(lease: Lease, outcome: "revoked" | "notLeader"): void {
  const waiting = lease.waiting ?? [];
  lease.waiting = undefined;
  for (const resolve of waiting) resolve(outcome);
}
