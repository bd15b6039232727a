/** Puts operations into the envelope of a log entry: who asks, and when. */
import { emptyBytes } from "../bytes";
import type { Idempotency } from "../idempotency";
import type { MemberId } from "../ids";
import type { Command } from "../proto/gen/keelson/command_pb";
import { commandVersion } from "./applier";

/** Makes the commands of one life of a member; each has a request id that nothing else ever has. */
export class Envelopes {
  readonly #memberId: MemberId;
  readonly #incarnation: bigint;
  #sequence = 0n;

  constructor(memberId: MemberId, incarnation: bigint) {
    this.#memberId = memberId;
    this.#incarnation = incarnation;
  }

  /** `wallMs` is the only time that apply ever sees. There is no user until users exist. */
  around(operation: Command["operation"], wallMs: number, idempotency?: Idempotency): Command {
    return {
      $typeName: "keelson.Command",
      version: commandVersion,
      requestId: {
        $typeName: "keelson.RequestId",
        memberId: this.#memberId,
        incarnation: this.#incarnation,
        sequence: ++this.#sequence,
      },
      user: "",
      authRevision: 0n,
      idempotencyKey: idempotency?.key ?? emptyBytes,
      requestHash: idempotency?.requestHash ?? emptyBytes,
      proposedAtMs: BigInt(Math.round(wallMs)),
      operation,
    };
  }
}
