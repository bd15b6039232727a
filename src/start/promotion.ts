/** A member that joined by itself asks to become a voter until it is one. */
import { refusals, StoreError } from "../errors";
import { hexId } from "../ids";
import type { Member } from "../member/member";

export interface PromotionDoors {
  /** Called once when the member has become a voter. */
  promoted(): Promise<void>;
  report(level: "info" | "warn", message: string, fields: Readonly<Record<string, unknown>>): void;
}

const askEveryMs = 500;
const reportEveryMs = 60_000;

/** What a promotion meets while a learner catches up or the cluster is busy. */
const expected: ReadonlySet<string> = new Set<string>([
  refusals.learnerNotReady.text,
  refusals.noLeader.text,
  refusals.memberNotFound.text,
  // Its own state learns of the promotion a moment later than the leader.
  refusals.memberNotLearner.text,
]);

/** Resolves when this member is a voter, or stops. */
export async function becomeVoter(
  member: Pick<Member, "id" | "state" | "stopping" | "isRemoved" | "promoteMember" | "pause" | "monotonicMs">,
  doors: PromotionDoors,
): Promise<void> {
  let reportedAtMs = member.monotonicMs();
  for (;;) {
    if (member.stopping || member.isRemoved) return;
    const own = member.state.members().find(({ ID }) => ID === member.id);
    if (own !== undefined && !own.isLearner) {
      await doors.promoted();
      doors.report("info", "is a voter of the cluster", { memberId: hexId(member.id) });
      return;
    }
    // Before the own row is there, the leader would only answer that this learner is far behind.
    if (own !== undefined) {
      try {
        await member.promoteMember(member.id);
        continue;
      } catch (error) {
        const text = error instanceof StoreError ? error.message : String(error);
        const due = member.monotonicMs() - reportedAtMs >= reportEveryMs;
        if (due || !expected.has(text)) {
          reportedAtMs = member.monotonicMs();
          doors.report(expected.has(text) ? "info" : "warn", `waits to become a voter: ${text}`, {});
        }
      }
    }
    await member.pause(askEveryMs);
  }
}
