/**
 * Questions between members that have an answer: who may promote a learner, how long a lease has left, what a
 * member's hash is. A lost question or answer shows as a timeout, after which its effect is unknown.
 */
import { GrpcCode, refuse, type RefusalName, refusals, StoreError } from "../errors";
import { hexId, type MemberId } from "../ids";
import type { MemberMessage } from "./peer-message";
import type { CancelTimer, Clock } from "./ports";
import { TakenOnce } from "./taken-once";

/** Questions that wait for their answer; one more is refused. */
const askedMax = 4_096;
/** Questions of others that are being answered; one more fails at once. */
const answeringMax = 4_096;

type Question = Extract<MemberMessage, { kind: "call" }>;
type Answer = Extract<MemberMessage, { kind: "call-answer" }>;

/**
 * Answers one method. A `StoreError` of {@link refuse} reaches the asker as the same refusal, any other rejection as a
 * {@link PeerCallError}.
 */
export type AnswerMethod = (from: MemberId, body: Uint8Array) => Promise<Uint8Array>;

/**
 * The other member could not answer; what it says is for the log. `sent` is false when the question certainly had no
 * effect, because it never left.
 */
export class PeerCallError extends Error {
  override readonly name = "PeerCallError";

  constructor(
    message: string,
    readonly sent: boolean,
  ) {
    super(message);
  }
}

export interface PeerCallsParts {
  readonly self: MemberId;
  readonly incarnation: bigint;
  readonly clock: Clock;
  readonly send: (message: MemberMessage) => void;
}

interface Asked {
  readonly to: MemberId;
  readonly resolve: (body: Uint8Array) => void;
  readonly reject: (error: Error) => void;
  readonly cancelTimer: CancelTimer;
}

export class PeerCalls {
  readonly #parts: PeerCallsParts;
  readonly #methods = new Map<string, AnswerMethod>();
  readonly #asked = new Map<number, Asked>();
  readonly #taken = new TakenOnce();
  #lastId = 0;
  #answering = 0;
  #stopped = false;

  constructor(parts: PeerCallsParts) {
    this.#parts = parts;
  }

  /** From now on this member answers `method`; each question is handled at most once. */
  answer(method: string, handler: AnswerMethod): void {
    this.#methods.set(method, handler);
  }

  /**
   * Asks another member. Resolves with the body of its answer; rejects with the refusal (`StoreError`) that it
   * answered, with `timeout` when no answer came in time, with `stopped` when this member stops, or with a
   * {@link PeerCallError}. A member asks itself too, without a message.
   */
  call(to: MemberId, method: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const { self, incarnation, clock, send } = this.#parts;
    if (this.#stopped) return Promise.reject(refuse("stopped"));
    if (to === self) return this.#handle(self, method, body);
    if (this.#asked.size >= askedMax) return Promise.reject(refuse("requestTooManyRequests"));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const cancelTimer = clock.after(timeoutMs, () => {
        this.#asked.delete(id);
        reject(refuse("timeout"));
      });
      this.#asked.set(id, { to, resolve, reject, cancelTimer });
      send({ kind: "call", from: self, to, incarnation, id, method, body });
    });
  }

  /** A message of these kinds for this member. */
  receive(message: Question | Answer): void {
    if (message.kind === "call") this.#answer(message);
    else this.#answered(message);
  }

  #answer(question: Question): void {
    const { from, incarnation, id, method, body } = question;
    if (this.#stopped || !this.#taken.take(from, incarnation, id)) return;
    if (this.#answering >= answeringMax) {
      this.#reply(question, "refused", Buffer.from("requestTooManyRequests"));
      return;
    }
    this.#answering++;
    this.#handle(from, method, body).then(
      (answer) => {
        this.#answering--;
        this.#reply(question, "ok", answer);
      },
      (error: unknown) => {
        this.#answering--;
        const name = refusalName(error);
        if (name === undefined) this.#reply(question, "failed", Buffer.from(String(error)));
        else this.#reply(question, "refused", Buffer.from(name));
      },
    );
  }

  async #handle(from: MemberId, method: string, body: Uint8Array): Promise<Uint8Array> {
    const handler = this.#methods.get(method);
    if (handler === undefined) throw new PeerCallError(`there is no method ${JSON.stringify(method)}`, true);
    return handler(from, body);
  }

  #reply({ from, incarnation, id }: Question, outcome: Answer["outcome"], body: Uint8Array): void {
    if (this.#stopped) return;
    const { self, send } = this.#parts;
    send({ kind: "call-answer", from: self, to: from, incarnation, id, outcome, body });
  }

  #answered({ from, incarnation, id, outcome, body }: Answer): void {
    if (incarnation !== this.#parts.incarnation) return;
    const asked = this.#asked.get(id);
    if (asked === undefined || asked.to !== from) return;
    this.#asked.delete(id);
    asked.cancelTimer();
    if (outcome === "ok") return asked.resolve(body);
    const text = Buffer.from(body).toString();
    if (outcome === "refused" && Object.hasOwn(refusals, text)) {
      return asked.reject(refuse(text as RefusalName));
    }
    asked.reject(new PeerCallError(`member ${hexId(from)}: ${text}`, true));
  }

  stop(): void {
    this.#stopped = true;
    for (const { reject, cancelTimer } of this.#asked.values()) {
      cancelTimer();
      reject(refuse("stopped"));
    }
    this.#asked.clear();
  }
}

/** The name under which an error travels; undefined for one that is not a refusal by name. */
function refusalName(error: unknown): RefusalName | undefined {
  if (!(error instanceof StoreError)) return undefined;
  const entries = Object.entries(refusals) as [RefusalName, { code: GrpcCode; text: string }][];
  return entries.find(([, { code, text }]) => code === error.code && text === error.message)?.[0];
}
