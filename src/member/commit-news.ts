/**
 * A leader's news that entries are committed, when there is nothing else to say: held back for a moment, because the
 * next append to the same member says the same. Of one caller's puts that halves the messages between members.
 */
import type { Message } from "../consensus/types";
import type { MemberId } from "../ids";
import type { CancelTimer, Clock } from "./ports";

type Append = Extract<Message, { readonly kind: "append" }>;

/** How long news may wait: what followers show to watchers and to serializable reads is later by so much. */
const holdMs = 1;
/** A member that asked something lately waits for its entries itself, and hears at once. */
const askedForMs = 1_000;

export class CommitNews {
  readonly #clock: Clock;
  readonly #sendLater: (messages: readonly Message[]) => void;
  readonly #held = new Map<MemberId, Append>();
  readonly #askedAtMs = new Map<MemberId, number>();
  #cancel: CancelTimer | undefined;

  constructor(clock: Clock, sendLater: (messages: readonly Message[]) => void) {
    this.#clock = clock;
    this.#sendLater = sendLater;
  }

  /** The member forwarded proposals or asked for a read index. */
  asked(by: MemberId): void {
    this.#askedAtMs.set(by, this.#clock.monotonicMs());
  }

  /** What of these messages is to be sent now, in their order; news that they make needless is dropped. */
  sift(messages: readonly Message[]): readonly Message[] {
    if (this.#held.size === 0 && !messages.some(isNews)) return messages;
    const now: Message[] = [];
    for (const message of messages) {
      if (message.kind !== "append") {
        now.push(message);
        continue;
      }
      const held = this.#held.get(message.to);
      if (held !== undefined) {
        this.#held.delete(message.to);
        if (!saysAlso(message, held)) now.push(held);
      }
      if (isNews(message) && !this.#waits(message.to)) this.#held.set(message.to, message);
      else now.push(message);
    }
    if (this.#held.size > 0) this.#cancel ??= this.#clock.after(holdMs, () => this.#release());
    else this.#forgetTimer();
    return now;
  }

  stop(): void {
    this.#forgetTimer();
    this.#held.clear();
  }

  /** One that is left would cut the next news' wait short. */
  #forgetTimer(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #waits(member: MemberId): boolean {
    const askedAtMs = this.#askedAtMs.get(member);
    return askedAtMs !== undefined && this.#clock.monotonicMs() - askedAtMs < askedForMs;
  }

  #release(): void {
    this.#cancel = undefined;
    const messages = [...this.#held.values()];
    this.#held.clear();
    if (messages.length > 0) this.#sendLater(messages);
  }
}

function isNews(message: Message): boolean {
  return message.kind === "append" && message.entries.length === 0;
}

/** Whether who gets `message` learns all that `held` says: its place in the log, and how far that is committed. */
function saysAlso(message: Append, held: Append): boolean {
  return (
    message.term === held.term && message.previousIndex >= held.previousIndex && message.commit >= held.commit
  );
}
