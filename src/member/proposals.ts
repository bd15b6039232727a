/** Who waits for which log entry. */
import type { Raft } from "../consensus/raft";
import { refuse } from "../errors";
import type { LogIndex, Term } from "../ids";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { ApplyResult } from "../state/results";
import { encodeCommand } from "./command-codec";

/** A proposal on its way, with the times at which it passed the stations (monotonic milliseconds). */
export interface Proposal {
  readonly command: Command;
  readonly submittedAtMs: number;
  term: Term;
  resolve(result: ApplyResult): void;
  reject(error: Error): void;
}

/**
 * Collects what callers want to change, hands it to consensus as one batch a turn, and finds the caller again
 * when the entry is applied.
 */
export class Proposals {
  readonly #requestBytesMax: number;
  /** Encoded but not yet handed to consensus; the two arrays run in parallel. */
  #queued: Proposal[] = [];
  #payloads: Uint8Array[] = [];
  /** Handed in, by log index: insertion order is index order. */
  readonly #waiting = new Map<LogIndex, Proposal>();
  failed = 0;

  constructor(requestBytesMax: number) {
    this.#requestBytesMax = requestBytesMax;
  }

  /** Proposals that were accepted and are neither applied nor refused. */
  get pending(): number {
    return this.#queued.length + this.#waiting.size;
  }

  /** Resolves with the outcome of apply; rejects with `requestTooLarge` before anything happened. */
  submit(command: Command, nowMs: number): Promise<ApplyResult> {
    const payload = encodeCommand(command);
    if (payload.length > this.#requestBytesMax) throw refuse("requestTooLarge");
    return new Promise((resolve, reject) => {
      this.#queued.push({ command, submittedAtMs: nowMs, term: 0, resolve, reject });
      this.#payloads.push(payload);
    });
  }

  /** Proposes everything queued. Without a leader it stays queued until it is swept or a leader is there. */
  handIn(raft: Raft): void {
    if (this.#queued.length === 0) return;
    const outcome = raft.propose(this.#payloads);
    if (!outcome.ok) {
      if (outcome.reason !== "overloaded") return;
      const refused = this.#queued;
      this.#clearQueue();
      this.failed += refused.length;
      for (const proposal of refused) proposal.reject(refuse("requestTooManyRequests"));
      return;
    }
    let index = outcome.firstIndex;
    for (const proposal of this.#queued) {
      proposal.term = outcome.term;
      this.#waiting.set(index++, proposal);
    }
    this.#clearQueue();
  }

  #clearQueue(): void {
    this.#queued = [];
    this.#payloads = [];
  }

  /**
   * The proposal that became the entry at this position, if it came from here. A proposal whose index was taken
   * by an entry of another term never happened and is told so as a lost leader.
   */
  take(index: LogIndex, term: Term): Proposal | undefined {
    const proposal = this.#waiting.get(index);
    if (proposal === undefined) return undefined;
    this.#waiting.delete(index);
    if (proposal.term === term) return proposal;
    this.failed++;
    proposal.reject(refuse("leaderChanged"));
    return undefined;
  }

  /** Gives up on proposals older than the timeout; whether they happen is then unknown. */
  sweep(nowMs: number, timeoutMs: number, reason: "timeout" | "timeoutDueToLeaderFail"): void {
    for (const [index, proposal] of this.#waiting) {
      if (nowMs - proposal.submittedAtMs < timeoutMs) break;
      this.#waiting.delete(index);
      this.failed++;
      proposal.reject(refuse(reason));
    }
    const expired = this.#queued.findIndex((proposal) => nowMs - proposal.submittedAtMs < timeoutMs);
    const count = expired === -1 ? this.#queued.length : expired;
    this.#payloads.splice(0, count);
    for (const proposal of this.#queued.splice(0, count)) {
      this.failed++;
      proposal.reject(refuse(reason));
    }
  }

  /** The member stops: what was not applied may still happen after a restart. */
  stop(): void {
    for (const proposal of [...this.#waiting.values(), ...this.#queued]) proposal.reject(refuse("stopped"));
    this.#waiting.clear();
    this.#clearQueue();
  }
}
