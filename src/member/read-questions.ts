/** Read indexes that other members ask of this one. Consensus gathers them into the rounds of its own reads. */
import type { Raft } from "../consensus/raft";
import type { LogIndex, MemberId } from "../ids";
import type { MemberMessage } from "./peer-message";

type ReadQuestion = Extract<MemberMessage, { kind: "read-index" }>;

/** Questions that are open at a time; beyond that the oldest are forgotten, and asked again. */
const openMax = 4_096;

export interface ReadQuestionsParts {
  readonly self: MemberId;
  readonly raft: Raft;
  /** Numbers that the own reads do not use either. */
  readonly nextContext: () => number;
  readonly send: (message: MemberMessage) => void;
}

export class ReadQuestions {
  readonly #parts: ReadQuestionsParts;
  readonly #open = new Map<number, ReadQuestion>();

  constructor(parts: ReadQuestionsParts) {
    this.#parts = parts;
  }

  receive(question: ReadQuestion): void {
    const { raft, nextContext } = this.#parts;
    const context = nextContext();
    if (!raft.readIndex(context).ok) return this.#answer(question, undefined);
    this.#open.set(context, question);
    if (this.#open.size <= openMax) return;
    for (const oldest of this.#open.keys()) {
      this.#open.delete(oldest);
      return;
    }
  }

  /** Whether this was the question of another member; it has its answer then. */
  confirmed(context: number, index: LogIndex): boolean {
    return this.#settle(context, index);
  }

  abandoned(context: number): boolean {
    return this.#settle(context, undefined);
  }

  #settle(context: number, index: LogIndex | undefined): boolean {
    const question = this.#open.get(context);
    if (question === undefined) return false;
    this.#open.delete(context);
    this.#answer(question, index);
    return true;
  }

  #answer({ from, incarnation, context }: ReadQuestion, index: LogIndex | undefined): void {
    const { self, send } = this.#parts;
    send({ kind: "read-index-answer", from: self, to: from, incarnation, context, index });
  }
}
