/** Questions to other members, whose failures a client is told of. */
import { GrpcCode, StoreError } from "../errors";
import { PeerCallError } from "../member/peer-calls";

/** Waits for another member's answer; a member that does not answer is a refusal like any other. */
export async function answerOf<Answer>(call: Promise<Answer>): Promise<Answer> {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof PeerCallError)) throw error;
    throw new StoreError(GrpcCode.unavailable, error.message, !error.sent);
  }
}
