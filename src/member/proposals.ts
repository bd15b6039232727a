/**
 * Who waits for which log entry: from the caller, through the queue, to the log (as leader) or to the leader (as one
 * that follows), until the entry is applied here.
 *
 * Whoever is told something is told the truth: a result when it was applied, a definite refusal when it certainly
 * never will be, and an indefinite one when nobody here can know.
 */
import type { Raft } from "../consensus/raft";
import { refuse, type RefusalName, refusals, StoreError } from "../errors";
import { type LogIndex, type MemberId, noMember, type Term } from "../ids";
import { appendBytesMax, forwardedBatchesMax, forwardedBytesMax, uncommittedBytesMax } from "../limits";
import type { Command, RequestId } from "../proto/gen/keelson/command_pb";
import type { ApplyResult } from "../state/results";
import { encodeCommand } from "./command-codec";

/** A proposal on its way, with the times at which it passed the stations (monotonic milliseconds). */
export interface Proposal {
  /** What apply is given without decoding; undefined for a change of membership. */
  readonly command: Command | undefined;
  readonly submittedAtMs: number;
  /** The term in which it was handed in; it can only be committed in that one. */
  term: Term;
  resolve(result: ApplyResult): void;
  reject(error: Error): void;
}

/** One that may have to be handed in again. */
interface Queued extends Proposal {
  readonly command: Command;
  readonly payload: Uint8Array;
  /** Means something only where this member itself leads this term; undefined: whoever leads, and whenever. */
  readonly onlyInTerm: Term | undefined;
  /** The message with which it went to the leader. */
  batch: Batch | undefined;
}

/** Proposals that went to a leader together. */
interface Batch {
  readonly number: number;
  readonly leader: MemberId;
  readonly proposals: readonly Queued[];
  /** Those that are neither applied nor given up. */
  left: number;
}

/**
 * How a batch of encoded commands reaches the leader of a term: once, and perhaps never. False: it certainly never
 * will, because it did not leave.
 */
export type SendBatch = (
  leader: MemberId,
  term: Term,
  batch: number,
  payloads: readonly Uint8Array[],
) => boolean;

export type TimeoutReason = "timeout" | "timeoutDueToLeaderFail" | "timeoutDueToConnectionLost";

/** Collects what callers want to change, hands it in as one batch a turn, and finds the caller again. */
export class Proposals {
  readonly #requestBytesMax: number;
  /** Encoded but not yet handed in; the two arrays run in parallel. */
  #queued: Queued[] = [];
  #payloads: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Something in the queue may be bound to a term. */
  #anyBound = false;
  /** In the own log, by index. */
  readonly #appended = new Map<LogIndex, Proposal>();
  /** On their way to a leader or in its log, by sequence number of the request id. */
  readonly #forwarded = new Map<bigint, Queued>();
  readonly #batches = new Map<number, Batch>();
  /** Payloads of what is on its way to a leader. */
  #forwardedBytes = 0;
  #lastBatch = 0;
  /** The term of the last applied entry. */
  #appliedTerm: Term = 0;
  failed = 0;

  constructor(requestBytesMax: number) {
    this.#requestBytesMax = requestBytesMax;
  }

  /** Proposals that were accepted and are neither applied nor refused. */
  get pending(): number {
    return this.#queued.length + this.#appended.size + this.#forwarded.size;
  }

  /**
   * Resolves with the outcome of apply; throws `requestTooLarge`, or `requestTooManyRequests` when the queue is full,
   * before anything happened. With `onlyInTerm` it is handed in where this member leads that term and nowhere else;
   * otherwise rejects with `leaderChanged`.
   */
  submit(command: Command, nowMs: number, onlyInTerm?: Term): Promise<ApplyResult> {
    const payload = encodeCommand(command);
    if (payload.length > this.#requestBytesMax) throw refuse("requestTooLarge");
    if (this.#queuedBytes > uncommittedBytesMax) throw refuse("requestTooManyRequests");
    this.#anyBound ||= onlyInTerm !== undefined;
    return new Promise((resolve, reject) => {
      this.#queued.push({
        command,
        payload,
        onlyInTerm,
        submittedAtMs: nowMs,
        term: 0,
        batch: undefined,
        resolve,
        reject,
      });
      this.#payloads.push(payload);
      this.#queuedBytes += payload.length;
    });
  }

  /** Follows a change of membership that is in the own log already. */
  follow(index: LogIndex, term: Term, nowMs: number): Promise<ApplyResult> {
    return new Promise((resolve, reject) => {
      this.#appended.set(index, { command: undefined, submittedAtMs: nowMs, term, resolve, reject });
    });
  }

