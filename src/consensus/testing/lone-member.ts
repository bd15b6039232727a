/** One core without a network: what it would send is collected, what its peers would say is put into its mouth. */
import type { LogIndex, MemberId, Term } from "../../ids";
import { SeededRng } from "../../rng";
import { decodeConfigurationChange } from "../configuration-change";
import { Raft, type ConsensusOptions, type InitialState } from "../raft";
import type { ConfirmedRead, Entry, HardState, Message, Ready } from "../types";

type Without<M, K extends string> = M extends unknown ? Omit<M, K> : never;
/** A message without its addressee, which is always the lone member. */
export type Said = Without<Message, "to">;

export function entry(index: LogIndex, term: Term, text = ""): Entry {
  return { index, term, kind: "command", data: new TextEncoder().encode(text) };
}

export class LoneMember {
  readonly raft: Raft;
  hardState: HardState;
  /** The log as handed out. */
  log: Entry[];
  applied: Entry[] = [];
  sent: Message[] = [];
  reads: ConfirmedRead[] = [];
  abandoned: number[] = [];
  readies: Ready[] = [];

  constructor(voters: number, initial: Partial<InitialState> = {}, options: Partial<ConsensusOptions> = {}) {
    const tail = initial.tail ?? [];
    const start = initial.start ?? { index: 0, term: 0 };
    this.hardState = initial.hardState ?? { term: tail[tail.length - 1]?.term ?? 0, vote: 0n, commit: 0 };
    this.log = [...tail];
    this.raft = new Raft(
      {
        id: 1n,
        electionTicks: 10,
        heartbeatTicks: 1,
        preVote: false,
        checkQuorum: false,
        appendBytesMax: 4096,
        inflightBytesMax: 65_536,
        inflightMessagesMax: 16,
        tailBytesMax: 1_000_000,
        uncommittedBytesMax: 1000,
        rng: new SeededRng(1),
        ...options,
      },
      {
        hardState: this.hardState,
        configuration: {
          voters: Array.from({ length: voters }, (_, i) => BigInt(i + 1)),
          learners: [],
        },
        start,
        tail,
        lastIndex: tail[tail.length - 1]?.index ?? start.index,
        applied: start.index,
        ...initial,
      },
    );
  }

  /** Takes everything there is to do and does it at once; returns what was sent meanwhile. */
  settle(): Message[] {
    const before = this.sent.length;
    while (this.raft.hasReady()) {
      const ready = this.take();
      this.sent.push(...ready.sendAfterPersist);
      if (ready.persist !== undefined) this.raft.persisted(ready.persist);
    }
    return this.sent.slice(before);
  }

  /** Takes one Ready and does all but the persist. */
  take(): Ready {
    const ready = this.raft.ready();
    this.readies.push(ready);
    if (ready.hardState !== undefined) this.hardState = ready.hardState;
    const first = ready.entries[0];
    if (first !== undefined) {
      this.log = this.log.filter((known) => known.index < first.index);
      this.log.push(...ready.entries);
    }
    this.sent.push(...ready.sendNow);
    for (const committed of ready.committed) {
      this.applied.push(committed);
      if (committed.kind === "configuration")
        this.raft.applyConfiguration(decodeConfigurationChange(committed.data));
      this.raft.appliedTo(committed.index);
    }
    this.reads.push(...ready.reads);
    this.abandoned.push(...ready.abandonedReads);
    return ready;
  }

  /** A message arrives, and its consequences follow. */
  hear(message: Said): Message[] {
    this.raft.step({ ...message, to: 1n } as Message);
    return this.settle();
  }

  /** As `hear`, for several voters that say the same. */
  hearFrom(from: readonly MemberId[], message: Without<Said, "from">): Message[] {
    return from.flatMap((id) => this.hear({ ...message, from: id } as Said));
  }

  tick(times = 1): Message[] {
    for (let i = 0; i < times; i++) this.raft.tick();
    return this.settle();
  }

  propose(...texts: string[]): Message[] {
    this.raft.propose(texts.map((text) => new TextEncoder().encode(text)));
    return this.settle();
  }

  /** Wins the election of its next term with the votes of `from`. */
  lead(...from: MemberId[]): this {
    this.raft.campaign();
    this.settle();
    const { term } = this.raft.status();
    this.hearFrom(from, { kind: "vote-answer", term, granted: true, commit: 0, commitTerm: 0 });
    return this;
  }

  acknowledge(index: LogIndex, ...from: MemberId[]): Message[] {
    const { term } = this.raft.status();
    return this.hearFrom(from, {
      kind: "append-answer",
      term,
      accepted: true,
      index,
      hintIndex: 0,
      hintTerm: 0,
    });
  }

  get status(): ReturnType<Raft["status"]> {
    return this.raft.status();
  }
}
