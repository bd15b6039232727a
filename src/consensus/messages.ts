/** What can be said about messages without knowing who receives them. */
import { noMember, type LogIndex, type Term } from "../ids";
import type { Message } from "./types";

export type MessageKind = Message["kind"];
export type MessageOf<Kind extends MessageKind> = Extract<Message, { readonly kind: Kind }>;

/** Numbers are counters, entries continue their predecessor, no entry is newer than its message. */
export function wellFormed(message: Message): boolean {
  if (!isCounter(message.term) || message.term === 0) return false;
  if (message.from === noMember || message.to === noMember) return false;
  switch (message.kind) {
    case "pre-vote":
    case "vote":
      return isCounter(message.lastIndex) && isCounter(message.lastTerm) && message.lastTerm < message.term;
    case "append":
      return isCounter(message.commit) && entriesContinue(message);
    case "append-answer":
      return isCounter(message.index) && isCounter(message.hintIndex) && isCounter(message.hintTerm);
    case "heartbeat":
      return isCounter(message.commit) && isCounter(message.readRound);
    case "heartbeat-answer":
      return isCounter(message.readRound);
    case "snapshot": {
      const { index, term, configuration } = message.position;
      return (
        isCounter(index) &&
        index > 0 &&
        isCounter(term) &&
        term <= message.term &&
        configuration.voters.length > 0
      );
    }
    case "pre-vote-answer":
    case "vote-answer":
      return isCounter(message.commit) && isCounter(message.commitTerm);
    case "snapshot-status":
    case "timeout-now":
      return true;
    default:
      // A kind that a newer version added; the types cannot know what the wire brings.
      return false;
  }
}

function entriesContinue(message: MessageOf<"append">): boolean {
  let index: LogIndex = message.previousIndex;
  let term: Term = message.previousTerm;
  if (!isCounter(index) || !isCounter(term) || term > message.term) return false;
  for (const entry of message.entries) {
    if (entry.index !== index + 1 || entry.term < term || entry.term > message.term) return false;
    index = entry.index;
    term = entry.term;
  }
  return Number.isSafeInteger(index);
}

function isCounter(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