  /** True when something waits that the leader may be sent now. */
  get sendable(): boolean {
    return this.#queued.length > 0 && this.#mayForward();
  }

  /**
   * Hands in what is queued: all of it here, or to the leader as much as may be on its way. Without a leader it stays
   * queued until there is one.
   */
  handIn(raft: Raft, send: SendBatch): void {
    if (this.#anyBound) this.#refuseOutsideTerm(raft);
    if (this.#queued.length === 0) return;
    const outcome = raft.propose(this.#payloads);
    if (outcome.ok) {
      let index = outcome.firstIndex;
      for (const proposal of this.#queued) {
        proposal.term = outcome.term;
        this.#appended.set(index++, proposal);
      }
      this.#clearQueue();
      return;
    }
    if (outcome.reason === "not-leader" && outcome.leader !== noMember) {
      this.#forward(outcome.leader, raft.briefStatus().term, send);
    } else if (outcome.reason === "overloaded") {
      const refused = this.#queued;
      this.#clearQueue();
      this.#refuseAll(refused, "requestTooManyRequests");
    }
  }

  #refuseOutsideTerm(raft: Raft): void {
    const { role, term } = raft.briefStatus();
    const ledTerm = role === "leader" ? term : undefined;
    const isOutside = ({ onlyInTerm }: Queued) => onlyInTerm !== undefined && onlyInTerm !== ledTerm;
    const queued = this.#queued;
    this.#clearQueue();
    this.#anyBound = false;
    this.#requeue(queued.filter((proposal) => !isOutside(proposal)));
    this.#refuseAll(queued.filter(isOutside), "leaderChanged");
  }

  /** What is on its way to a leader has room in the queue of the connection, which drops what has none. */
  #mayForward(): boolean {
    return this.#forwardedBytes < forwardedBytesMax && this.#batches.size < forwardedBatchesMax;
  }

  #forward(leader: MemberId, term: Term, send: SendBatch): void {
    const queued = this.#queued;
    let start = 0;
    while (start < queued.length && this.#mayForward()) {
      let bytes = 0;
      let end = start;
      do bytes += queued[end++]!.payload.length;
      while (end < queued.length && bytes + queued[end]!.payload.length <= appendBytesMax);
      const number = this.#lastBatch + 1;
      if (!send(leader, term, number, this.#payloads.slice(start, end))) break;
      this.#lastBatch = number;
      const proposals = queued.slice(start, end);
      const batch = { number, leader, proposals, left: proposals.length };
      this.#batches.set(number, batch);
      for (const proposal of proposals) {
        proposal.term = term;
        proposal.batch = batch;
        this.#forwarded.set(sequenceOf(proposal), proposal);
      }
      this.#forwardedBytes += bytes;
      this.#queuedBytes -= bytes;
      start = end;
    }
    if (start === 0) return;
    this.#queued = queued.slice(start);
    this.#payloads = this.#payloads.slice(start);
  }

  #clearQueue(): void {
    this.#queued = [];
    this.#payloads = [];
    this.#queuedBytes = 0;
  }

  /** The leader took nothing of a batch, and never will. */
  refused(from: MemberId, batchNumber: number, reason: "not-leader" | "overloaded"): void {
    const batch = this.#batches.get(batchNumber);
    if (batch === undefined || batch.leader !== from) return;
    const dead = batch.proposals.filter((proposal) => this.#forwarded.get(sequenceOf(proposal)) === proposal);
    for (const proposal of dead) this.#forget(proposal);
    if (reason === "overloaded") this.#refuseAll(dead, "requestTooManyRequests");
    else this.#requeue(dead);
  }

  #forget(proposal: Queued): void {
    this.#forwarded.delete(sequenceOf(proposal));
    this.#forwardedBytes -= proposal.payload.length;
    const { batch } = proposal;
    proposal.batch = undefined;
    if (batch !== undefined && --batch.left === 0) this.#batches.delete(batch.number);
  }

  /** Those that certainly did not happen are handed in again, while their time lasts. */
  #requeue(dead: Queued[]): void {
    if (dead.length === 0) return;
    this.#queued = [...dead, ...this.#queued];
    this.#queued.sort((a, b) => a.submittedAtMs - b.submittedAtMs);
    this.#payloads = this.#queued.map(({ payload }) => payload);
    for (const { payload, onlyInTerm } of dead) {
      this.#queuedBytes += payload.length;
      this.#anyBound ||= onlyInTerm !== undefined;
    }
  }

