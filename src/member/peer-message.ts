/**
 * What members say to each other. Consensus has its own vocabulary (`consensus/types.ts`); the kinds here are how a
 * member that does not lead reaches the one that does. All are one-way: any may be lost, repeated, late or out of order.
 */
import type { Message } from "../consensus/types";
import type { LogIndex, MemberId, Term } from "../ids";

interface Envelope {
  readonly from: MemberId;
  readonly to: MemberId;
}

/** Between the members themselves, beside consensus. */
export type MemberMessage = Envelope &
  (
    | {
        /**
         * Encoded commands for the leader of `term`. It takes them only while it leads in that very term, and each
         * batch of a sender's life once; so they are dead for certain when an entry of a later term is applied first.
         */
        readonly kind: "propose";
        readonly term: Term;
        readonly incarnation: bigint;
        /** Counts the batches of one life of the sender, from 1. */
        readonly batch: number;
        readonly payloads: readonly Uint8Array[];
      }
    | {
        /** Nothing of that batch was or will be appended. */
        readonly kind: "propose-refused";
        readonly term: Term;
        readonly incarnation: bigint;
        readonly batch: number;
        readonly reason: "not-leader" | "overloaded";
      }
    | {
        /** Asks for a read index; `context` is never used twice in a life of the sender. */
        readonly kind: "read-index";
        readonly incarnation: bigint;
        readonly context: number;
      }
    | {
        /** The read may be served once `index` is applied; no index: ask again, at the leader of then. */
        readonly kind: "read-index-answer";
        readonly incarnation: bigint;
        readonly context: number;
        readonly index: LogIndex | undefined;
      }
    | {
        /** A question that has an answer; `method` and the JSON or binary form of `body` are the callers' business. */
        readonly kind: "call";
        readonly incarnation: bigint;
        readonly id: number;
        readonly method: string;
        readonly body: Uint8Array;
      }
    | {
        readonly kind: "call-answer";
        /** Of the member that asked. */
        readonly incarnation: bigint;
        readonly id: number;
        /** "refused": the body is the name of a refusal (`errors.ts`); "failed": a text for the log. */
        readonly outcome: "ok" | "refused" | "failed";
        readonly body: Uint8Array;
      }
  );

/** Everything that travels on the message streams between two members. */
export type PeerMessage = Message | MemberMessage;