  #refuseAll(proposals: readonly Proposal[], name: RefusalName): void {
    this.failed += proposals.length;
    for (const proposal of proposals) proposal.reject(refuse(name));
  }

  /**
   * An entry of this term is applied next. Terms never fall along the log, so whatever was handed in under an earlier
   * one and is not applied by now never will be.
   */
  termApplied(term: Term): void {
    if (term === this.#appliedTerm) return;
    this.#appliedTerm = term;
    const dead: Queued[] = [];
    for (const [index, proposal] of this.#appended) {
      if (proposal.term >= term) continue;
      this.#appended.delete(index);
      if (isQueued(proposal)) dead.push(proposal);
      else this.#refuseAll([proposal], "leaderChanged");
    }
    for (const proposal of this.#forwarded.values()) {
      if (proposal.term >= term) continue;
      this.#forget(proposal);
      dead.push(proposal);
    }
    this.#requeue(dead);
  }

  /** The proposal that became the entry at this position of the own log. Call {@link termApplied} before. */
  take(index: LogIndex, term: Term): Proposal | undefined {
    const proposal = this.#appended.get(index);
    if (proposal === undefined || proposal.term !== term) return undefined;
    this.#appended.delete(index);
    return proposal;
  }

  /** True while proposals are looked for among the entries that a leader appended. */
  get anyForwarded(): boolean {
    return this.#forwarded.size > 0;
  }

  /** The proposal of this request id, which must be one of this member's life, if it was forwarded. */
  takeForwarded({ sequence }: RequestId): Proposal | undefined {
    const proposal = this.#forwarded.get(sequence);
    if (proposal !== undefined) this.#forget(proposal);
    return proposal;
  }

  /**
   * A snapshot replaced the state, so entries up to one of `term` were skipped: what was handed in until then may be
   * among them, and nobody can tell any more.
   */
  skipped(term: Term): void {
    const unknown: Proposal[] = [];
    for (const [index, proposal] of this.#appended) {
      if (proposal.term > term) continue;
      this.#appended.delete(index);
      unknown.push(proposal);
    }
    for (const proposal of this.#forwarded.values()) {
      if (proposal.term > term) continue;
      this.#forget(proposal);
      unknown.push(proposal);
    }
    this.#appliedTerm = Math.max(this.#appliedTerm, term);
    this.#refuseAll(unknown, "timeoutDueToConnectionLost");
  }

  /**
   * Gives up on proposals older than the timeout. Whether they happen is then unknown, except for those that wait to
   * be handed in: they never will.
   */
  sweep(nowMs: number, timeoutMs: number, reasonOf: (submittedAtMs: number) => TimeoutReason): void {
    const late = ({ submittedAtMs }: Proposal): boolean => nowMs - submittedAtMs >= timeoutMs;
    for (const [index, proposal] of this.#appended) {
      if (!late(proposal)) continue;
      this.#appended.delete(index);
      this.#refuseAll([proposal], reasonOf(proposal.submittedAtMs));
    }
    for (const proposal of this.#forwarded.values()) {
      if (!late(proposal)) continue;
      this.#forget(proposal);
      this.#refuseAll([proposal], reasonOf(proposal.submittedAtMs));
    }
    if (this.#queued[0] === undefined || !late(this.#queued[0])) return;
    const queued = this.#queued;
    this.#clearQueue();
    this.#requeue(queued.filter((proposal) => !late(proposal)));
    for (const proposal of queued.filter(late)) {
      this.failed++;
      proposal.reject(definitely(reasonOf(proposal.submittedAtMs)));
    }
  }

  /** The member stops: what was handed in may still happen, what was not never will. */
  stop(): void {
    for (const proposal of [...this.#appended.values(), ...this.#forwarded.values()]) {
      proposal.reject(refuse("stopped"));
    }
    for (const proposal of this.#queued) proposal.reject(definitely("stopped"));
    this.#appended.clear();
    this.#forwarded.clear();
    this.#forwardedBytes = 0;
    this.#batches.clear();
    this.#clearQueue();
  }
}

function sequenceOf({ command }: Queued): bigint {
  return command.requestId?.sequence ?? 0n;
}

function isQueued(proposal: Proposal): proposal is Queued {
  return proposal.command !== undefined;
}

/** The refusal in its words, for something that certainly has no effect. */
function definitely(name: RefusalName): StoreError {
  const { code, text } = refusals[name];
  return new StoreError(code, text, true);
}
